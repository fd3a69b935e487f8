"""`er server push` on a booted host: what goes over the wire, what is refused, and that what ran runs on.

An app with a base of 20 MB; what Docker saves is written here byte by byte, Podman's own is that of the host.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shlex
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.oci import engines
from builder.polling import until
from builder.problems import UserError
from builder.server import Remote, push
from tests import local_images as made
from tests.local_images import Blob, Layout
from tests.machine import hosts
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    import subprocess

    from builder.oci.local_images import LocalImage
    from builder.server.ssh import Server
    from tests.server.conftest import Client

pytestmark = pytest.mark.machine

MB = 1_000_000
# What the calls of one push are, besides the layers: handshakes, and once the remote part.
CALLS = 150_000


def _random(name: str, size: int) -> Blob:
    """A layer that nothing makes smaller."""
    content = made.tar({name: os.urandom(size)})
    return Blob(content, f"sha256:{hashlib.sha256(content).hexdigest()}")


@dataclass
class World:
    """The host and its admin; a layout with images of one base, of which it has the app but not the 20 MB."""

    web: Client
    layout: Layout
    directory: Path
    app: Blob
    base: Blob
    settings: dict[str, Any]

    @property
    def server(self) -> Remote:
        """The host, by this directory's config."""
        return Remote("web", ("-F", str(self.web.directory / "config")))

    def image(self, name: str, *layers: Blob, architecture: str = "amd64", **more: Any) -> str:
        """Add one to the layout; returns what er is told of it."""
        self.layout.add_image([*layers], architecture, name=name, **{**self.settings, **more})
        self.layout.in_directory(self.directory)
        self.layout.blobs.clear()
        return f"oci:{self.directory}:{name}"

    def read(self, image: str) -> LocalImage:
        """As er reads it."""
        return engines.find(image, "amd64", self.directory)

    def push(self, *words: object) -> subprocess.CompletedProcess[str]:
        """By the command."""
        return self.web.er("push", *words)

    def runs(self, stack: str = "hello", container: str = "web") -> str:
        """The id of the image that runs."""
        argv = ["podman", "inspect", "--format", "{{.Image}}", container]
        return self.web.host.machine.run(argv, user=f"er-{stack}").stdout.strip()

    def answers(self) -> bool:
        """Whether a visitor is answered."""
        return self.web.host.curl("https://hello.example.com/").stdout.startswith("HTTP/2 200")

    def received(self) -> int:
        """Bytes that have come to the host over its network card."""
        lines = self.web.host.machine.run("cat /proc/net/dev").stdout.splitlines()
        cards = (line.split(":") for line in lines if ":" in line)
        return sum(int(counts.split()[0]) for name, counts in cards if name.strip() != "lo")

    def left(self) -> str:
        """What pushes have left on the host."""
        return self.web.host.machine.run("find /var/lib/easyrunner/pushes -type f ! -name lock").stdout


@pytest.fixture(scope="module")
def web(looked_at: Client) -> Client:
    return looked_at


@pytest.fixture(scope="module")
def world(web: Client, tmp_path_factory: pytest.TempPathFactory) -> World:
    directory = tmp_path_factory.mktemp("images")
    with tarfile.open(hosts.IMAGES / "app.tar") as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        contents = {name: stream.read() for name, stream in files.items() if stream is not None}
    index = json.loads(contents["index.json"])
    manifest = json.loads(contents[f"blobs/{index['manifests'][0]['digest'].replace(':', '/')}"])
    settings = json.loads(contents[f"blobs/{manifest['config']['digest'].replace(':', '/')}"])
    content = contents[f"blobs/{manifest['layers'][0]['digest'].replace(':', '/')}"]
    app = Blob(content, settings["rootfs"]["diff_ids"][0])
    return World(web, Layout(), directory, app, _random("base", 20 * MB), settings["config"])


@dataclass
class First:
    """The first push of an image with the base: what er said, and how many bytes the host received."""

    change: Blob
    done: subprocess.CompletedProcess[str]
    received: int


@pytest.fixture(scope="module")
def first(world: World) -> First:
    """The host has the base from here on."""
    change = made.layer({"change": b"1" * 1000})
    image = world.image("1", world.app, world.base, change)
    before = world.received()
    done = world.push("hello", image, "--json")
    return First(change, done, world.received() - before)


