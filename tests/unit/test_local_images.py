"""Images that are here: what is read of a layout or an archive, which one is picked, and what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.oci import engines, image_archive, local_images
from builder.problems import UserError
from tests import local_images as made
from tests.local_images import Layout

if TYPE_CHECKING:
    from builder.oci.local_images import LocalImage

BASE = made.layer({"base": b"b" * 2000}, zipped=True)
TOP = made.layer({"hello": b"hello"})


def _contents(image: LocalImage) -> list[bytes]:
    found = []
    for layer in image.layers:
        with layer.open() as stream:
            found.append(stream.read())
    return found


def _check(image: LocalImage, *layers: made.Blob) -> None:
    """Each layer with its digests, size and content."""
    assert [(one.digest, one.diff_id, one.size, one.compression) for one in image.layers] == [
        (one.digest, one.diff_id, len(one.content), one.compression) for one in layers
    ]
    assert _contents(image) == [one.content for one in layers]


@pytest.mark.parametrize("form", ["directory", "archive"])
def test_an_oci_layout(tmp_path: Path, form: str) -> None:
    """What podman save writes, and Docker since 25: compressed or not, layer by layer."""
    layout = made.one([BASE, TOP])
    path = layout.in_directory(tmp_path) if form == "directory" else layout.in_archive(tmp_path / "image.tar")
    image = local_images.read(path, "amd64")
    _check(image, BASE, TOP)
    assert image.id == made.sha256(made.config([BASE, TOP]))
    assert not image.docker


def test_what_er_writes_itself(tmp_path: Path) -> None:
    """The archives of examples and tests."""
    path = tmp_path / "app.tar"
    files = [image_archive.ImageFile("app", b"program", 0o755)]
    image_archive.write(path, files, image_archive.ImageConfig(entrypoint=("/app",)))
    image = local_images.read(path, "amd64")
    assert json.loads(image.config)["config"] == {"Entrypoint": ["/app"]}
    assert [one.compression for one in image.layers] == ["gzip"]


def test_the_form_of_docker_before_25(tmp_path: Path) -> None:
    """A layer's digest is that of its tar, which the configuration has; a layer that comes twice is a link."""
    settings = made.config([TOP, TOP])
    image = local_images.read(made.old_docker_archive(tmp_path / "app.tar", settings, [TOP, TOP]), "amd64")
    _check(image, TOP, TOP)
    assert image.config == settings
    assert image.docker


def test_a_compressed_layer_in_dockers_old_form(tmp_path: Path) -> None:
    """Other builders write such; its own digest is computed."""
    path = made.old_docker_archive(tmp_path / "app.tar", made.config([BASE]), [BASE])
    _check(local_images.read(path, "amd64"), BASE)


def test_docker_writes_both_forms(tmp_path: Path) -> None:
    """Docker 25 and later: an OCI layout, and its old manifest.json beside it."""
    layout = made.one([TOP])
    files = {**layout.files, "manifest.json": b'[{"Config": "elsewhere", "Layers": []}]'}
    (tmp_path / "both.tar").write_bytes(made.tar(files))
    _check(local_images.read(tmp_path / "both.tar", "amd64"), TOP)


def test_a_health_check_stays(tmp_path: Path) -> None:
    """Podman reads one of images in Docker's format alone, and Docker saves its own in OCI's."""
    check = {"Test": ["CMD", "true"]}
    image = local_images.read(made.one([TOP], Healthcheck=check).in_directory(tmp_path), "amd64")
    assert image.docker


def _index_of_docker(*architectures: str, complete: str) -> Layout:
    """What Docker with containerd's store saves: an index below the index, one architecture whole, and attestations."""
    inner = Layout()
    for architecture in architectures:
        inner.add_image([made.layer({"of": architecture.encode()}, zipped=True)], architecture, docker=True)
    attestation = made.manifest(b"{}", [TOP])
    notes = {"vnd.docker.reference.type": "attestation-manifest"}
    inner.add(attestation, b"{}")
    inner.manifests.append(
        made.descriptor(
            f"{made.OCI}manifest.v1+json",
            attestation,
            annotations=notes,
            platform={"os": "unknown", "architecture": "unknown"},
        )
    )
    index = json.dumps({"schemaVersion": 2, "manifests": inner.manifests}).encode()
    kept = {
        name: content
        for name, content in inner.blobs.items()
        if complete in {"all", ""} or not _is_other(inner, name, complete)
    }
    outer = Layout(kept)
    outer.add(index)
    notes = {"io.containerd.image.name": "docker.io/library/app:1", "org.opencontainers.image.ref.name": "1"}
    outer.manifests.append(made.descriptor(f"{made.OCI}index.v1+json", index, annotations=notes))
    return outer


