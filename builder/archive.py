"""Looks into an OCI archive: which file capabilities does the program that it runs carry?

Formats: OCI image layout, https://github.com/opencontainers/image-spec; struct vfs_cap_data, linux/capability.h.
"""

from __future__ import annotations

import json
import struct
import tarfile
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathlib import Path

_XATTR: Final = "SCHILY.xattr.security.capability"
# linux/capability.h, by bit.
_NAMES: Final = tuple(
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    """.split()  # noqa: SIM905 - a table to compare with the header, not a list of literals
)
_EFFECTIVE: Final = 1


@lru_cache
def file_capabilities(path: Path, entrypoint: str | None, command: str | None) -> tuple[str, ...]:
    """Names of the capabilities that the program needs to be executed at all; none when it cannot be told.

    `entrypoint` and `command` are first words that replace the image's own. Without these capabilities in its
    bounding set the kernel refuses to execute a file that is marked effective.
    """
    try:
        with tarfile.open(path) as archive:
            return _in_archive(archive, entrypoint, command)
    except (tarfile.TarError, KeyError, ValueError, OSError, IndexError, TypeError, EOFError):
        return ()


def _in_archive(archive: tarfile.TarFile, entrypoint: str | None, command: str | None) -> tuple[str, ...]:
    index = _json(archive, "index.json")
    manifest = _json(archive, _blob(index["manifests"][0]["digest"]))
    config = _json(archive, _blob(manifest["config"]["digest"])).get("config") or {}
    own_entrypoint, own_command = (next(iter(config.get(key) or ()), None) for key in ("Entrypoint", "Cmd"))
    program = entrypoint or own_entrypoint or command or own_command or ""
    wanted = _paths(program, config.get("Env") or [])
    found: tuple[str, ...] = ()
    for layer in manifest["layers"]:
        stream = _open(archive, _blob(layer["digest"]))
        with tarfile.open(fileobj=stream, mode="r|*") as files:
            for member in files:
                if member.name.lstrip("./") in wanted:
                    found = _decoded(member.pax_headers.get(_XATTR, ""))
    return found


def _paths(program: str, environment: list[str]) -> set[str]:
    """Where the program can be, without a leading slash: its own path, or each directory of PATH."""
    if "/" in program:
        return {program.lstrip("/")}
    search = next((line.removeprefix("PATH=") for line in environment if line.startswith("PATH=")), "/usr/bin:/bin")
    return {f"{folder.strip('/')}/{program}" for folder in search.split(":")}


def _decoded(value: str) -> tuple[str, ...]:
    data = value.encode("utf-8", "surrogateescape")
    if len(data) < 8:
        return ()
    magic, permitted = struct.unpack_from("<II", data)
    if not magic & _EFFECTIVE:
        return ()
    return tuple(name for bit, name in enumerate(_NAMES) if permitted >> bit & 1)


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _json(archive: tarfile.TarFile, name: str) -> dict[str, Any]:
    value = json.loads(_open(archive, name).read())
    if not isinstance(value, dict):
        raise TypeError(name)
    return value


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream
