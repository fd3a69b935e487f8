"""The proxy's image: newer releases are named, and taken as any change is: whole, or not at all."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder import spec as specs
from builder.oci import image_archive
from builder.polling import until
from tests.machine import hosts
from tests.machine.conftest import example_maker
from tests.machine.registry import Registry
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.machine

# The proxy's user reaches 80 and 443 alone.
_NAME, _PORT = "registry.test/caddy", 80
_FILES = {
    "/etc/containers/registries.conf.d/50-lab.conf": b'[[registry]]\nlocation = "registry.test"\ninsecure = true\n'
}
# Beside releases a registry has names that move, other lines of the same program, what is not finished, the next major.
_OTHERS = ("latest", "2", "2.11", "2.12.0-beta.1", "2.11.9-alpine", "3.0.0", "v2.99.0")


@dataclass
class World:
    """A host whose proxy came from a registry, the client, and the registry's process."""

    web: Client
    registry: Registry
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def open(self) -> None:
        """Start the registry."""
        self.running += self.registry.start()
        until(self.registry.up, timeout=30, what="the registry")

    def close(self) -> None:
        """End it."""
        while self.running:
            process = self.running.pop()
            process.kill()
            process.wait()

    def release(self, tag: str, archive: str = "caddy.tar") -> str:
        """A release of the proxy; its digest."""
        return self.registry.push(hosts.IMAGES / archive, "caddy", tag)

    def serves(self, label: str) -> bool:
        """Whether a visitor is answered, by the proxy of this release."""
        answered = self.web.host.curl("https://hello.example.com/").stdout.startswith("HTTP/2 200")
        shown = "podman inspect caddy --format '{{index .Config.Labels \"org.opencontainers.image.version\"}}'"
        return answered and self.web.host.machine.run(shown, user=facts.PROXY_USER).stdout.strip() == label


