"""Images as Docker, Podman and others leave them on a developer's machine, made here byte by byte.

Docker's own daemon is on no test machine: what it saves is written here as its versions write it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A layer with these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class Blob:
    """A layer as it lies in a layout, and the digest of its tar."""

    content: bytes = field(repr=False)
    diff_id: str

    @property
    def digest(self) -> str:
        return f"sha256:{sha256(self.content)}"

    @property
    def compression(self) -> str:
        return "gzip" if self.content.startswith(b"\x1f\x8b") else ""


def layer(files: Mapping[str, bytes], *, zipped: bool = False) -> Blob:
    """A layer with these files, as a tar or a compressed one."""
    content = tar(files)
    return Blob(gzip.compress(content, 1, mtime=0) if zipped else content, f"sha256:{sha256(content)}")


def config(layers: Iterable[Blob], architecture: str = "amd64", **run: Any) -> bytes:
    """The configuration of an image; `run` is what its containers run."""
    diff_ids = [one.diff_id for one in layers]
    value = {"os": "linux", "architecture": architecture, "config": run}
    return json.dumps({**value, "rootfs": {"type": "layers", "diff_ids": diff_ids}}).encode()


def manifest(settings: bytes, layers: Iterable[Blob], *, docker: bool = False) -> bytes:
    """An image's manifest, in OCI's form or Docker's."""
    kind = f"{DOCKER}distribution.manifest.v2+json" if docker else f"{OCI}manifest.v1+json"
    of_config = f"{DOCKER}container.image.v1+json" if docker else f"{OCI}config.v1+json"
    of_layer = f"{DOCKER}image.rootfs.diff.tar" if docker else f"{OCI}layer.v1.tar"
    separator = "." if docker else "+"
    entries = [descriptor(f"{of_layer}{one.compression and separator}{one.compression}", one.content) for one in layers]
    value = {"schemaVersion": 2, "mediaType": kind, "config": descriptor(of_config, settings), "layers": entries}
    return json.dumps(value).encode()


def descriptor(kind: str, content: bytes, **more: Any) -> dict[str, Any]:
    """What stands for a blob."""
    return {"mediaType": kind, "digest": f"sha256:{sha256(content)}", "size": len(content), **more}


@dataclass
class Layout:
    """An OCI layout: blobs by their digests, and what its index lists."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: list[dict[str, Any]] = field(default_factory=list)

    def add(self, *contents: bytes) -> None:
        """Add blobs."""
        for content in contents:
            self.blobs[f"blobs/sha256/{sha256(content)}"] = content

    def add_image(
        self, layers: list[Blob], architecture: str = "amd64", *, name: str = "", docker: bool = False, **run: Any
    ) -> bytes:
        """Add an image; returns its configuration."""
        settings = config(layers, architecture, **run)
        content = manifest(settings, layers, docker=docker)
        self.add(settings, content, *(one.content for one in layers))
        kind = json.loads(content)["mediaType"]
        notes = {"annotations": {"org.opencontainers.image.ref.name": name}} if name else {}
        platform = {"os": "linux", "architecture": architecture}
        self.manifests.append(descriptor(kind, content, platform=platform, **notes))
        return settings

    @property
    def files(self) -> dict[str, bytes]:
        """All of it, by path."""
        index = {"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": self.manifests}
        return {
            "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
            "index.json": json.dumps(index).encode(),
            **self.blobs,
        }

    def in_directory(self, path: Path) -> Path:
        """Lay it out."""
        for name, content in self.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
        return path

    def in_archive(self, path: Path) -> Path:
        """As one file."""
        path.write_bytes(tar(self.files))
        return path


def one(layers: list[Blob], architecture: str = "amd64", **run: Any) -> Layout:
    """A layout of one image."""
    layout = Layout()
    layout.add_image(layers, architecture, **run)
    return layout


def changed(archive: Path, directory: Path, files: Mapping[str, bytes]) -> str:
    """The image of an OCI archive with these files in a layer of their own; the reference of the layout there."""
    with tarfile.open(archive) as stream:
        found = {one.name: stream.extractfile(one) for one in stream if one.isfile()}
        contents = {name: member.read() for name, member in found.items() if member}

    def blob(entry: Mapping[str, str]) -> bytes:
        return contents[f"blobs/{entry['digest'].replace(':', '/')}"]

    old = json.loads(blob(json.loads(contents["index.json"])["manifests"][0]))
    settings = json.loads(blob(old["config"]))
    pairs = zip(old["layers"], settings["rootfs"]["diff_ids"], strict=True)
    layers = [Blob(blob(entry), diff_id) for entry, diff_id in pairs]
    one([*layers, layer(files)], settings["architecture"], **settings["config"]).in_directory(directory)
    return f"oci:{directory}"


def old_docker_archive(path: Path, settings: bytes, layers: list[Blob], tags: Iterable[str] = ("app:1",)) -> Path:
    """What `docker save` wrote before Docker 25: a directory a layer, and a second place is a link to the first."""
    with tarfile.open(path, mode="w") as archive:
        names: list[str] = []
        seen: dict[str, str] = {}
        for number, one in enumerate(layers):
            names.append(f"{number:064x}/layer.tar")
            member = tarfile.TarInfo(names[-1])
            if one.diff_id in seen:
                member.type, member.linkname = tarfile.SYMTYPE, f"../{seen[one.diff_id]}"
                archive.addfile(member)
            else:
                seen[one.diff_id] = names[-1]
                _add(archive, member, one.content)
        _add(archive, tarfile.TarInfo(f"{sha256(settings)}.json"), settings)
        entry = {"Config": f"{sha256(settings)}.json", "RepoTags": list(tags), "Layers": names}
        _add(archive, tarfile.TarInfo("manifest.json"), json.dumps([entry]).encode())
    return path


def _add(archive: tarfile.TarFile, member: tarfile.TarInfo, content: bytes) -> None:
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
