"""Writes OCI archives: the same bytes for the same files, on any day and machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from builder.files import write as write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar+gzip"
_CAPABILITY: Final = "SCHILY.xattr.security.capability"
# VFS_CAP_REVISION_2 with the effective bit, permitted = CAP_NET_BIND_SERVICE (bit 10), little endian.
NET_BIND_SERVICE: Final = bytes.fromhex("0100000200040000000000000000000000000000")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of an image; a `link` makes it a symbolic link, `directory` an empty directory."""

    path: str
    content: bytes = field(default=b"", repr=False)
    mode: int = 0o644
    link: str | None = None
    directory: bool = False
    capability: bytes | None = None


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """What a container of the image runs when nobody says otherwise."""

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    ports: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    architecture: str = "amd64"


def write(target: Path, files: Iterable[ImageFile], config: ImageConfig, *, name: str = "latest") -> None:
    """Write an image of one layer as an OCI archive; the file appears complete or not at all."""
    layer_tar = _tar(_with_parents(files))
    layer = gzip.compress(layer_tar, compresslevel=1, mtime=0)
    settings = _json(_settings(config, f"sha256:{_digest(layer_tar)}"))
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, settings),
            "layers": [_descriptor(_LAYER, layer)],
        }
    )
    index = _descriptor(_MANIFEST, manifest) | {"annotations": {"org.opencontainers.image.ref.name": name}}
    blobs = [ImageFile(f"blobs/sha256/{_digest(blob)}", blob) for blob in (settings, layer, manifest)]
    archive = _tar(
        [
            *sorted(blobs, key=lambda blob: blob.path),
            ImageFile("index.json", _json({"schemaVersion": 2, "manifests": [index]})),
            ImageFile("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
        ]
    )
    write_file(target, archive)


def _settings(config: ImageConfig, layer: str) -> dict[str, Any]:
    run: dict[str, Any] = {
        "Env": [f"{key}={value}" for key, value in config.environment],
        "Entrypoint": list(config.entrypoint),
        "Cmd": list(config.command),
        "ExposedPorts": {port: {} for port in config.ports},
        "User": config.user,
        "WorkingDir": config.working_dir,
    }
    return {
        "architecture": config.architecture,
        "os": "linux",
        "config": {key: value for key, value in run.items() if value},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
    }


def _with_parents(files: Iterable[ImageFile]) -> list[ImageFile]:
    """Every directory on the way, in order of path, as container engines expect them."""
    entries = {file.path.strip("/"): file for file in files}
    for path in list(entries):
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                entries.setdefault(str(parent), ImageFile(str(parent), mode=0o755, directory=True))
    return [entries[path] for path in sorted(entries)]


def _tar(files: Iterable[ImageFile]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            tar.addfile(_member(file), io.BytesIO(file.content))
    return buffer.getvalue()


def _member(file: ImageFile) -> tarfile.TarInfo:
    member = tarfile.TarInfo(file.path.strip("/"))
    member.mode = file.mode
    if file.directory:
        member.type = tarfile.DIRTYPE
    elif file.link is not None:
        # As tar writes it: the mode of a link is none, and Podman's check of its storage compares.
        member.mode = 0o777
        member.type, member.linkname = tarfile.SYMTYPE, file.link
    else:
        member.size = len(file.content)
    if file.capability is not None:
        # PAX values are UTF-8 text to Python; these bytes are all below 0x80, so they pass unchanged.
        member.pax_headers = {_CAPABILITY: file.capability.decode("ascii")}
    return member


def _descriptor(kind: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "digest": f"sha256:{_digest(blob)}", "size": len(blob)}


def _digest(blob: bytes) -> str:
    return hashlib.sha256(blob).hexdigest()


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