@pytest.fixture(scope="module")
def world(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Its first boot fetched release 2.11.7."""
    tmp = tmp_path_factory.mktemp("proxy-image")

    def edit(text: str) -> str:
        """Of its stacks one: what others are has nothing to do with it."""
        head, _, stacks = text.partition("stacks:\n")
        [hello] = [f"  - name: {stack}" for stack in stacks.split("  - name: ") if stack.startswith("hello\n")]
        text = f"{head}stacks:\n{hello}"
        return re.sub("^proxy: .*$", f"proxy: {{image: {_NAME}:2.11.7}}   # ours", text, flags=re.MULTILINE)

    with hosts.booted("three", tmp, edit=edit, extra_files=_FILES, start=False) as host:
        registry = Registry(host.machine.attacker(50), tmp, (_PORT,))
        known = host.machine.files.path("/etc/hosts").read_text()
        host.machine.files.write("/etc/hosts", f"{known}\n{registry.place.ipv4} registry.test\n".encode())
        world = World(client(host, tmp), registry)
        try:
            world.open()
            for tag in ("2.11.7", *_OTHERS):
                world.release(tag)
            host.boot()
            yield world
        finally:
            world.close()


def _spec_image(web: Client) -> str:
    return specs.load(web.spec)[0].proxy.image


def _same(web: Client) -> bool:
    return web.er("apply", web.spec, "--dry-run").stderr.startswith("nothing differs")


def test_the_newest_is_known_as_such(world: World) -> None:
    """None of the other names is taken for a release of the same line; the digest that runs is shown."""
    found = world.web.json("status")
    image = found["proxy_image"]
    assert (image["image"], image["newest"], image["unknown"]) == (f"{_NAME}:2.11.7", None, "")
    assert re.fullmatch("sha256:[0-9a-f]{64}", image["digest"])
    assert "the newest release" in world.web.er("status").stdout
    assert found["wrong"] == []


def test_a_newer_release_is_named_and_not_taken(world: World) -> None:
    """status names it; a dry run shows it; neither changes anything, nor does a usual apply."""
    world.release("2.11.8")
    done = world.web.er("status")
    assert done.returncode == 0, done.stderr
    assert "2.11.8 is out: er server apply HOST SPEC --newest-proxy" in done.stdout
    before = world.web.spec.read_bytes()
    done = world.web.er("apply", world.web.spec, "--newest-proxy", "--dry-run")
    assert f"+Image={_NAME}:2.11.8" in done.stderr
    assert world.web.er("apply", world.web.spec, "--yes").returncode == 0
    assert world.web.spec.read_bytes() == before
    assert world.serves("2.11.7")


def test_a_newer_release_is_taken_and_pinned_by_its_digest(world: World) -> None:
    """The spec file names it then, one value of it; what was there beside stays. The next apply finds nothing to do."""
    digest = world.release("2.11.10")
    before = world.web.spec.read_text()
    done = world.web.er("apply", world.web.spec, "--newest-proxy", "--yes")
    assert done.returncode == 0, done.stderr
    assert world.serves("2.11.10")
    assert _spec_image(world.web) == f"{_NAME}:2.11.10@{digest}"
    assert world.web.spec.read_text() == before.replace(f"{_NAME}:2.11.7", f'"{_NAME}:2.11.10@{digest}"')
    assert _same(world.web)
    assert world.web.json("status")["proxy_image"]["newest"] is None


def test_a_release_that_does_not_run_is_taken_back(world: World, tmp_path: Path) -> None:
    """The proxy of before serves, and the spec file still names it."""
    maker = example_maker()
    dead = image_archive.ImageFile("usr/bin/caddy", b"#!/bin/sh\nexit 1\n", mode=0o755)
    image_archive.write(tmp_path / "dead.tar", (*maker.app_files(), dead), maker.APP_CONFIG)
    world.registry.push(tmp_path / "dead.tar", "caddy", "2.11.11")
    before = _spec_image(world.web)
    done = world.web.er("apply", world.web.spec, "--newest-proxy", "--yes", "--timeout", "10")
    assert done.returncode == 1
    assert "taken back" in done.stderr
    assert "proxy" in done.stderr
    assert _spec_image(world.web) == before
    assert _same(world.web)
    assert world.serves("2.11.10")


@of_a_sweep
def test_a_release_that_runs_and_does_nothing_is_taken_back(world: World, tmp_path: Path) -> None:
    """It says that it is ready, and takes no connection."""
    maker = example_maker()
    caddy = next(file for file in maker.app_files() if file.path == "usr/bin/caddy")
    idle = b"#!/bin/sh\nexec real-caddy run --config /idle --adapter caddyfile\n"
    files = (
        *maker.app_files(),
        replace(caddy, path="usr/bin/real-caddy"),
        image_archive.ImageFile("idle", b"{\n\tadmin off\n}\n"),
        image_archive.ImageFile("usr/bin/caddy", idle, mode=0o755),
    )
    image_archive.write(tmp_path / "idle.tar", files, maker.APP_CONFIG)
    world.registry.push(tmp_path / "idle.tar", "caddy", "2.11.12")
    done = world.web.er("apply", world.web.spec, "--newest-proxy", "--yes", "--timeout", "10")
    assert done.returncode == 1
    assert "taken back, the server is as before: the proxy does not answer" in done.stderr
    assert world.serves("2.11.10")


def _night(world: World, *, later: bool = False) -> str:
    """What a night of updates says of the proxy; `later`, some days after the last one."""
    machine, noted = world.web.host.machine, f"{facts.UPDATED}/proxy.json"
    if later:
        machine.run(["python3", "-c", _LATER, noted])
    machine.run(["systemctl", "start", "easyrunner-update.service"], timeout=400)
    return str(json.loads(machine.run(["cat", noted]).stdout)["said"])


_LATER = """
import json, sys
found = json.load(open(sys.argv[1]))
for one in found["seen"].values():
    one["at"] -= 3 * 86400
json.dump(found, open(sys.argv[1], "w"))
"""


@of_a_sweep
def test_patch_releases_are_taken_at_night_when_asked(world: World) -> None:
    """Once the registry has had one for long enough; files and checks stay as the spec has them, and it is said."""
    world.web.spec.write_text(f"{world.web.spec.read_text()}\nupdate: {{proxy: patch, min_age: 2d}}\n")
    assert world.web.er("apply", world.web.spec, "--yes").returncode == 0
    digest = world.release("2.11.13")
    image = f"{_NAME}:2.11.13"
    assert _night(world) == f"{image} is taken in 2.0 days, if it is unchanged then"
    assert world.serves("2.11.10")
    assert _night(world, later=True) == f"updated to {image}@{digest}"
    assert world.serves("2.11.13")
    assert "by an update; the spec's is" in " ".join(world.web.er("status").stdout.split())
    shown = world.web.json("status")["proxy_image"]
    assert (shown["image"], shown["of_spec"].partition("@")[0]) == (f"{image}@{digest}", f"{_NAME}:2.11.10")
    done = world.web.er("verify", world.web.spec)
    assert (done.returncode, f"proxy/caddy runs a release: {image}@{digest}" in done.stderr) == (0, True), done
    assert world.web.er("apply", world.web.spec, "--yes").returncode == 0
    assert world.serves("2.11.13")


@of_a_sweep
def test_a_patch_release_that_does_not_come_up_is_taken_back_at_night(world: World, tmp_path: Path) -> None:
    maker = example_maker()
    dead = image_archive.ImageFile("usr/bin/caddy", b"#!/bin/sh\nexit 1\n", mode=0o755)
    image_archive.write(tmp_path / "dead.tar", (*maker.app_files(), dead), maker.APP_CONFIG)
    digest = world.registry.push(tmp_path / "dead.tar", "caddy", "2.11.14")
    _night(world)
    said = _night(world, later=True)
    assert said == f"{_NAME}:2.11.14@{digest} was taken back: the proxy does not come up"
    assert world.serves("2.11.13")
    assert _night(world, later=True) == "nothing is newer"


@of_a_sweep
def test_what_the_spec_names_next_takes_the_place_of_an_update(world: World) -> None:
    _edit(world.web, "2.11.10", "2.11.8")
    assert world.web.er("apply", world.web.spec, "--yes").returncode == 0
    assert world.serves("2.11.8")
    assert _same(world.web)


def _edit(web: Client, old: str, new: str) -> None:
    text = re.sub(rf"{re.escape(_NAME)}:{re.escape(old)}@sha256:[0-9a-f]+", f"{_NAME}:{new}", web.spec.read_text())
    web.spec.write_text(text)


@of_a_sweep
def test_an_image_that_cannot_be_fetched_stops_nothing(world: World) -> None:
    """It is fetched while the old one serves: the proxy is not even restarted."""
    started = world.web.json("status")["proxy"]
    image = _spec_image(world.web)
    done = world.web.er("apply", world.web.edited(image, f"{_NAME}:2.11.99"), "--yes")
    assert done.returncode == 1
    assert "podman pull failed" in done.stderr
    now = world.web.json("status")["proxy"]
    assert now["seconds"] >= started["seconds"]
    assert _same(world.web)


@of_a_sweep
def test_a_registry_out_of_reach_is_said_and_nothing_wrong(world: World) -> None:
    """Nor does asking for the newest change anything."""
    world.close()
    done = world.web.er("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert "whether a newer release is out is not known: podman search failed" in done.stdout
    assert world.web.er("apply", world.web.spec, "--newest-proxy", "--yes").returncode == 1
    assert _same(world.web)
