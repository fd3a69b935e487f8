"""Releases: a stack runs another image than its spec names, and the way back; whatever happens on the way.

A run of the tests has neighbours of it: what test_switch.py, test_deploy.py and test_push.py make are releases.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from builder import host as hosts
from builder import spec as specs
from builder.oci import image_archive
from builder.polling import until
from builder.problems import UserError
from builder.server import Remote, apply, releases
from tests.machine.clients import Load
from tests.machine.conftest import example_maker
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.server.conftest import Client

pytestmark = [pytest.mark.machine, of_a_sweep]

_SITE = "hello.example.com"
# Of a visitor between two questions, in seconds: each question costs, and one of them waits for the restart.
_PAUSE = 0.25
_CHANGE = "/var/lib/easyrunner/apply-hello"


@dataclass
class Stack:
    """The stack `hello`, whose images are made on the host as if they had been sent there."""

    web: Client

    @property
    def remote(self) -> Remote:
        return Remote("web", ("-F", str(self.web.directory / "config")))

    def image(self, tag: str, *lines: str) -> str:
        """An image of the app that greets with its tag."""
        name = f"localhost/hello/web:{tag}"
        text = "\n".join(("FROM localhost/latest:latest", f"ENV GREETING={tag}", *lines, ""))
        self.run(f"podman build --quiet --tag {name} - ", stdin=text.encode())
        return name

    def run(self, command: str, *, stdin: bytes | None = None, check: bool = True) -> str:
        """As the stack's user."""
        return self.web.host.machine.run(command, user="er-hello", stdin=stdin, check=check).stdout

    def switch(self, name: str, timeout: float = 60, source: str = "push") -> list[dict[str, Any]]:
        """Let it run an image; every state."""
        states = releases.switch(
            self.remote, "hello", {"web": name}, source=source, by="key of ci@example", timeout=timeout
        )
        return list(states)

    def greets(self, tag: str) -> bool:
        return tag in self.web.host.curl(f"https://{_SITE}/", timeout=30).stdout

    def listed(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.web.json("releases", "hello")
        return found

    def runs(self) -> str:
        """The tag of the image that runs."""
        name: str = self.listed()[0]["images"]["web"]["image"]
        return name.rpartition(":")[2]

    def phase(self) -> str:
        file = self.web.host.machine.files.path(f"{_CHANGE}/state.json")
        return str(json.loads(file.read_bytes())["phase"]) if file.exists() else ""

    def override(self) -> str:
        """The release's file, if there is one."""
        return self.web.host.machine.run("cat /etc/containers/systemd/users/*/hello-web.container.d/* || :").stdout


@pytest.fixture(scope="module")
def hello(web: Client) -> Stack:
    return Stack(web)


def _unfailed(load: Load, most: float) -> float:
    """No request failed, and none waited longer than so many seconds; returns the longest wait."""
    found = load.end()
    assert [status for status, _ in found if status != "200"] == []
    longest = max(seconds for _, seconds in found)
    assert longest < most
    return longest


def test_a_stack_without_a_release_runs_what_the_spec_names(hello: Stack) -> None:
    found = hello.listed()
    assert [(one["number"], one["source"], one["current"]) for one in found] == [(1, "spec", True)]
    assert found[0]["images"]["web"]["image"].startswith("localhost/er/hello-web:")
    done = hello.web.er("rollback", "hello")
    assert done.returncode == 1
    assert "hello has no release before the one that runs" in done.stderr


def test_a_switch_loses_no_request_and_its_spec_stays(hello: Stack) -> None:
    """Visitors wait for the restart; others notice nothing; the host is as its spec says."""
    unit = "cat /etc/containers/systemd/users/*/hello-web.container"
    before = hello.web.host.machine.run(unit).stdout
    name = hello.image("one")
    own, other = (Load(hello.web.host, site, interval=_PAUSE) for site in (_SITE, "shop.example.com"))
    states = hello.switch(name)
    assert states[-1]["phase"] == "done", states
    assert states[-1]["changed"] == ["web"]
    _unfailed(own, 15)
    _unfailed(other, 2)
    assert hello.greets("one")
    assert hello.web.host.machine.run(unit).stdout == before
    assert f"Image={name}\n" in hello.override()
    look = "stat -c '%U %G %a' /etc/containers/systemd/users/*/hello-web.container.d/90-release.conf"
    assert hello.web.host.machine.run(look).stdout.split() == ["root", "er-hello", "640"]
    current = hello.listed()[0]
    assert (current["source"], current["by"], current["current"]) == ("push", "key of ci@example", True)


def test_it_is_shown_as_a_release_and_not_as_a_difference(hello: Stack) -> None:
    web = hello.web
    said = "hello/web runs release 2"
    done = web.er("verify", web.spec)
    assert done.returncode == 0, done.stderr
    assert f"{said} of " in done.stderr
    assert "push by key of ci@example: localhost/hello/web:one, not the spec's localhost/er/hello-web:" in done.stderr
    rows = [one for one in web.json("doctor") if one["check"] == "releases in place"]
    assert [(one["ok"], one["note"]) for one in rows] == [(True, "hello/web runs localhost/hello/web:one by a release")]
    assert re.search("^hello/web +release 2 of ", web.er("status").stdout, re.MULTILINE)
    dry = web.er("apply", web.spec, "--dry-run").stderr
    assert "nothing differs" in dry
    assert f"{said} " in dry
    assert "it stays; to the spec's image: er server rollback web hello spec" in dry


_FOREIGN = (
    "docker.io/library/nginx:1",
    "localhost/shop/web:one",
    "localhost/hello/web:../../x",
    "localhost/hello/web",
    "--root=/tmp",
    "oci-archive:/etc/shadow",
    "localhost/hello/web:one\nPull=always",
)


def test_another_image_is_refused(hello: Stack) -> None:
    """Neither another's, nor what is no name."""
    for name in _FOREIGN:
        with pytest.raises(UserError, match="hello/web cannot run") as raised:
            hello.switch(name)
        assert "a tag or a digest of localhost/er/hello-web" in str(raised.value.hint)


def test_what_is_not_there_changes_nothing(hello: Stack) -> None:
    before = hello.listed()
    states = hello.switch("localhost/hello/web:absent")
    assert states[-1] == {
        "phase": "failed",
        "why": "hello has no image localhost/hello/web:absent; nothing was changed",
    }
    with pytest.raises(UserError, match="no service other"):
        list(releases.switch(hello.remote, "hello", {"other": "localhost/hello/other:1"}, source="push"))
    with pytest.raises(UserError, match="no stack none"):
        list(releases.switch(hello.remote, "none", {"web": "x"}, source="push"))
    assert hello.listed() == before


def test_what_does_not_come_up_is_taken_back(hello: Stack) -> None:
    """With what its container said; visitors have waited, and none was refused."""
    name, before, file = hello.image("bad", 'CMD ["/nonexistent"]'), hello.listed(), hello.override()
    load = Load(hello.web.host, _SITE, interval=_PAUSE)
    states = hello.switch(name, timeout=40)
    assert states[-1]["phase"] == "rolled back", states
    assert "hello/web does not come up" in states[-1]["why"]
    assert any("/nonexistent" in line for line in states[-1]["said"])
    _unfailed(load, 50)
    assert hello.greets("one")
    assert (hello.listed(), hello.override()) == (before, file)


def test_what_starts_and_falls_over_is_taken_back(hello: Stack) -> None:
    name = hello.image("falls", 'ENTRYPOINT ["sh", "-c", "sleep 0.7; echo over and out; exit 1"]')
    states = hello.switch(name, timeout=40)
    assert states[-1]["phase"] == "rolled back", states
    assert any("over and out" in line for line in states[-1]["said"])
    assert hello.greets("one")


def test_the_way_back_loses_no_request(hello: Stack) -> None:
    """To the release before, and to one by its number."""
    assert hello.switch(hello.image("two"))[-1]["phase"] == "done"
    load = Load(hello.web.host, _SITE, interval=_PAUSE)
    done = hello.web.er("rollback", "hello")
    assert done.returncode == 0, done.stderr
    assert re.search("^hello/web runs localhost/hello/web:one, release 4$", done.stderr, re.MULTILINE)
    _unfailed(load, 15)
    assert hello.greets("one")
    assert hello.listed()[0]["again"]["number"] == 2
    assert "rollback to 2 (push)" in hello.web.er("releases", "hello").stdout
    done = hello.web.er("rollback", "hello", "99")
    assert (done.returncode, "hello has no release 99" in done.stderr) == (1, True)
    assert hello.web.er("rollback", "hello", "nonsense").returncode == 2


def test_two_at_once_are_made_one_after_the_other(hello: Stack) -> None:
    """Who comes second is told who is at it."""
    first = releases.switch(hello.remote, "hello", {"web": hello.image("three")}, source="build", by="first")
    next(first)
    second = hello.switch(hello.image("four"))
    assert second[0]["phase"] == "waiting for its turn"
    assert "build, by first" in second[0]["holder"]
    assert second[-1]["phase"] == "done"
    assert [state["phase"] for state in first][-1] == "done"
    assert [one["images"]["web"]["image"] for one in hello.listed()][:2] == [
        "localhost/hello/web:four",
        "localhost/hello/web:three",
    ]
    assert hello.greets("four")


def test_five_are_kept_and_the_image_of_the_sixth_goes(hello: Stack) -> None:
    """And neither what a unit names, nor what nobody has switched to yet."""
    waiting = hello.image("later")
    assert hello.switch(hello.image("five"))[-1]["phase"] == "done"
    end = hello.switch(hello.image("six"))[-1]
    found = hello.listed()
    assert len(found) == 5
    assert [one["images"]["web"]["image"].rpartition(":")[2] for one in found][:4] == ["six", "five", "four", "three"]
    names = hello.run("podman images --format '{{.Repository}}:{{.Tag}}'").split()
    assert "localhost/hello/web:two" not in names
    assert "localhost/hello/web:two" in end["removed"]
    assert {f"localhost/hello/web:{tag}" for tag in ("one", "three", "four", "five", "six")} <= set(names)
    assert waiting in names
    assert any(name.startswith("localhost/er/hello-web:") for name in names)


# er, killed as soon as the change has begun.
_CLIENT = (
    "import sys\n"
    "from builder.server import Remote, releases\n"
    "remote = Remote('web', ('-F', sys.argv[1]))\n"
    "for state in releases.switch(remote, 'hello', {'web': sys.argv[2]}, source='push'):\n"
    "    print(state['phase'], flush=True)\n"
)


@contextmanager
def _client(hello: Stack, name: str, phase: str) -> Iterator[subprocess.Popen[str]]:
    """A client that has come as far as this phase; it is killed at the end of the block."""
    argv = [sys.executable, "-c", _CLIENT, str(hello.web.directory / "config"), name]
    with subprocess.Popen(argv, env=hello.web.env, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        for line in client.stdout:
            if line.strip() == phase:
                break
        yield client
        client.kill()


def test_a_killed_client_ends_nothing(hello: Stack) -> None:
    with _client(hello, hello.image("seven"), "started") as client:
        client.send_signal(signal.SIGKILL)
    until(lambda: hello.phase() in facts.APPLY_ENDS, timeout=240, what="the end of the release")
    assert hello.phase() == "done"
    assert hello.greets("seven")


# Whatever of it runs, also what takes back what it has left.
_KILL = (
    "unit=easyrunner-release-hello.service;"
    "until systemctl is-active $unit | grep -qE 'inactive|failed|unknown'; do systemctl kill --signal=KILL $unit; done"
)


def test_a_killed_release_is_taken_back_by_the_next(hello: Stack) -> None:
    """Its processes on the server are gone half-way: doctor says so, and who comes next puts the old back first."""
    before, tag = hello.listed()[0], hello.runs()
    with _client(hello, hello.image("bad", 'CMD ["/nonexistent"]'), "waiting for the new one"):
        hello.web.host.machine.run(_KILL)
    rows = {one["check"]: one["wrong"] for one in hello.web.json("doctor")}
    assert rows["no change half-way"] == "a release of hello was cut off half-way"
    fixed = {one["check"]: one["fixed"] for one in hello.web.json("doctor", "--fix")}
    assert fixed["no change half-way"]
    until(lambda: hello.greets(tag), timeout=120, what="the release of before")
    assert hello.listed()[0]["number"] == before["number"]


CUTS = ("switching", "waiting for the new one", "restarting behind it", "taking it back", "done")
_WELL = ("restarting behind it", "done")


@pytest.mark.parametrize("phase", CUTS)
def test_power_cut_leaves_the_old_or_the_new_release(hello: Stack, phase: str) -> None:
    """In the middle it is the old one, also when the new one would never have come up."""
    before = hello.runs()
    lines = () if phase in _WELL else ('CMD ["/nonexistent"]',)
    with _client(hello, hello.image(f"cut{len(phase)}", *lines), phase):
        hello.web.host.machine.cut()
    hello.web.host.boot()
    wanted = "cut4" if phase == "done" else before
    assert hello.greets(wanted)
    assert not hello.web.host.machine.files.path(f"{_CHANGE}/pending").exists()
    assert hello.runs() == wanted
    assert hello.web.er("verify", hello.web.spec).returncode == 0


def _applied(hello: Stack, old: str, new: str) -> str:
    done = hello.web.er("apply", hello.web.edited(old, new), "--yes")
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_apply_keeps_a_release(hello: Stack) -> None:
    """What the spec says otherwise is done; the image is the release's."""
    before = hello.runs()
    said = _applied(hello, "    port: 3000\n    egress", "    port: 3000\n    environment: {NOTE: new}\n    egress")
    assert "it stays; to the spec's image: er server rollback web hello spec" in said
    assert hello.greets(before)
    assert "NOTE=new" in hello.run("podman inspect web")


def _plan(spec: Path) -> bytes:
    read, _ = specs.load(spec)
    return apply.plan(read, hosts.build(read), timeout=120)


def _until(states: Iterator[dict[str, Any]], phase: str) -> None:
    while next(states)["phase"] != phase:
        pass


def test_a_release_and_an_apply_take_turns(hello: Stack) -> None:
    """Whoever comes second; here a release that never comes up, and then an apply that nobody has confirmed yet."""
    silent = hello.image("silent", 'ENTRYPOINT ["sleep"]', 'CMD ["infinity"]')
    first = releases.switch(hello.remote, "hello", {"web": silent}, source="build", by="first", timeout=15)
    _until(first, "waiting for the new one")
    more = hello.web.edited("www.hello.example.com]", "www.hello.example.com, neu.example.com]")
    states = list(apply.carry_out(hello.remote, _plan(more)))
    [holder] = [state["holder"] for state in states if state["phase"] == "waiting for its turn"]
    assert holder.startswith("a release (build, by first), since ")
    assert states[-1]["phase"] == "done"
    assert list(first)[-1]["phase"] == "rolled back"
    change = apply.carry_out(hello.remote, _plan(hello.web.spec))
    _until(change, "waiting for you")
    second = releases.switch(hello.remote, "hello", {"web": hello.image("eight")}, source="build")
    assert next(second)["holder"].startswith("er server apply, since ")
    assert list(change)[-1]["phase"] == "done"
    assert list(second)[-1]["phase"] == "done"
    assert hello.greets("eight")


def test_the_spec_wins_when_its_image_changes(hello: Stack) -> None:
    """And says so; the release can be had back."""
    before = hello.runs()
    app = next(line.split()[-1] for line in hello.web.spec.read_text().splitlines() if "app.tar" in line)
    maker, other = example_maker(), hello.web.directory / "other.tar"
    own = replace(maker.APP_CONFIG, environment=(*maker.APP_CONFIG.environment, ("OTHER", "1")))
    image_archive.write(other, maker.app_files(), own)
    said = _applied(hello, f"image: {app}\n    domains: [hello", f"image: oci-archive:{other}\n    domains: [hello")
    assert "the spec names another image for it now, and that one is taken" in said
    assert hello.override() == ""
    assert hello.listed()[0]["by"] == "er server apply"
    assert hello.web.er("rollback", "hello").returncode == 0
    assert hello.greets(before)


def test_the_way_back_to_the_spec(hello: Stack) -> None:
    """As to any other release."""
    assert hello.web.er("rollback", "hello", "spec").returncode == 0
    assert hello.override() == ""


def test_an_image_that_updates_itself_is_a_release(hello: Stack) -> None:
    """Podman's own update, here of an image without a registry; the one of before is kept, and can be had back."""
    web, run = hello.web, hello.web.host.machine.run
    compose = web.spec.parent / "notes" / "compose.yaml"
    old = compose.read_text()
    compose.write_text(old.replace("    labels:\n", "    labels:\n      io.containers.autoupdate: local\n"))
    assert web.er("apply", web.spec, "--yes").returncode == 0
    look = "podman inspect --format '{{.ImageName}} {{.Image}}' site"
    name, before = run(look, user="er-notes").stdout.split()
    run(f"podman build --quiet --tag {name} -", user="er-notes", stdin=b"FROM localhost/latest:latest\nENV NEW=1\n")
    run("systemctl --user start podman-auto-update.service", user="er-notes")
    assert run(look, user="er-notes").stdout.split()[1] != before
    found = web.json("releases", "notes")
    assert [(one["source"], one["by"]) for one in found[:2]] == [
        ("registry", "podman auto-update"),
        ("spec", "er server apply"),
    ]
    assert web.er("rollback", "notes").returncode == 0
    assert run(look, user="er-notes").stdout.split()[1] == before
    run("systemctl --user start podman-auto-update.service", user="er-notes")
    assert run(look, user="er-notes").stdout.split()[1] == before, "it stays where somebody has put it"
    assert web.er("rollback", "notes", "spec").returncode == 0
    assert run(look, user="er-notes").stdout.split()[1] != before
    compose.write_text(old)
    assert web.er("apply", web.spec, "--yes").returncode == 0


def test_a_removed_stack_takes_its_release_along_and_keeps_its_record(hello: Stack) -> None:
    assert hello.switch(hello.image("nine"))[-1]["phase"] == "done"
    before = hello.listed()
    text = hello.web.spec.read_text()
    start, end = text.index("  - name: hello"), text.index("  - name: notes")
    _applied(hello, text[start:end], "")
    assert hello.override() == ""
    assert "hello" not in json.dumps(hello.web.json("status")["stacks"])
    assert hello.web.er("apply", hello.web.spec, "--yes").returncode == 0
    assert hello.override() == ""
    found = hello.listed()
    assert (found[0]["source"], found[0]["by"]) == ("spec", "er server apply")
    assert found[1]["number"] == before[0]["number"]
    assert hello.web.er("rollback", "hello").returncode == 0
    assert hello.greets("nine")


_OLD_PODMAN = b"""#!/bin/sh
[ "$1" != --version ] || exec echo podman version 4.9.3
exec /usr/bin/podman "$@"
"""


def test_where_podman_reads_no_drop_ins_a_release_is_a_whole_unit(hello: Stack) -> None:
    """As on Ubuntu 24.04; the unit follows the spec's in all but its image."""
    web, machine = hello.web, hello.web.host.machine
    hello.web.er("rollback", "hello", "spec")
    machine.files.write("/usr/local/bin/podman", _OLD_PODMAN)
    machine.run("chmod 755 /usr/local/bin/podman")
    unit = "cat /etc/easyrunner/releases/*/hello-web.container"
    assert hello.switch(hello.image("whole"))[-1]["phase"] == "done"
    assert hello.greets("whole")
    assert "Image=localhost/hello/web:whole\nPull=never\n" in machine.run(unit).stdout
    assert web.er("apply", web.spec, "--dry-run").stderr.startswith("nothing differs")
    _applied(hello, "    port: 3000\n    egress", "    port: 3000\n    environment: {NOTE: new}\n    egress")
    assert hello.greets("whole")
    assert "NOTE=new" in hello.run("podman inspect web")
    assert hello.web.er("rollback", "hello", "spec").returncode == 0
    assert not hello.greets("whole")
    assert machine.run(unit, check=False).returncode != 0
