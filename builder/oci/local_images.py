"""An image that is here, as a value: from an OCI layout, or from an archive in OCI's form or in Docker's.

`docker save` writes an OCI layout as an archive since Docker 25, and before that a form of its own, which Podman still
writes for images in Docker's format. A layer is read where it is; nothing is unpacked.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

from builder.oci import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opener = Callable[[], IO[bytes]]
    Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer as it is here: the digest of its bytes, that of the tar in it, how many bytes, how it is compressed."""

    digest: str
    diff_id: str
    size: int
    compression: str
    open: Opener


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image: its configuration, byte for byte; whether it keeps health checks, as Docker's format does; layers."""

    config: bytes
    docker: bool
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """The digest of its configuration, in hexadecimal: what Docker and Podman call it."""
        return hashlib.sha256(self.config).hexdigest()


class _Files(Protocol):
    """The files of a layout or an archive, by name."""

    def has(self, name: str) -> bool: ...

    def size(self, name: str) -> int: ...

    def open(self, name: str) -> IO[bytes]: ...


class _Directory:
    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, name: str) -> bool:
        return (self._path / name).is_file()

    def size(self, name: str) -> int:
        return (self._path / name).stat().st_size

    def open(self, name: str) -> IO[bytes]:
        return (self._path / name).open("rb")


