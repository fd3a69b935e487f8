"""Images from a real registry that stands in another namespace: there, closed, wrong, late."""

from __future__ import annotations

import base64
import json
import shutil
import tarfile
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder.lab.polling import until
from tests.machine import hosts

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from builder.lab.net import Namespace
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

_OPEN = 5000
_CLOSED = 5001
_USER, _PASSWORD = "reader", "secret"
# bcrypt, as docker-registry wants it, of that password.
_HTPASSWD = f"{_USER}:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
_LIST = "application/vnd.oci.image.manifest.v1+json"
# First boot gives up early here, and registries speak plain HTTP.
_FILES = {
    "/etc/systemd/system/er-first-boot.service.d/50-lab.conf": (
        b"[Service]\nBindReadOnlyPaths=/etc/lab-server.env:/etc/easyrunner/server.env\n"
    ),
    "/etc/lab-server.env": b"NAME=pull1\nREADY_TIMEOUT=15\n",
    "/etc/containers/registries.conf.d/50-lab.conf": b"".join(
        f'[[registry]]\nlocation = "registry.test:{port}"\ninsecure = true\n'.encode() for port in (_OPEN, _CLOSED)
    ),
}


@dataclass
class Registry:
    """Two doors to one store: anybody's, and one with a password."""

    place: Namespace
    directory: Path

    def _settings(self, port: int) -> Path:
        file = self.directory / f"{port}.json"
        password = self.directory / "htpasswd"
        password.write_text(_HTPASSWD)
        settings: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.directory / "store")}},
            "http": {"addr": f"0.0.0.0:{port}"},
        }
        if port == _CLOSED:
            settings["auth"] = {"htpasswd": {"realm": "lab", "path": str(password)}}
        file.write_text(json.dumps(settings))
        return file

    def start(self) -> list[subprocess.Popen[bytes]]:
        """Both, as a program of this machine in the registry's namespace."""
        assert shutil.which("docker-registry"), "apt-get install docker-registry"
        ports = (_OPEN, _CLOSED)
        return [self.place.start(["docker-registry", "serve", str(self._settings(port))]) for port in ports]

    def up(self) -> bool:
        """Whether it answers."""
        look = ["curl", "-s", "-o", "/dev/null", f"http://127.0.0.1:{_OPEN}/v2/"]
        return self.place.run(look, check=False).returncode == 0

    def push(self, archive: Path, name: str) -> None:
        """An OCI archive's image, by the registry's own protocol."""
        with tarfile.open(archive) as tar:
            items = [item for item in tar if "/sha256/" in item.name]
            blobs = {f"sha256:{item.name.rpartition('/')[2]}": tar.extractfile(item) for item in items}
            contents = {digest: file.read() for digest, file in blobs.items() if file is not None}
            index = tar.extractfile("index.json")
            assert index is not None
            manifest = json.loads(index.read())["manifests"][0]["digest"]
        for digest, content in contents.items():
            if digest != manifest:
                self._upload(name, digest, content)
        self._send("PUT", f"/v2/{name}/manifests/1", contents[manifest], _LIST)

    def _upload(self, name: str, digest: str, content: bytes) -> None:
        place = self._send("POST", f"/v2/{name}/blobs/uploads/", b"", "text/plain")
        mark = "&" if "?" in place else "?"
        self._send("PUT", f"{place}{mark}digest={digest}", content, "application/octet-stream")

    def _send(self, method: str, place: str, body: bytes, kind: str) -> str:
        url = place if place.startswith("http") else f"http://{self.place.ipv4}:{_OPEN}{place}"
        request = urllib.request.Request(url, body, {"Content-Type": kind}, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers.get("Location", ""))


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
        return text.replace(f"{_OPEN}/app:1", f"{_OPEN}/later:1")

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
    word = base64.b64encode(f"{_USER}:{password}".encode()).decode()
    text = json.dumps({"auths": {f"registry.test:{_CLOSED}": {"auth": word}}})
    place = "/var/lib/easyrunner/config/$(id -u er-closed)/containers"
    line = f"install -D -m 640 -g er-closed /dev/stdin {place}/auth.json"
    host.machine.run(line, stdin=text.encode())


def _restart(host: Host) -> None:
    host.machine.run("systemctl --user restart --no-block closed-web.service", user="er-closed")


def test_a_public_image_is_pulled_at_first_boot(served: World) -> None:
    """By the stack's user, and the app answers."""
    assert _answers(served.host, "open")
    images = served.host.machine.run("podman images --format '{{.Repository}}:{{.Tag}}'", user="er-open").stdout
    assert f"registry.test:{_OPEN}/app:1" in images


def test_an_image_that_is_refused_hurts_nobody_else(served: World) -> None:
    """No password: the others answer, SSH works, and the console names the one that does not."""
    assert "missing: closed/web" in _not_ready(served.host)
    assert "open/web" not in _not_ready(served.host)
    assert _answers(served.host, "here")
    assert served.host.ssh("true").returncode == 0
    assert not _answers(served.host, "closed")


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


def test_a_private_image_is_pulled_with_the_users_password(served: World) -> None:
    """The admin puts auth.json into the user's home; a restart uses it, and so does the next boot."""
    _credentials(served.host, _PASSWORD)
    _restart(served.host)
    served.host.machine.wait(lambda: _answers(served.host, "closed"), timeout=60, what="the stack")
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
