"""Names and paths of what a stack has on the host, each made in one place."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Collection

    from builder.stack.model import Mount, Service, Stack


# Makes a secret of others; only on hosts that have such a one.
BUILD_SECRET: Final = f"{facts.LIB}/secret"


# Shows the proxy the sockets that apps make themselves; only on hosts that have such.
LISTEN_PROGRAM: Final = f"{facts.LIB}/listen"


def listen_directory(stack: str, service: str) -> str:
    """Where a service makes its own socket: what it puts there counts as its stack's use of the disk.

    On the way there the stack's user may read every directory, or its manager would see nothing happen.
    """
    return f"{facts.LISTEN}/{stack}/own/{service}"


def listen_unit(service: str) -> str:
    """The units that show the proxy an app's socket when it is there, without `.path` or `.service`."""
    return f"er-listen-{service}"


def container_unit(stack: str, service: str) -> str:
    """The Quadlet of a service."""
    return f"{stack}-{service}.container"


def volume_unit(stack: str, volume: str) -> str:
    """The Quadlet of a volume."""
    return f"{stack}-{volume}.volume"


def network_unit(stack: str, network: str) -> str:
    """The Quadlet of a network."""
    return f"{stack}-{network}.network"


def service_unit(stack: str, service: str) -> str:
    """The systemd unit that Podman makes of a service's Quadlet."""
    return f"{stack}-{service}.service"


_IMAGE_NAME: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")


def own_image(stack: str, service: str) -> str:
    """The name, without a tag, of an image that came to the stack's store without a registry: pushed, or built.

    A service's name may have capitals and more, an image's may not: two services never share the name of one.
    """
    if not _IMAGE_NAME.fullmatch(service):
        digest = hashlib.sha256(service.encode()).hexdigest()[:8]
        service = "-".join((*re.findall(r"[a-z0-9]+", service.lower()), digest))
    return f"localhost/{stack}/{service}"


def unit_names(stack: str, *, services: list[str], volumes: list[str], networks: list[str]) -> list[str]:
    """The systemd units that Podman makes of a stack's Quadlets; two of one name would hide each other."""
    return [
        *(service_unit(stack, name) for name in services),
        *(f"{stack}-{name}-volume.service" for name in volumes),
        *(f"{stack}-{name}-network.service" for name in networks),
    ]


def volume(stack: str, name: str) -> str:
    """The Podman volume."""
    return f"{stack}_{name}"


def network(stack: str, name: str) -> str:
    """The Podman network."""
    return f"{stack}_{name}"


def pidfile(stack: str, service: str) -> str:
    """Where Podman writes the pid of the container's first process; %t is the user's runtime directory."""
    return f"%t/{stack}-{service}.pid"


def file_path(stack: str, path: str) -> str:
    """Where a file of the user's lands on the host: root's, so that the app cannot change it."""
    return f"{facts.STACKS}/{stack}/files/{path}"


def data_path(stack: str, path: str) -> str:
    """Where a writable bind mount lives: the stack's own."""
    return f"{facts.STACK_DATA}/{stack}/files/{path}"


def address_file(stack: str, service: str) -> str:
    """What `address` says of a service's networks, one variable for each; %t is the user's runtime directory."""
    return f"%t/{stack}-{service}.address"


# Host numbers of a /24 that services have; below them are those that Podman hands out first.
_NUMBERS: Final = range(129, 254)


def host_numbers(services: Collection[str]) -> dict[str, int]:
    """The last part of the address that each service of a stack has on its networks.

    It follows from the name, so that a service that comes or goes moves no other; of two with the same hash one has the
    next number that is free.
    """
    found: dict[str, int] = {}
    for name in sorted(services):
        first = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) % len(_NUMBERS)
        turn = (*_NUMBERS[first:], *_NUMBERS[:first])
        found[name] = next((number for number in turn if number not in found.values()), turn[0])
    return found


def owners_file(stack: str, service: str) -> str:
    """What `data` says of a service's directories, one variable for each; %t is the user's runtime directory."""
    return f"%t/{stack}-{service}.owners"


def is_brought(stack: Stack, mount: Mount) -> bool:
    """True for a bind mount whose content comes with the host, False for a directory that the app fills."""
    inside = f"{mount.source}/"
    return any(file.path == mount.source or file.path.startswith(inside) for file in stack.files)


def data_directories(stack: Stack, service: Service) -> tuple[str, ...]:
    """The directories that have to exist before a service starts, one inside another after it."""
    filled = (mount for mount in service.mounts if mount.kind == "bind" and not is_brought(stack, mount))
    return tuple(sorted({data_path(stack.name, mount.source) for mount in filled}))
