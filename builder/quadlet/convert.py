"""A stack as Quadlet units, for the Podman of one base."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.quadlet import names
from builder.quadlet.container import container
from builder.quadlet.options import defaults
from builder.quadlet.podman_keys import BASES
from builder.quadlet.unit_file import Section, Unit, word

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.quadlet.podman_keys import Podman
    from builder.stack.model import Network, Stack, Volume


def units(stack: Stack, *, base: str, server: str | None = None) -> tuple[tuple[str, str], ...]:
    """The Quadlets of a stack as (file name, text), sorted by name. `server` is the name services are told."""
    podman = BASES[base]
    return tuple(sorted((unit.filename, str(unit)) for unit in _units(stack, podman, server)))


def _units(stack: Stack, podman: Podman, server: str | None) -> Iterator[Unit]:
    for service in stack.services:
        yield container(stack, service, podman, server)
    for volume in stack.volumes:
        yield _volume(stack, volume, podman)
    for network in stack.networks:
        yield _network(stack, network, podman)


def _volume(stack: Stack, volume: Volume, podman: Podman) -> Unit:
    entries = [("VolumeName", names.volume(stack.name, volume.name))]
    entries += [("Label", word(f"{key}={value}")) for key, value in volume.labels]
    filename = names.volume_unit(stack.name, volume.name)
    return _plain(filename, f"{stack.name}: volume {volume.name}", Section("Volume", tuple(entries)), podman)


def _network(stack: Stack, network: Network, podman: Podman) -> Unit:
    entries = [("NetworkName", names.network(stack.name, network.name))]
    entries += [(key, "true") for key in ("Internal", "IPv6") if getattr(network, key.lower())]
    filename = names.network_unit(stack.name, network.name)
    return _plain(filename, f"{stack.name}: network {network.name}", Section("Network", tuple(entries)), podman)


def _plain(filename: str, title: str, section: Section, podman: Podman) -> Unit:
    head = Section("Unit", (("Description", title),))
    return Unit(filename, (head, Section("Quadlet", defaults(podman)), section))
