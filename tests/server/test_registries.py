"""Registries that ask for a password, and one that limits: named in the spec, set on the server, used at every pull."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from builder.polling import until
from builder.server import Remote, releases
from tests.machine import hosts, registry
from tests.machine.registry import HTTPS, OPEN, PASSWORD, USER, Registry
from tests.server.conftest import Client, client
from tests.sweeps import WHOLE, of_a_sweep, sample

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lab.network import Namespace
    from tests.machine.registry import Certificate

pytestmark = pytest.mark.machine

_NAMES = ("registry.test", "limited.test", "nowhere.test")
# Each stands out in whatever file, log or process it is found.
_SECRET, _WRITERS, _NEXT = "s3cret-of-the-reader", "w4it-of-the-writer", "n3xt-of-the-reader"


@dataclass
class World:
    """The host, the admin's client, the registry, and the one in front of it that limits."""

    web: Client
    registry: Registry
    limiter: Namespace
    certificate: Certificate
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def open(self) -> None:
        """Start both."""
        self.running += self.registry.start()
        until(self.registry.up, timeout=30, what="the registry")
        upstream = f"http://{self.registry.place.ipv4}:{OPEN}"
        self.running.append(self.limiter.start(registry.limiting(upstream, self.certificate)))

    def close(self) -> None:
        """End both."""
        while self.running:
            process = self.running.pop()
            process.kill()
            process.wait()

    def login(self, password: str, *words: str) -> subprocess.CompletedProcess[str]:
        """With the password on stdin."""
        return self.web.er("registry login", *words, stdin=f"{password}\n")

    def answers(self, name: str) -> bool:
        """Whether a visitor of this stack is answered."""
        return self.web.host.curl(f"https://{name}.example.com/").stdout.startswith("HTTP/2 200")

    def comes_up(self, name: str) -> None:
        """Soon."""
        until(lambda: self.answers(name), timeout=60, what=f"the stack {name}")

    def states(self) -> dict[tuple[str, str], str]:
        """What `registry list` says, by stack and registry."""
        return {(one["stack"], one["registry"]): one["state"] for one in self.web.json("registry list")}

    def image(self, stack: str, name: str) -> str:
        """The id of the image that a container runs."""
        argv = ["podman", "inspect", "--format", "{{.Image}}", name]
        return self.web.host.machine.run(argv, user=f"er-{stack}").stdout.strip()


def _files(made: Certificate) -> dict[str, bytes]:
    """First boot gives up early here, and Podman knows the lab's authority."""
    bind = b"[Service]\nBindReadOnlyPaths=/etc/lab-server.env:/etc/easyrunner/server.env\n"
    return {
        "/etc/systemd/system/er-first-boot.service.d/50-lab.conf": bind,
        "/etc/lab-server.env": b"NAME=login1\nREADY_TIMEOUT=40\n",
        **{f"/etc/containers/certs.d/{name}/ca.crt": made.authority.read_bytes() for name in _NAMES},
    }