class _Archive:
    """A tar file; in a compressed one every look at a layer would begin anew, so it has to be a plain one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with tarfile.open(path, mode="r:") as archive:
            self._members = {str(PurePosixPath(member.name)): member for member in archive}
        end = max((member.offset_data + member.size for member in self._members.values() if member.isreg()), default=0)
        if end > path.stat().st_size:
            raise tarfile.ReadError(path)

    def has(self, name: str) -> bool:
        return str(PurePosixPath(name)) in self._members

    def size(self, name: str) -> int:
        return self._member(name).size

    def open(self, name: str) -> IO[bytes]:
        member = self._member(name)
        return io.BufferedReader(_Window(self._path, member.offset_data, member.size))

    def _member(self, name: str) -> tarfile.TarInfo:
        """Docker of before has a layer in several places, as links to the first. Raises KeyError."""
        member = self._members[str(PurePosixPath(name))]
        if member.issym():
            parts: list[str] = []
            for part in (PurePosixPath(member.name).parent / member.linkname).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            member = self._members["/".join(parts)]
        if not member.isreg():
            raise KeyError(name)
        return member


class _Window(io.RawIOBase):
    """Some bytes of a file as a file."""

    def __init__(self, path: Path, start: int, size: int) -> None:
        self._stream = path.open("rb")
        self._start, self._size, self._at = start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._stream.seek(self._start + self._at)
        content = self._stream.read(min(len(buffer), max(self._size - self._at, 0)))
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)

    def close(self) -> None:
        self._stream.close()
        super().close()


# The most that a description in an image may be, in bytes.
_MAX_JSON: Final = 4 << 20
# How deep indexes may lie in each other.
_MAX_DEPTH: Final = 3
_MANIFESTS: Final = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_INDEXES: Final = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
# Annotations that name an image in an index.
_NAMES: Final = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


def read(path: Path, architecture: str, name: str = "") -> LocalImage:
    """The image of this architecture (as images have it: amd64, arm64) in a layout or an archive.

    `name` says which, where there are several. Raises UserError.
    """
    try:
        files: _Files = _Directory(path) if path.is_dir() else _Archive(path)
        if files.has("index.json"):
            return _from_layout(files, path, architecture, name)
        if files.has("manifest.json"):
            return _from_docker_archive(files, path, architecture, name)
    except tarfile.TarError:
        raise messages.no_archive(path) from None
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, RecursionError, EOFError):
        raise messages.damaged(path) from None
    raise messages.no_image(path)


@dataclass(frozen=True, slots=True)
class _Found:
    """A manifest of a layout, what the index calls it, and its configuration."""

    names: tuple[str, ...]
    manifest: Json
    config: bytes

    @property
    def platform(self) -> str:
        settings = json.loads(self.config)
        return f"{settings.get('os')}/{settings.get('architecture')}"


def _from_layout(files: _Files, path: Path, architecture: str, name: str) -> LocalImage:
    every = [one for one in _manifests(files, _json(files, "index.json")) if name in {"", *one.names}]
    if name and not every:
        raise messages.no_such_name(path, name)
    found = {one.config: one for one in every if one.platform == f"linux/{architecture}"}
    if not found:
        raise messages.wrong_architecture(sorted({one.platform for one in every}), architecture)
    if len(found) > 1:
        raise messages.several(path, [one.names[0] for one in found.values() if one.names])
    (one,) = found.values()
    settings = json.loads(one.config)
    docker = one.manifest.get("mediaType") == _MANIFESTS[1] or bool(settings.get("config", {}).get("Healthcheck"))
    blobs = [_blob(layer["digest"]) for layer in one.manifest["layers"]]
    return LocalImage(one.config, docker, _layers(files, path, blobs, settings, checked=True))


def _manifests(files: _Files, index: Json, names: tuple[str, ...] = (), depth: int = 0) -> Iterator[_Found]:
    """The images of an index whose manifest is here: Docker may save an index and one architecture of it alone."""
    for entry in index["manifests"]:
        kind = entry.get("mediaType", _MANIFESTS[0])
        notes = entry.get("annotations") or {}
        own = tuple(notes[key] for key in _NAMES if key in notes) or names
        if kind not in {*_MANIFESTS, *_INDEXES} or not files.has(_blob(entry["digest"])):
            continue
        found = _json(files, _blob(entry["digest"]))
        if kind in _INDEXES:
            if depth < _MAX_DEPTH:
                yield from _manifests(files, found, own, depth + 1)
        # What BuildKit says of how an image was made stands in the index as an image of no platform.
        elif "vnd.docker.reference.type" not in notes and files.has(_blob(found["config"]["digest"])):
            yield _Found(own, {"mediaType": kind, **found}, _bytes(files, _blob(found["config"]["digest"])))


def _from_docker_archive(files: _Files, path: Path, architecture: str, name: str) -> LocalImage:
    with files.open("manifest.json") as stream:
        every = json.loads(stream.read(_MAX_JSON))
    found = {one["Config"]: one for one in every if not name or name in (one.get("RepoTags") or ())}
    if name and not found:
        raise messages.no_such_name(path, name)
    if len(found) > 1:
        raise messages.several(path, [tag for one in found.values() for tag in one.get("RepoTags") or ()])
    (one,) = found.values()
    config = _bytes(files, one["Config"])
    settings = json.loads(config)
    platform = f"{settings.get('os')}/{settings.get('architecture')}"
    if platform != f"linux/{architecture}":
        raise messages.wrong_architecture([platform], architecture)
    return LocalImage(config, docker=True, layers=_layers(files, path, one["Layers"], settings, checked=False))


def _layers(files: _Files, path: Path, names: list[str], settings: Json, *, checked: bool) -> tuple[Layer, ...]:
    """`checked`: whether a file's name is its digest."""
    diff_ids = settings["rootfs"]["diff_ids"]
    if len(diff_ids) != len(names) or not names:
        raise ValueError(names)
    if missing := [name for name in names if not files.has(name)]:
        raise messages.layers_missing(path, len(missing))
    return tuple(_layer(files, name, diff_id, checked=checked) for name, diff_id in zip(names, diff_ids, strict=True))


def _layer(files: _Files, name: str, diff_id: str, *, checked: bool) -> Layer:
    compression = _compression(files, name)
    digest = f"sha256:{name.rpartition('/')[2]}" if checked else diff_id
    if compression and not checked:
        with files.open(name) as stream:
            digest = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"  # type: ignore[arg-type]
    return Layer(digest, diff_id, files.size(name), compression, lambda: files.open(name))


# How a compressed layer begins: media types do not always say what is there.
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


def _compression(files: _Files, name: str) -> str:
    with files.open(name) as stream:
        start = stream.read(4)
    return next((found for magic, found in _MAGIC.items() if start.startswith(magic)), "")


def _blob(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256" or len(value) != 64 or not value.isalnum():
        raise ValueError(digest)
    return f"blobs/{algorithm}/{value}"


def _json(files: _Files, name: str) -> Json:
    value = json.loads(_bytes(files, name))
    if not isinstance(value, dict):
        raise TypeError(name)
    return value


def _bytes(files: _Files, name: str) -> bytes:
    if files.size(name) > _MAX_JSON:
        raise ValueError(name)
    with files.open(name) as stream:
        return stream.read()
