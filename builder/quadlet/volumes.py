"""What a container can write to: volumes, bind mounts, tmpfs, and the read-only root."""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Final

from builder.quadlet.unit_file import line, word
from builder.stack import names
from builder.stack.model import TMP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.quadlet.unit_file import Entry
    from builder.stack.model import Mount, Service, Stack, Tmpfs
    from builder.stack.secret_references import Secret

_SAFE: Final = ("rw", "noexec", "nosuid", "nodev")
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_/.@+=-]+:")
_SHM: Final = "/dev/shm"  # noqa: S108 - a path inside the container
_TEMPORARY: Final = (TMP, "/var/tmp", _SHM)  # noqa: S108 - paths inside the container
_SHM_SIZE: Final = 64 * 1024 * 1024  # Podman's and Docker's default


def mounts(stack: Stack, service: Service) -> Iterator[Entry]:
    """The entries of [Container] for everything that is mounted."""
    for mount in service.mounts:
        yield _mount(_volume(stack, service, mount), _owner_option(stack, service, mount))
    if service.read_only or service.hardening == "strict":
        yield "ReadOnly", "true"
        # Podman's own tmpfs would be mounted without noexec.
        yield "ReadOnlyTmpfs", "false"
    for tmpfs in service.tmpfs:
        options = ",".join((*tmpfs.options, *_unsaid(tmpfs, service)))
        yield "Tmpfs", line(f"{tmpfs.target}:{options}" if options else tmpfs.target)
    yield from _temporary(service)
    for secret in service.secrets:
        yield "Secret", word(_secret(secret))


def _mount(volume: str, more: str) -> Entry:
    """Volume=, or an argument where the path needs quotes, as Podman copies it unquoted to RequiresMountsFor=.

    `more` are options that systemd puts in place of a variable, after those of the volume.
    """
    if volume.startswith("/") and not _PLAIN_PATH.match(volume):
        argument = word(f"--volume={volume}")
        return "PodmanArgs", f'{argument[:-1]}{more}"' if argument.endswith('"') else f"{argument}{more}"
    return "Volume", f"{line(volume)}{more}"


def _volume(stack: Stack, service: Service, mount: Mount) -> str:
    options = ["ro"] if mount.read_only else []
    if mount.kind == "volume":
        source = names.volume_unit(stack.name, mount.source)
        options += [] if mount.copy else ["nocopy"]
    elif names.is_brought(stack, mount):
        source, options = names.file_path(stack.name, mount.source), ["ro"]
    else:
        source = names.data_path(stack.name, mount.source)
        options = options or (["U"] if _not_root(service) else ["rw"])
    return ":".join([source, mount.target, *([",".join(options)] if options else [])])


def _owner_option(stack: Stack, service: Service, mount: Mount) -> str:
    """The variable for a directory that the app fills: `data` sets it to ,U while that is new, else to nothing.

    The directory is the stack user's, root inside. With the option Podman gives it to the user that the container runs
    as, which only the image may say. A service with a user of its own in the Compose file has the option always.
    """
    if mount.kind != "bind" or mount.read_only or names.is_brought(stack, mount) or _not_root(service):
        return ""
    number = names.data_directories(stack, service).index(names.data_path(stack.name, mount.source))
    return f"${{ER_OWN{number}}}"


def _not_root(service: Service) -> bool:
    return service.user is not None and service.user.partition(":")[0] not in ("0", "root")


def _unsaid(tmpfs: Tmpfs, service: Service) -> Iterator[str]:
    """What a tmpfs of the user's gets beside its options: noexec, as Docker has it, and a size."""
    if service.hardening != "off" and not {"exec", "noexec"} & set(tmpfs.options):
        yield "noexec"
    if not any(option.startswith("size=") for option in tmpfs.options):
        yield from _size(service)


def _size(service: Service) -> Iterator[str]:
    """What is in a tmpfs counts as memory of who wrote it: a full one is told to the app, which is not killed for it.

    Without a limit the kernel's own holds, half of the machine's memory.
    """
    if service.limits.memory is not None:
        yield f"size={service.limits.memory // 2}"


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
    return ("mode=1777", f"size={size}") if directory == _SHM else ("mode=1777", *_size(service))


def _secret(secret: Secret) -> str:
    options = {
        "target": secret.target,
        "uid": secret.uid,
        "gid": secret.gid,
        "mode": secret.mode,
    }
    given = [f"{key}={value}" for key, value in options.items() if value is not None]
    return ",".join([secret.name, "type=mount", *given])