def _is_other(layout: Layout, name: str, architecture: str) -> bool:
    others = [one for one in layout.manifests if one["platform"]["architecture"] not in {architecture, "unknown"}]
    return any(name == f"blobs/{one['digest'].replace(':', '/')}" for one in others)


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_the_servers_architecture_is_picked(tmp_path: Path, architecture: str) -> None:
    path = _index_of_docker("amd64", "arm64", complete="all").in_archive(tmp_path / "app.tar")
    image = local_images.read(path, architecture)
    _check(image, made.layer({"of": architecture.encode()}, zipped=True))
    assert image.docker


def test_an_index_with_one_architecture_that_is_here(tmp_path: Path) -> None:
    """The others are in the index and nowhere else: refused, with what is here."""
    path = _index_of_docker("amd64", "arm64", complete="arm64").in_archive(tmp_path / "app.tar")
    _check(local_images.read(path, "arm64"), made.layer({"of": b"arm64"}, zipped=True))
    with pytest.raises(UserError, match="the image is for linux/arm64, the server is linux/amd64") as raised:
        local_images.read(path, "amd64")
    assert "--platform linux/amd64" in str(raised.value.hint)


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_another_architecture_is_refused(tmp_path: Path, form: str) -> None:
    if form == "oci":
        path = made.one([TOP], "arm64").in_directory(tmp_path)
    else:
        path = made.old_docker_archive(tmp_path / "app.tar", made.config([TOP], "arm64"), [TOP])
    with pytest.raises(UserError, match="the image is for linux/arm64, the server is linux/amd64"):
        local_images.read(path, "amd64")


def test_several_images_are_told_apart_by_name(tmp_path: Path) -> None:
    layout = Layout()
    layout.add_image([BASE], name="one")
    layout.add_image([TOP], name="two")
    path = layout.in_archive(tmp_path / "images.tar")
    with pytest.raises(UserError, match="holds several images: one, two"):
        local_images.read(path, "amd64")
    _check(local_images.read(path, "amd64", "two"), TOP)
    with pytest.raises(UserError, match="holds no image three"):
        local_images.read(path, "amd64", "three")


def test_the_same_image_under_two_names_is_one(tmp_path: Path) -> None:
    layout = Layout()
    layout.add_image([TOP], name="1")
    layout.add_image([TOP], name="latest")
    _check(local_images.read(layout.in_directory(tmp_path), "amd64"), TOP)


def _without_a_layer(layout: Layout) -> Layout:
    del layout.blobs[f"blobs/sha256/{made.sha256(TOP.content)}"]
    return layout


def _with_other_layers(layout: Layout) -> Layout:
    settings = made.config([BASE, TOP])
    content = made.manifest(settings, [TOP])
    layout.add(settings, content)
    layout.manifests = [made.descriptor(f"{made.OCI}manifest.v1+json", content)]
    return layout


def _with_a_digest_of_a_path(layout: Layout) -> Layout:
    layout.manifests[0]["digest"] = "sha256:../../../../etc/passwd"
    return layout


def _in_circles(layout: Layout) -> Layout:
    index = json.dumps({"manifests": [{"mediaType": f"{made.OCI}index.v1+json", "digest": "sha256:" + "0" * 64}]})
    layout.blobs["blobs/sha256/" + "0" * 64] = index.encode()
    layout.manifests = json.loads(index)["manifests"]
    return layout


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_a_layer, "lacks 1 of the image's layers"),
        (_with_other_layers, "is damaged"),
        (_with_a_digest_of_a_path, "is damaged"),
        (_in_circles, "the image is for no platform, the server is linux/amd64"),
    ],
)
def test_a_damaged_layout_is_refused(tmp_path: Path, change: object, said: str) -> None:
    layout = change(made.one([BASE, TOP]))  # type: ignore[operator]
    with pytest.raises(UserError, match=said):
        local_images.read(layout.in_directory(tmp_path), "amd64")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is no tar file"),
        (b"no image", "is no tar file"),
        (gzip.compress(made.tar({"index.json": b"{}"})), "unpack a compressed one first"),
        (made.tar({"readme": b"hello"}), "holds no image"),
        (made.tar({"index.json": b"[" * 100_000}), "is damaged"),
        (made.tar({"manifest.json": b'[{"Config": "x"}]'}), "is damaged"),
        (made.one([BASE, TOP]).in_archive(Path("/dev/null")).name.encode(), "is no tar file"),
    ],
)
def test_a_file_that_is_no_image(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UserError) as raised:
        local_images.read(tmp_path / "file", "amd64")
    assert said in f"{raised.value.message} {raised.value.hint}"


