"""What a container can write to: volumes, bind mounts, tmpfs, and the read-only root."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from builder.quadlet.unit_file import line, word
from builder.stack import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.quadlet.unit_file import Entry
    from builder.stack.model import Mount, Secret, Service, Stack

_SAFE: Final = ("rw", "noexec", "nosuid", "nodev")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_/.@+=-]+:")
_SHM: Final = "/dev/shm"  # noqa: S108 - a path inside the container
_TEMPORARY: Final = ("/tmp", "/var/tmp", _SHM)  # noqa: S108 - paths inside the container
_SHM_SIZE: Final = 64 * 1024 * 1024  # Podman's and Docker's default


def mounts(stack: Stack, service: Service) -> Iterator[Entry]:
    """The entries of [Container] for everything that is mounted."""
    for mount in service.mounts:
        yield _mount(_volume(stack, service, mount))
    if service.read_only or service.hardening == "strict":
        yield "ReadOnly", "true"
        # Podman's own tmpfs would be mounted without noexec.
        yield "ReadOnlyTmpfs", "false"
    for tmpfs in service.tmpfs:
        options = ",".join(tmpfs.options)
        yield "Tmpfs", line(f"{tmpfs.target}:{options}" if options else tmpfs.target)
    yield from _temporary(service)
    for secret in service.secrets:
        yield "Secret", word(_secret(secret))


def _mount(volume: str) -> Entry:
    """Volume=, or an argument where the path needs quotes, as Podman copies it unquoted to RequiresMountsFor=."""
    if volume.startswith("/") and not _PLAIN_PATH.match(volume):
        return "PodmanArgs", word(f"--volume={volume}")
    return "Volume", line(volume)


def _volume(stack: Stack, service: Service, mount: Mount) -> str:
    options = ["ro"] if mount.read_only else []
    if mount.kind == "volume":
        source = names.volume_unit(stack.name, mount.source)
        options += [] if mount.copy else ["nocopy"]
    elif names.is_brought(stack, mount):
        source, options = names.file_path(stack.name, mount.source), ["ro"]
    else:
        source = names.data_path(stack.name, mount.source)
        # The directory is the stack user's, root inside; a service with another user gets it made its own.
        options += ["U"] if _not_root(service) and not mount.read_only else []
    return ":".join([source, mount.target, *([",".join(options)] if options else [])])


def _not_root(service: Service) -> bool:
    return service.user is not None and service.user.partition(":")[0] not in ("0", "root")


def _temporary(service: Service) -> Iterator[Entry]:
    """Hardening: temporary directories are mounted noexec. What the user mounted there stays."""
    if service.hardening == "off":
        if service.shm_size is not None:
            yield "ShmSize", str(service.shm_size)
        return
    targets = [mount.target for mount in service.mounts] + [tmpfs.target for tmpfs in service.tmpfs]
    taken = {_inside_container(target) for target in targets}
    directories = (*_TEMPORARY, "/run") if service.hardening == "strict" else _TEMPORARY
    for directory in directories:
        if directory not in taken:
            yield "Tmpfs", f"{directory}:{','.join((*_SAFE, *_more_options(directory, service)))}"


def _inside_container(target: str) -> str:
    """A path inside the container; /var/run is /run in nearly every image."""
    path = posixpath.normpath(target)
    return "/run" if path == "/var/run" else path


def _more_options(directory: str, service: Service) -> tuple[str, ...]:
    if directory == "/run":
        return ("mode=755",)
    size = _SHM_SIZE if service.shm_size is None else service.shm_size
    return ("mode=1777", f"size={size}") if directory == _SHM else ("mode=1777",)


def _secret(secret: Secret) -> str:
    options = {
        "target": secret.target,
        "uid": secret.uid,
        "gid": secret.gid,
        "mode": secret.mode,
    }
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return ",".join([secret.name, "type=mount", *given])
