"""The engine of `er launch`: what is there, what is made, and the wait until the server proves itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.aws import make, ready, running, zones
from builder.aws.ground import Ground, survey
from builder.aws.pace import Clock, Pace
from builder.aws.parts import Servers

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.aws.door import Door
    from builder.aws.order import Order
    from builder.aws.progress import Timed
    from builder.aws.ready import Proof
    from builder.aws.server import Server
    from builder.aws.sites import Site


@dataclass(frozen=True, slots=True)
class Settings:
    """How to wait: `timeout` seconds at most, at this pace; where host keys go, and which key to log in with."""

    known_hosts: Path
    timeout: float = 900
    pace: Pace = Pace()
    wait: bool = True
    identity: Path | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """What there is now. `records` are what the domains need, `set_` those that were set in Route 53 by this run."""

    ground: Ground
    servers: tuple[Server, ...]
    made: Mapping[str, tuple[str, ...]]
    records: tuple[zones.Record, ...]
    set_: tuple[zones.Record, ...] = ()
    proofs: tuple[Proof, ...] = ()
    sites: tuple[Site, ...] = ()


def remedy(name: str, region: str) -> str:
    """The command that removes a server and all that belongs to it."""
    return f"er destroy {name} --region {region}"


def launch(door: Door, order: Order, settings: Settings, told: Timed) -> Launched:
    """Make the server, or take it up where it is; raises UserError, and what that leaves is in its hint."""
    clock = Clock(settings.timeout, settings.pace)
    with told.step("look around"):
        ground = survey(door, order)
    wanted = make.parts(order, ground, settings.pace)
    made = make.make(door, wanted, told, settings.pace, remedy(order.name, door.region))
    servers = running.find(door, made[Servers.name])
    records = zones.records(order.domains, servers)
    set_ = _set_records(door, order, ground, servers, told)
    result = Launched(ground, servers, made, records, set_)
    if not settings.wait:
        return result
    proofs = tuple(ready.prove(door, server, order, settings, clock, told) for server in servers)
    found = ready.sites(order, proofs, clock, told, dns_is_set=order.spec.dns is not None)
    return Launched(ground, servers, made, records, set_, proofs, found)


def _set_records(
    door: Door, order: Order, ground: Ground, servers: tuple[Server, ...], told: Timed
) -> tuple[zones.Record, ...]:
    if not ground.hosted:
        return ()
    with told.step("DNS records"):
        return zones.put(door, order.domains, ground.hosted, servers)