def _missing(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return [one["digest"] for one in json.loads(done.stdout)["layers_missing"]]


def test_only_what_is_missing_goes_over_the_wire(world: World, first: First) -> None:
    """First the base, and not the app's layer, which is there. It runs then."""
    assert _missing(first.done) == [world.base.digest, first.change.digest]
    assert first.received < 1.05 * (len(world.base.content) + len(first.change.content))
    end = json.loads(first.done.stdout)
    assert (end["phase"], end["release"]["source"]) == ("done", "push")
    assert world.runs() == end["id"]
    assert world.answers()


@pytest.mark.usefixtures("first")
def test_of_a_change_its_layer_alone_is_sent(world: World) -> None:
    """1 kB; and the same image again needs nothing but the calls."""
    change = made.layer({"change": os.urandom(1000)}, zipped=True)
    image = world.image("2", world.app, world.base, change)
    for missing in ([change.digest], []):
        before = world.received()
        done = world.push("hello/web", image, "--json")
        assert _missing(done) == missing
        received = world.received() - before
        print(f"of a change of {len(change.content)} bytes the server received {received}")
        assert received < 1.05 * len(change.content) + CALLS
        assert world.runs() == json.loads(done.stdout)["id"]
    assert world.answers()
    assert world.left() == ""


@pytest.mark.usefixtures("first")
def test_a_dry_run_begins_nothing(world: World) -> None:
    image = world.image("3", world.app, world.base, made.layer({"change": b"3"}))
    done = world.push("hello", image, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "the server lacks 1, 10.2 kB" in done.stderr
    assert world.left() == ""


_CUTS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95]


def test_a_push_that_is_cut_goes_on_where_it_stopped(world: World) -> None:
    """Cut again and again, at growing parts of the whole: each time the same command sends the rest."""
    size = 10 * MB
    large = _random("large", size)
    image = world.image("cut", world.app, large)
    ran = world.runs()
    here = 0
    for part in sample(_CUTS, [0.4, 0.9]):
        limit = int(part * size) - here + 300_000
        script = shlex.join([sys.executable, str(Path(__file__).with_name("cut_connection.py"))])
        done = world.push("hello", image, "-o", f"ProxyCommand={script} %h %p {limit}", "-o", "ControlPath=none")
        assert done.returncode == 1
        assert "the same command goes on where it stopped" in done.stderr
        (one,) = push.missing(world.server, "hello", "web", world.read(image), look=True)
        assert here <= one.here <= part * size + 300_000, "what was there is there still"
        here = one.here
        assert world.runs() == ran
        assert world.answers()
    before = world.received()
    done = world.push("hello", image, "--json")
    assert json.loads(done.stdout)["layers_missing"] == [
        {"digest": large.digest, "size": len(large.content), "here": here}
    ]
    assert world.received() - before < 1.05 * (len(large.content) - here) + CALLS
    assert world.runs() == json.loads(done.stdout)["id"]


def test_another_architecture_is_refused(world: World) -> None:
    """Here, before anything is sent; and there, whoever asks."""
    ran = world.runs()
    image = world.image("arm", world.app, made.layer({"arm": b"64"}), architecture="arm64")
    done = world.push("hello", image)
    assert done.returncode == 1
    assert "the image is for linux/arm64, the server is linux/amd64" in done.stderr
    assert "--platform linux/amd64" in done.stderr
    with pytest.raises(UserError, match="the image is for linux/arm64, the server is linux/amd64"):
        push.missing(world.server, "hello", "web", engines.find(image, "arm64", world.directory))
    assert world.runs() == ran


@pytest.mark.parametrize(
    ("service", "image", "said"),
    [
        ("nobody", "app:1", "there is no stack nobody"),
        ("../hello", "app:1", "there is no stack .."),
        ("hello/none", "app:1", "the stack hello has no service none"),
        ("shop", "app:1", "the stack shop has several services"),
        ("hello", "er-none:1", "image er-none:1"),
        ("hello", "oci:/none", "there is no /none"),
    ],
)
def test_a_wrong_name_is_explained(world: World, service: str, image: str, said: str) -> None:
    """Before an image is saved for nothing."""
    done = world.push(service, image)
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.usefixtures("first")
def test_two_stacks_share_a_base(world: World) -> None:
    """The admin sends it once; who may have the stack's own alone is not given it, and not told of it."""
    image = world.read(world.image("shared", world.app, world.base, made.layer({"notes": b"shared"})))
    own = [
        {"digest": one.digest, "diff_id": one.diff_id, "size": one.size, "compression": one.compression}
        for one in image.layers
    ]
    described = json.dumps({"config": image.config.decode(), "docker": False, "layers": own}).encode()
    asked = world.server.ask("push-missing", "notes", "site", "own", stdin=described)
    assert world.base.digest in {one["digest"] for one in asked["missing"]}
    missing = push.missing(world.server, "notes", "site", image)
    assert [one.layer.digest for one in missing] == [image.layers[-1].digest]
    before = world.received()
    name = push.push(world.server, "notes", "site", image)
    assert world.received() - before < CALLS
    argv = ["podman", "image", "inspect", "--format", "{{json .RootFS.Layers}}", name]
    found = world.web.host.machine.run(argv, user="er-notes").stdout
    assert json.loads(found) == [world.app.diff_id, world.base.diff_id, image.layers[-1].diff_id]
    assert world.left() == ""


@of_a_sweep
def test_a_health_check_of_dockers_form_stays(world: World) -> None:
    """As Docker saves it, in its old form; then out of a real Podman here, into another stack."""
    check = {"Test": ["CMD", "true"], "Interval": 5_000_000_000}
    layers = [world.app, made.layer({"health": b"check"})]
    settings = made.config(layers, **{**world.settings, "Healthcheck": check})
    content = layers[0].content
    tar = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    plain = [Blob(tar, layers[0].diff_id), layers[1]]
    archive = made.old_docker_archive(world.directory / "docker.tar", settings, plain)
    done = world.push("hello", f"docker-archive:{archive}", "--json")
    assert len(_missing(done)) == 1
    name = json.loads(done.stdout)["image"]
    words = ["podman", "image", "inspect", "--format", "{{json .HealthCheck}}", name]
    assert json.loads(world.web.host.machine.run(words, user="er-hello").stdout) == check
    podman = world.web.directory / "podman"
    podman.write_text(f'#!/bin/sh\nexec {shlex.join(world.web.host.machine.argv(["podman"], user="er-hello"))} "$@"\n')
    podman.chmod(0o755)
    try:
        done = world.push("notes", f"podman:{name}", "--dry-run", "--json")
    finally:
        podman.unlink()
    assert json.loads(done.stdout)["id"] == made.sha256(settings), "the same image, byte for byte"
    assert _missing(done) == [layers[1].digest]


def _layer(one: Blob, **changes: Any) -> dict[str, Any]:
    value = {"digest": one.digest, "diff_id": one.diff_id, "size": len(one.content), "compression": one.compression}
    return {**value, **changes}


def _describe(server: Server, settings: bytes, *layers: dict[str, Any]) -> Any:
    value = {"config": settings.decode(), "docker": False, "layers": layers}
    return server.ask("push-missing", "hello", "web", stdin=json.dumps(value).encode())


def _send(server: Server, line: str, content: bytes) -> Any:
    return server.ask("push-layers", "hello", "web", stdin=[f"{line}\n".encode(), content])


def test_what_is_forged_is_not_taken(world: World) -> None:
    """Digests, offsets, lengths, diff ids: refused by the host, or by Podman as the stack's user; what ran runs on."""
    server, ran = world.server, world.runs()
    one, other = made.layer({"one": b"1" * 5000}), made.layer({"two": b"2" * 5000})
    settings = made.config([one])
    _describe(server, settings, _layer(one))
    size = len(one.content)
    with pytest.raises(UserError, match="it is not taken"):
        _send(server, f"{one.digest} 0 {size}", other.content)
    for line in (
        f"{other.digest} 0 {size}",
        f"{one.digest} 5 {size}",
        f"{one.digest} 0 {size + 1}",
        f"{one.digest} 0 0",
    ):
        with pytest.raises(UserError, match=r"nobody has asked|other bytes are wanted"):
            _send(server, line, one.content)
    for line in ("sha256:../../../etc/passwd 0 5", f"{one.digest} -1 5", f"{one.digest} 0 1e9", "x" * 5000):
        with pytest.raises(UserError, match="is no layer"):
            _send(server, line, b"12345")
    with pytest.raises(UserError, match="the connection was cut"):
        _send(server, f"{one.digest} 0 {size}", one.content[:100])
    with pytest.raises(UserError, match="have not come"):
        server.ask("push-finish", "hello", "web", "forged")
    with pytest.raises(UserError, match="is no tag"):
        server.ask("push-finish", "hello", "web", "--help")
    # The layer is whole, and not the one that the configuration names.
    forged = made.config([other])
    _describe(server, forged, _layer(one, diff_id=other.diff_id, compression="gzip"))
    _send(server, f"{one.digest} 100 {size - 100}", one.content[100:])
    with pytest.raises(UserError, match="Podman does not take the image"):
        server.ask("push-finish", "hello", "web", "forged")
    names = world.web.host.machine.run(["podman", "images", "--format", "{{.Tag}}"], user="er-hello").stdout
    assert "forged" not in names
    assert world.runs() == ran
    assert world.answers()


def test_what_was_left_goes_after_a_day(world: World) -> None:
    """With the next push, whoever's; and with doctor --fix."""
    machine = world.web.host.machine
    one = made.layer({"left": b"over" * 3000})
    _describe(world.server, made.config([one]), _layer(one))
    with pytest.raises(UserError, match="the connection was cut"):
        _send(world.server, f"{one.digest} 0 {len(one.content)}", one.content[:100])
    assert "hello/web/parts" in world.left()
    machine.run("find /var/lib/easyrunner/pushes -exec touch -d '25 hours ago' {} +")
    push.missing(world.server, "notes", "site", world.read(world.image("any", world.app)))
    assert "hello/web" not in world.left()


def _on_a_small_disk(world: World, size: int) -> None:
    """Move all that is below /var/lib/easyrunner onto a file system in memory, with so many MB free."""
    machine = world.web.host.machine
    script = f"""set -e
    users=$(systemctl list-units --no-legend --plain 'user@2*.service' | cut -d' ' -f1)
    systemctl stop er-room.service $users
    mount -t tmpfs -o size=4g small /mnt
    cp -a /var/lib/easyrunner/. /mnt/
    used=$(df --output=used -B1 /mnt | tail -1)
    mount -o remount,size=$(((used + {size * MB}) * 100 / 94)) /mnt
    mount --bind /mnt /var/lib/easyrunner
    umount --lazy /mnt
    systemctl start $users
    """
    machine.run(["bash", "-c", script], timeout=200)
    until(world.answers, timeout=60, what="the app on the small disk")


def _free(world: World) -> int:
    return int(world.web.host.machine.run("df --output=avail -B1 /var/lib/easyrunner | tail -1").stdout)


@of_a_sweep
def test_a_disk_that_is_full(world: World) -> None:
    """Known before: how much is needed, and nothing is sent. Found out in the middle: ended. What ran runs on."""
    ran = world.runs()
    _on_a_small_disk(world, 120)
    image = world.image("large", world.app, _random("more", 100 * MB))
    done = world.push("hello", image)
    assert done.returncode == 1
    assert "this image needs 287 MiB on the server's disk" in done.stderr
    assert "nothing was sent, what runs goes on" in done.stderr
    bomb = _bomb(world)
    started = time.monotonic()
    done = world.push("hello", bomb)
    assert done.returncode == 1
    assert "has become full meanwhile" in done.stderr
    assert time.monotonic() - started < 100
    assert world.runs() == ran
    assert world.answers()
    until(lambda: _free(world) > 100 * MB, timeout=30, what="the room of before")
    image = world.image("small", world.app, made.layer({"small": b"change"}))
    done = world.push("hello", image, "--json")
    assert json.loads(done.stdout)["phase"] == "done", done.stderr


def _bomb(world: World) -> str:
    """A layer of half a GB of nothing, in 3 MB."""
    size = 1 << 29
    header = tarfile.TarInfo("bomb")
    header.size = size
    part = bytes(1 << 26)
    content = gzip.compress(header.tobuf(), mtime=0) + gzip.compress(part, 1, mtime=0) * (size // len(part))
    content += gzip.compress(bytes(1024), mtime=0)
    digest = hashlib.sha256(header.tobuf())
    for _ in range(size // len(part)):
        digest.update(part)
    digest.update(bytes(1024))
    return world.image("bomb", world.app, Blob(content, f"sha256:{digest.hexdigest()}"))