@pytest.fixture(scope="module")
def world(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A first boot without any password."""
    tmp = tmp_path_factory.mktemp("registries")
    made = registry.certificate(tmp, *_NAMES)
    with hosts.booted("logins", tmp, extra_files=_files(made), start=False) as host:
        closed = Registry(host.machine.attacker(50), tmp, (OPEN, HTTPS), made)
        closed.set_passwords({USER: _SECRET, "writer": _WRITERS})
        limiter = host.machine.attacker(51)
        known = host.machine.files.path("/etc/hosts").read_text()
        lines = f"{known}\n{closed.place.ipv4} registry.test\n{limiter.ipv4} limited.test\n"
        host.machine.files.write("/etc/hosts", lines.encode())
        world = World(client(host, tmp), closed, limiter, made)
        try:
            world.open()
            closed.push(hosts.IMAGES / "app.tar", "app")
            host.machine.boot()
            host.machine.wait_console("easyrunner: not ready", timeout=120)
            host.machine.wait(host.machine.started, timeout=60, what="the end of start-up")
            yield world
        finally:
            world.close()


def test_first_boot_says_what_waits_for_whom(world: World) -> None:
    """On the console: the command for each login, and what each registry said."""
    said = world.web.host.machine.console_text()
    assert "easyrunner: shop has no login to registry.test: er server registry login HOST registry.test" in said
    assert "easyrunner: blog has no login to registry.test" in said
    assert "easyrunner: far has no login to registry.test" in said, "its mirror asks for one"
    reasons = {line.split(": ")[1]: line for line in said.splitlines() if ": initializing source " in line}
    assert "authentication required" in reasons["shop"]
    assert "unauthenticated pull rate limit" in reasons["hub"]
    assert "forged" in reasons["hub"]
    assert "easyrunner: ready" not in said, "what a registry says is not taken for the host's own word"


def test_status_says_so_too(world: World) -> None:
    """With the command to type, and how to get more from a registry that limits."""
    done = world.web.er("status")
    assert done.returncode == 1
    assert "shop has no login to registry.test as reader" in done.stderr
    assert "er server registry login HOST registry.test --stack blog" in done.stderr
    assert (
        "hub/web has no image: limited.test limits how many images an address may fetch without a login" in done.stderr
    )
    assert "write registries: {limited.test: {username: …}}" in done.stderr
    assert world.web.er("registry list").returncode == 1
    assert set(world.states().values()) == {"missing"}
    assert "logins to registries" in world.web.er("doctor").stdout


def test_two_names_are_told_apart(world: World) -> None:
    """One password is never tried under another name."""
    done = world.login(_SECRET)
    assert done.returncode == 1
    assert "shop as reader, blog as writer, far as reader" in done.stderr
    assert "--stack NAME" in done.stderr


_REFUSED = (
    (("registry.test", "--stack", "shop"), "wrong", "registry.test refuses this password of reader"),
    (("registry.test", "--stack", "blog"), _SECRET, "registry.test refuses this password of writer"),
    (("registry.test", "--stack", "shop"), "", "a password is one line, and not empty"),
    (("registry.test", "--stack", "shop"), "a\nb", "a password is one line, and not empty"),
    (("other.test",), _SECRET, "the spec names no login to other.test, but to registry.test"),
    (("limited.test", "--stack", "hub"), PASSWORD, "the spec names no login to limited.test for hub"),
    (("--stack", "none"), _SECRET, "there is no stack none"),
)


# One that the registry refuses, one that is not sent to it, one that the spec does not know.
@pytest.mark.parametrize(("words", "password", "said"), sample(_REFUSED, (_REFUSED[1], _REFUSED[3], _REFUSED[4])))
def test_what_is_refused_changes_nothing(world: World, words: tuple[str, ...], password: str, said: str) -> None:
    done = world.login(password, *words)
    assert done.returncode == 1
    assert said in done.stderr
    assert set(world.states().values()) == {"missing"}


def test_the_right_password_starts_who_waits(world: World) -> None:
    """Each stack under its own name; and the one that only its mirror serves."""
    done = world.login(_SECRET, "registry.test", "--stack", "shop")
    assert done.returncode == 0, done.stderr
    assert "shop: logged in to registry.test as reader" in done.stderr
    world.comes_up("shop")
    assert not world.answers("blog")
    file = world.web.host.key.parent / "password"
    file.write_text(f"{_WRITERS}\n")
    found = world.web.json("registry login", "--stack", "blog", "--file", file)
    assert (found["registry"], found["username"], found["stacks"]) == ("registry.test", "writer", ["blog"])
    world.comes_up("blog")
    assert world.login(_SECRET, "--stack", "far").returncode == 0
    world.comes_up("far")
    assert set(world.states().values()) == {"set"}
    assert world.web.er("registry list").returncode == 0


def test_nobody_else_reads_a_password(world: World) -> None:
    """Only root and the stack; and it is nowhere but in its file."""
    machine = world.web.host.machine
    paths = machine.run("ls -d /var/lib/easyrunner/config/*/containers/auth.json").stdout.split()
    assert len(paths) == 3
    for path in paths:
        owner, group, mode = machine.run(["stat", "-c", "%U %G %a", path]).stdout.split()
        assert (owner, mode) == ("root", "640")
        for stack in ("shop", "blog", "far", "proxy"):
            done = machine.run(["cat", path], user=f"er-{stack}", check=False)
            assert (done.returncode == 0) == (f"er-{stack}" == group), (path, stack)
        done = machine.run(["sh", "-c", f"echo x >>{path}"], user=group, check=False)
        assert done.returncode != 0
    word = "cmVhZGVyOnMzY3JldC1vZi10aGUtcmVhZGVy"  # reader:s3cret…, as the file has it
    for value in (_SECRET, _WRITERS, word):
        places = ["/etc", "/var/lib/cloud", "/var/log", "/run", "/tmp"]
        assert machine.run(["grep", "-rlF", "-s", value, *places], check=False).stdout == ""
        logs = "journalctl --no-pager -o verbose; journalctl --namespace=stacks --no-pager -o verbose"
        assert value not in machine.run(logs).stdout
        assert value not in machine.run("podman inspect web", user="er-blog").stdout


def test_an_apps_own_file_does_not_count(world: World) -> None:
    """Where Podman looks by default a stack's user may write: whoever it is there, the admin's login is used."""
    machine = world.web.host.machine
    other = json.dumps({"auths": {"registry.test": {"auth": base64.b64encode(b"reader:wrong").decode()}}})
    own = 'mkdir -p "$XDG_RUNTIME_DIR/containers"; cat >"$XDG_RUNTIME_DIR/containers/auth.json"'
    machine.run(["sh", "-c", own], user="er-shop", stdin=other.encode())
    machine.run("podman rmi --force --all; systemctl --user restart shop-web.service", user="er-shop")
    assert world.answers("shop")


@of_a_sweep
def test_a_boot_needs_nobody(world: World) -> None:
    """The password stays, and who has to fetch an image anew has it from the start."""
    machine = world.web.host.machine
    machine.run("podman rmi --force --all", user="er-shop")
    machine.poweroff()
    world.web.host.log_out()
    machine.boot()
    machine.wait(machine.started, timeout=90, what="the end of start-up")
    for stack in ("shop", "blog", "far"):
        world.comes_up(stack)


def test_an_automatic_update_logs_in(world: World) -> None:
    """Podman's own, started as its timer does, in the stack's session; what it brings is a release."""
    before = world.image("blog", "web")
    assert [one["source"] for one in world.web.json("releases", "blog")] == ["spec"]
    world.registry.push(hosts.IMAGES / "app.tar", "app", label="newer")
    world.web.host.machine.run("systemctl --user start podman-auto-update.service", user="er-blog")
    until(lambda: world.image("blog", "web") != before, timeout=60, what="the newer image")
    world.comes_up("blog")
    newest = world.web.json("releases", "blog")[0]
    assert (newest["source"], newest["by"]) == ("registry", "podman auto-update")
    assert newest["images"]["web"]["image"] == "registry.test/app:1"


def _switch(world: World, name: str) -> dict[str, Any]:
    remote = Remote("web", ("-F", str(world.web.directory / "config")))
    return list(releases.switch(remote, "blog", {"web": name}, source="registry", by="ci"))[-1]


@of_a_sweep
def test_a_release_by_tag_or_digest_logs_in(world: World) -> None:
    """Of the image that the spec names, whose own tag goes on naming what it named."""
    first = world.image("blog", "web")
    digest = world.registry.push(hosts.IMAGES / "app.tar", "app", "7")
    end = _switch(world, "7")
    assert end["phase"] == "done", end
    assert end["release"]["images"]["web"]["image"] == "registry.test/app:7"
    seventh = world.image("blog", "web")
    assert seventh != first
    world.comes_up("blog")
    assert world.web.er("rollback", "blog").returncode == 0
    assert world.image("blog", "web") == first
    end = _switch(world, digest)
    assert end["phase"] == "done", end
    assert world.image("blog", "web") == seventh
    absent = _switch(world, "registry.test/app:absent")
    assert absent["phase"] == "failed"
    assert absent["why"].startswith("registry.test/app:absent cannot be fetched: ")
    assert world.web.er("rollback", "blog", "spec").returncode == 0
    assert world.image("blog", "web") == first
    assert "blog" not in world.web.er("apply", world.web.spec, "--dry-run").stderr


def _with_release(world: World, tag: str) -> Path:
    world.registry.push(hosts.IMAGES / "app.tar", "app", tag)
    return world.web.edited("registry.test/app:1", f"registry.test/app:{tag}")


def test_a_changed_password_is_said_and_what_runs_goes_on(world: World) -> None:
    """A change of image is taken back with the reason; after the new login it goes through: the next change's, too."""
    world.registry.set_passwords({USER: _NEXT, "writer": _WRITERS})
    spec = _with_release(world, "2")
    done = world.web.er("apply", spec, "--yes", "--timeout", "20")
    assert done.returncode == 1
    assert "taken back" in done.stderr
    assert "registry.test refuses registry.test/app:2 to reader; is the password still right?" in done.stderr
    world.comes_up("shop")
    refused = world.login(_SECRET, "registry.test", "--stack", "shop")
    assert "refuses this password" in refused.stderr
    assert world.login(_NEXT, "registry.test", "--stack", "shop").returncode == 0
    if WHOLE:
        done = world.web.er("apply", spec, "--yes", "--timeout", "60")
        assert done.returncode == 0, done.stderr
        world.comes_up("shop")


@of_a_sweep
def test_a_registry_that_is_down_is_said_and_what_runs_goes_on(world: World) -> None:
    """At a login, and at a change of image; the password of before stays."""
    world.close()
    done = world.login("whatever", "registry.test", "--stack", "shop")
    assert done.returncode == 1
    assert "registry.test cannot be reached from the server as er-shop" in done.stderr
    assert world.states()["shop", "registry.test"] == "set"
    web = world.web
    spec = web.edited("registry.test/app:1", "registry.test/app:3")
    done = web.er("apply", spec, "--yes", "--timeout", "20")
    assert done.returncode == 1
    assert "shop/web has no image: registry.test cannot be reached" in done.stderr
    world.comes_up("shop")
    world.open()


@of_a_sweep
def test_a_stack_that_waits_for_a_login_keeps_no_change_from_standing(world: World) -> None:
    """apply ends well, with the command to type; then the registry that limits gives more."""
    web = world.web
    spec = web.edited(
        "  registry.test: {username: reader}",
        f"  limited.test: {{username: {USER}}}\n  registry.test: {{username: reader}}",
    )
    spec.write_text(spec.read_text().replace("registry.test/app:1", "registry.test/app:2"))
    started = time.monotonic()
    done = web.er("apply", spec, "--yes", "--timeout", "120")
    assert done.returncode == 0, done.stderr
    world.comes_up("shop")
    assert (
        "hub lacks a password that only you know: er server registry login web limited.test --stack hub" in done.stderr
    )
    assert time.monotonic() - started < 110
    wrong = world.login("wrong", "limited.test")
    assert "limited.test refuses this password of reader" in wrong.stderr
    assert world.login(PASSWORD, "limited.test").returncode == 0
    world.comes_up("hub")
    until(lambda: "easyrunner: ready" in web.host.machine.console_text(), timeout=90, what="the end of first boot")
    until(lambda: web.er("status").returncode == 0, timeout=90, what="a status in which nothing is wrong")
    assert web.er("apply", spec, "--dry-run").stderr.startswith("nothing differs")


def test_logout_forgets_and_what_runs_goes_on(world: World) -> None:
    """Of one stack, then of all."""
    web = world.web
    assert web.er("registry logout", "registry.test", "--stack", "far").returncode == 0
    states = world.states()
    assert states["far", "registry.test"] == "missing"
    assert states["shop", "registry.test"] == "set"
    assert world.answers("far")
    assert web.json("registry logout", "registry.test")["stacks"] == ["blog", "shop"]
    assert web.er("registry logout", "registry.test").returncode == 1
    assert web.er("registry list").returncode == 1
    assert world.answers("shop")