def test_an_archive_that_was_cut_off(tmp_path: Path) -> None:
    path = made.one([made.layer({"large": bytes(50_000)}), TOP]).in_archive(tmp_path / "app.tar")
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(UserError, match=r"app\.tar is no tar file, or not the whole of one"):
        local_images.read(path, "amd64")


@pytest.mark.parametrize("prefix", ["", "oci:", "file:"])
def test_a_path_with_and_without_its_transport(tmp_path: Path, prefix: str) -> None:
    path = made.one([TOP]).in_directory(tmp_path / "layout")
    if prefix == "file:":
        path, prefix = made.one([TOP]).in_archive(tmp_path / "app.tar"), "oci-archive:"
    _check(engines.find(f"{prefix}{path}", "amd64", tmp_path), TOP)


def test_a_transport_with_a_name(tmp_path: Path) -> None:
    layout = Layout()
    layout.add_image([BASE], name="one")
    layout.add_image([TOP], name="two")
    path = layout.in_archive(tmp_path / "images.tar")
    _check(engines.find(f"oci-archive:{path}:two", "amd64", tmp_path), TOP)
    with pytest.raises(UserError, match="there is no"):
        engines.find(f"oci:{tmp_path}/none", "amd64", tmp_path)


class _Engines:
    """What docker and podman would answer, by program."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, archive: Path, **answers: str) -> None:
        self.answers, self.archive = answers, archive
        self.saved: tuple[str, ...] = ()
        monkeypatch.setattr(shutil, "which", lambda name: name if name in answers else None)
        monkeypatch.setattr(process, "run", self.run)
        monkeypatch.setattr(process, "into", self.into)

    def run(self, argv: list[str], **_: object) -> object:
        answer = self.answers[argv[0]]
        code = 0 if answer[:3] in {"sha", "abc"} else 1
        return subprocess.CompletedProcess(argv, code, "" if code else answer, answer if code else "")

    def into(self, argv: list[str], target: object) -> None:
        self.saved = tuple(argv)
        target.write(self.archive.read_bytes())  # type: ignore[attr-defined]


_OCI_KIND = "application/vnd.oci.image.manifest.v1+json"
_DOCKER_KIND = "application/vnd.docker.distribution.manifest.v2+json"
_ABSENT = {"docker": "Error response from daemon: No such image: app:1", "podman": "Error: app:1: image not known"}


@pytest.mark.parametrize(
    ("answers", "image", "saved"),
    [
        ({"docker": "sha256:abc"}, "app:1", ("docker", "save", "app:1")),
        (
            {"podman": f"abc {_OCI_KIND}"},
            "app:1",
            ("podman", "save", "--quiet", "--format", "oci-archive", "--uncompressed", "app:1"),
        ),
        (
            {"podman": f"abc {_DOCKER_KIND}"},
            "app:1",
            ("podman", "save", "--quiet", "--format", "docker-archive", "app:1"),
        ),
        ({"docker": _ABSENT["docker"], "podman": f"abc {_DOCKER_KIND}"}, "app:1", ("podman", "save")),
        ({"docker": "sha256:abc", "podman": f"abc {_OCI_KIND}"}, "app:1", ("docker", "save")),
        ({"docker": "sha256:abc", "podman": f"abcd {_OCI_KIND}"}, "podman:app:1", ("podman", "save")),
    ],
)
def test_who_has_the_image_saves_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: dict[str, str], image: str, saved: tuple[str, ...]
) -> None:
    archive = made.one([TOP]).in_archive(tmp_path / "app.tar")
    known = _Engines(monkeypatch, archive, **answers)
    (tmp_path / "scratch").mkdir()
    _check(engines.find(image, "amd64", tmp_path / "scratch"), TOP)
    assert known.saved[: len(saved)] == saved


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({}, "no image app:1 here: neither docker nor podman is installed"),
        (_ABSENT, "docker and podman here have no image app:1"),
        ({"docker": "Cannot connect to the Docker daemon"}, "docker says: Cannot connect to the Docker daemon"),
        ({"docker": "sha256:abc", "podman": f"abcd {_OCI_KIND}"}, "docker and podman have different images app:1"),
    ],
)
def test_an_image_that_nobody_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: dict[str, str], said: str
) -> None:
    _Engines(monkeypatch, tmp_path, **answers)
    with pytest.raises(UserError) as raised:
        engines.find("app:1", "amd64", tmp_path)
    assert said in raised.value.message
