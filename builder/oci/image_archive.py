"""OCI archives: `write` makes one, `file_capabilities` reads one.

The same files give the same bytes, on any day and machine.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import tarfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, Any, Final

from builder.files import write as write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_PLAIN: Final = "application/vnd.oci.image.layer.v1.tar"
_GZIP: Final = f"{_PLAIN}+gzip"
_CAPABILITY: Final = "SCHILY.xattr.security.capability"
# VFS_CAP_REVISION_2 with the effective bit, permitted = CAP_NET_BIND_SERVICE (bit 10), little endian.
NET_BIND_SERVICE: Final = bytes.fromhex("0100000200040000000000000000000000000000")


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file of an image; a `link` makes it a symbolic link, `directory` an empty directory.

    `capability` is the content of the attribute security.capability; `owner` is its user and its group.
    """

    path: str
    content: bytes = field(default=b"", repr=False)
    mode: int = 0o644
    link: str | None = None
    directory: bool = False
    capability: bytes | None = None
    owner: tuple[int, int] = (0, 0)


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


def write(
    target: Path,
    files: Iterable[ImageFile],
    config: ImageConfig,
    *,
    name: str = "latest",
    base: Path | None = None,
    compressed: bool = True,
) -> None:
    """Write an image of one layer as an OCI archive; the file appears complete or not at all.

    Not `compressed` it is larger, and whoever looks into it need not unpack it. `base` is a tar file that becomes a
    layer below that one, as it is: images of the same base share it.
    """
    layer_tar = _tar(_with_parents(files))
    kind, layer = _PLAIN, layer_tar
    if compressed:
        kind, layer = _GZIP, gzip.compress(layer_tar, compresslevel=1, mtime=0)
    below = [base.read_bytes()] if base else []
    settings = _to_json(_image_config(config, [f"sha256:{_digest(tar)}" for tar in (*below, layer_tar)]))
    manifest = _to_json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, settings),
            "layers": [*(_descriptor(_PLAIN, tar) for tar in below), _descriptor(kind, layer)],
        }
    )
    index = _descriptor(_MANIFEST, manifest) | {"annotations": {"org.opencontainers.image.ref.name": name}}
    blobs = [ImageFile(f"blobs/sha256/{_digest(blob)}", blob) for blob in (settings, *below, layer, manifest)]
    archive = _tar(
        [
            *sorted(blobs, key=lambda blob: blob.path),
            ImageFile("index.json", _to_json({"schemaVersion": 2, "manifests": [index]})),
            ImageFile("oci-layout", _to_json({"imageLayoutVersion": "1.0.0"})),
        ]
    )
    write_file(target, archive)


def _image_config(config: ImageConfig, layers: list[str]) -> dict[str, Any]:
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
        "rootfs": {"type": "layers", "diff_ids": layers},
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
    member.uid, member.gid = file.owner
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


def _to_json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


@lru_cache
def digest(path: Path, changed: int) -> str:  # noqa: ARG001 - a changed file is another key of the cache
    """What tells an archive from another: the SHA-256 of its index, which has the digest of all else.

    Of a file that is compressed, or no archive, it is that of all its bytes.
    """
    with path.open("rb") as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                return _digest(_open(archive, "index.json").read())
        except (tarfile.TarError, KeyError):
            file.seek(0)
            return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache
def file_capabilities(path: Path, entrypoint: str | None, command: str | None) -> tuple[str, ...]:
    """Names of the capabilities that the program needs to be executed at all; none when the archive does not say.

    `entrypoint` and `command` are first words that replace the image's own. Without these capabilities in its
    bounding set the kernel refuses to execute a file that is marked effective.
    """
    try:
        with tarfile.open(path) as archive:
            return _capabilities_of_program(archive, entrypoint, command)
    except (tarfile.TarError, KeyError, ValueError, OSError, IndexError, TypeError, EOFError):
        return ()


def _capabilities_of_program(archive: tarfile.TarFile, entrypoint: str | None, command: str | None) -> tuple[str, ...]:
    index = _read_json(archive, "index.json")
    manifest = _read_json(archive, _blob(index["manifests"][0]["digest"]))
    config = _read_json(archive, _blob(manifest["config"]["digest"])).get("config") or {}
    own_entrypoint, own_command = (next(iter(config.get(key) or ()), None) for key in ("Entrypoint", "Cmd"))
    program = entrypoint or own_entrypoint or command or own_command or ""
    paths = _program_paths(program, config.get("Env") or [])
    found: tuple[str, ...] = ()
    for layer in manifest["layers"]:
        stream = _open(archive, _blob(layer["digest"]))
        with tarfile.open(fileobj=stream, mode="r|*") as files:
            for member in files:
                if member.name.lstrip("./") in paths:
                    found = _decode_capability(member.pax_headers.get(_CAPABILITY, ""))
    return found


def _program_paths(program: str, environment: list[str]) -> set[str]:
    """Where the program can be, without a leading slash: its own path, or each directory of PATH."""
    if "/" in program:
        return {program.lstrip("/")}
    search = next((line.removeprefix("PATH=") for line in environment if line.startswith("PATH=")), "/usr/bin:/bin")
    return {f"{folder.strip('/')}/{program}" for folder in search.split(":")}


# linux/capability.h, by bit.
_CAPABILITY_BITS: Final = tuple(
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    """.split()  # noqa: SIM905 - a table to compare with the header, not a list of literals
)
_EFFECTIVE: Final = 1


def _decode_capability(value: str) -> tuple[str, ...]:
    data = value.encode("utf-8", "surrogateescape")
    if len(data) < 8:
        return ()
    magic, permitted = struct.unpack_from("<II", data)
    if not magic & _EFFECTIVE:
        return ()
    return tuple(name for bit, name in enumerate(_CAPABILITY_BITS) if permitted >> bit & 1)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _read_json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    value = json.loads(_open(archive, name).read())
    if not isinstance(value, dict):
        raise TypeError(name)
    return value


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream
