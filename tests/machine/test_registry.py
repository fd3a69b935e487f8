"""Images from a real registry that stands in another namespace: there, closed, wrong, late."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder.polling import until
from tests.machine import hosts
from tests.machine.registry import CLOSED, OPEN, PASSWORD, USER, Registry
from tests.sweeps import WHOLE, of_a_sweep

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

# First boot gives up early here, and registries speak plain HTTP.
_FILES = {
    "/etc/systemd/system/er-first-boot.service.d/50-lab.conf": (
        b"[Service]\nBindReadOnlyPaths=/etc/lab-server.env:/etc/easyrunner/server.env\n"
    ),
    "/etc/lab-server.env": b"NAME=pull1\nREADY_TIMEOUT=15\n",
    "/etc/containers/registries.conf.d/50-lab.conf": b"".join(
        f'[[registry]]\nlocation = "registry.test:{port}"\ninsecure = true\n'.encode() for port in (OPEN, CLOSED)
    ),
}


@dataclass
class World:
    """The host, its registry, and the registry's processes."""

    host: Host
    registry: Registry
    running: list[subprocess.Popen[bytes]]

    def open(self) -> None:
        self.running += self.registry.start()
        until(self.registry.up, timeout=20, what="the registry")

    def close(self) -> None:
        for each in self.running:
            each.kill()
            each.wait()


def _world(host: Host, tmp: Path) -> World:
    registry = Registry(host.machine.attacker(50), tmp)
    known = host.machine.files.path("/etc/hosts").read_text()
    host.machine.files.write("/etc/hosts", f"{known}\n{registry.place.ipv4} registry.test\n".encode())
    return World(host, registry, [])


@pytest.fixture(scope="module")
def served(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A first boot with the registry up, and no password on the host."""
    tmp = tmp_path_factory.mktemp("registry")
    with hosts.booted("registry", tmp, extra_files=_FILES, start=False) as host:
        world = _world(host, tmp)
        try:
            world.open()
            world.registry.push(hosts.IMAGES / "app.tar", "app")
            host.machine.boot()
            host.machine.wait_console("easyrunner: not ready", timeout=60)
            yield world
        finally:
            world.close()


@pytest.fixture(scope="module")
def deserted(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A first boot while no registry answers; and an image that nobody has made yet."""
    tmp = tmp_path_factory.mktemp("registry-down")

    def edit(text: str) -> str:
        return text.replace(f"{OPEN}/app:1", f"{OPEN}/later:1")

    with hosts.booted("registry", tmp, edit=edit, extra_files=_FILES, start=False) as host:
        world = _world(host, tmp)
        try:
            host.machine.boot()
            host.machine.wait_console("easyrunner: not ready", timeout=60)
            yield world
        finally:
            world.close()


def _answers(host: Host, name: str) -> bool:
    return host.curl(f"https://{name}.example.com/", timeout=10).stdout.startswith("HTTP/2 200")


def _not_ready(host: Host) -> str:
    return next(line for line in host.machine.console_text().splitlines() if "easyrunner: not ready" in line)


def _credentials(host: Host, password: str) -> None:
    """As the admin does it: a file of root's that the stack may read."""
    word = base64.b64encode(f"{USER}:{password}".encode()).decode()
    text = json.dumps({"auths": {f"registry.test:{CLOSED}": {"auth": word}}})
    place = "/var/lib/easyrunner/config/$(id -u er-closed)/containers"
    line = f"install -D -m 640 -g er-closed /dev/stdin {place}/auth.json"
    host.machine.run(line, stdin=text.encode())


def _restart(host: Host) -> None:
    host.machine.run("systemctl --user restart --no-block closed-web.service", user="er-closed")


@of_a_sweep
def test_a_public_image_is_pulled_at_first_boot(served: World) -> None:
    """By the stack's user, and the app answers."""
    assert _answers(served.host, "open")
    images = served.host.machine.run("podman images --format '{{.Repository}}:{{.Tag}}'", user="er-open").stdout
    assert f"registry.test:{OPEN}/app:1" in images


@of_a_sweep
def test_an_image_that_is_refused_hurts_nobody_else(served: World) -> None:
    """No password: the others answer, SSH works, and the console names the one that does not."""
    assert "missing: closed/web" in _not_ready(served.host)
    assert "open/web" not in _not_ready(served.host)
    assert _answers(served.host, "here")
    assert served.host.ssh("true").returncode == 0
    assert not _answers(served.host, "closed")


@of_a_sweep
def test_a_wrong_password_is_refused(served: World) -> None:
    """And its reason is in the journal."""
    host = served.host
    _credentials(host, "wrong")
    _restart(host)

    def said() -> bool:
        log = host.machine.run("journalctl --namespace=* --no-pager -b _UID=$(id -u er-closed)").stdout
        return "authentication required" in log or "unauthorized" in log

    host.machine.wait(said, timeout=60, what="the reason in the journal")
    assert not _answers(host, "closed")
    assert _answers(host, "open")


@of_a_sweep
def test_a_private_image_is_pulled_with_the_users_password(served: World) -> None:
    """The admin puts auth.json into the user's home; a restart uses it, and so does the next boot, in the sweep."""
    _credentials(served.host, PASSWORD)
    _restart(served.host)
    served.host.machine.wait(lambda: _answers(served.host, "closed"), timeout=60, what="the stack")
    if WHOLE:
        served.host.reboot()
        assert _answers(served.host, "closed")


def test_a_registry_that_is_down_hurts_nobody_else(deserted: World) -> None:
    """The console names the stacks that wait for it; the others answer, and SSH works."""
    line = _not_ready(deserted.host)
    assert "open/web" in line
    assert "closed/web" in line
    assert "here/web" not in line
    assert _answers(deserted.host, "here")
    assert deserted.host.ssh("true").returncode == 0


def test_a_stack_comes_up_by_itself_once_its_image_is_there(deserted: World) -> None:
    """First the registry comes back, without the image, then the image; nobody touches the host."""
    deserted.open()
    assert not _answers(deserted.host, "open")
    deserted.registry.push(hosts.IMAGES / "app.tar", "later")
    deserted.host.machine.wait(lambda: _answers(deserted.host, "open"), timeout=90, what="the stack")
    assert deserted.host.machine.run("systemctl is-active ssh.service", check=False).stdout == "active\n"
