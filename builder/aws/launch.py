"""The engine of `er launch`: what is there, what is made, and the wait until the server proves itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from builder.aws import dns, readiness
from builder.aws.api import PACE, Clock, Pace, persist
from builder.aws.prerequisites import Prerequisites, look_up
from builder.aws.resources import base as resources
from builder.aws.resources.base import Servers
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.aws.api import Api
    from builder.aws.progress import Timed
    from builder.aws.readiness import Proof, Site
    from builder.aws.request import Request
    from builder.aws.resources.instance import Server


@dataclass(frozen=True, slots=True)
class Settings:
    """How to wait: `timeout` seconds at most, at this pace; where host keys go, and which key to log in with."""

    known_hosts: Path
    timeout: float = 900
    pace: Pace = PACE
    wait: bool = True
    identity: Path | None = None


@dataclass(frozen=True, slots=True)
class Launched:
    """What there is now. `records` are what the domains need, `set_` those that were set in Route 53 by this run."""

    ground: Prerequisites
    servers: tuple[Server, ...]
    made: Mapping[str, tuple[str, ...]]
    records: tuple[dns.Record, ...] = ()
    set_: tuple[dns.Record, ...] = ()
    proofs: tuple[Proof, ...] = ()
    sites: tuple[Site, ...] = ()


class StayingError(Exception):
    """The server is made and stays, but has not proved itself; `cause` says why, `stays` what to do about it."""

    def __init__(self, cause: UserError | KeyboardInterrupt, stays: str) -> None:
        self.cause = cause
        self.stays = stays
        super().__init__(str(cause))


def remedy(name: str, region: str) -> str:
    """The command that removes a server and all that belongs to it."""
    return f"er destroy {name} --region {region}"


def launch(door: Api, order: Request, settings: Settings, told: Timed) -> Launched:
    """Make the server, or take it up where it is.

    Raises UserError when there is no server: then nothing is left, or the hint says what.
    Raises StayingError when there is one that has not proved itself.
    """
    clock = Clock(settings.timeout, settings.pace)
    with told.step("look around"):
        ground = look_up(door, order)
    wanted = resources.parts(order, ground, settings.pace)
    made = resources.make(door, wanted, told, settings.pace, remedy(order.name, door.region))
    try:
        return _prove(door, order, settings, Launched(ground, (), made), clock=clock, told=told)
    except (UserError, KeyboardInterrupt) as error:
        ids = " ".join(made[Servers.name])
        take_up = "the same command takes it up again"
        stays = f"{order.name} stays ({ids}): {take_up}, `{remedy(order.name, door.region)}` removes it"
        raise StayingError(error, stays) from error


def _prove(door: Api, order: Request, settings: Settings, done: Launched, *, clock: Clock, told: Timed) -> Launched:
    servers = resources.find(door, done.made[Servers.name])
    done = replace(done, servers=servers, records=dns.records(order.domains, servers))
    if done.ground.hosted:
        with told.step("DNS records"):
            put = partial(dns.put, door, order.domains, done.ground.hosted, servers)
            done = replace(done, set_=persist(put, settings.pace, told.line))
    if not settings.wait:
        return done
    proofs = tuple(readiness.prove(door, one, order, settings, clock=clock, told=told) for one in servers)
    return replace(done, proofs=proofs, sites=readiness.serve(order, proofs, clock, told))
