"""`er launch --dry-run`: what is there, what would be made, and whether EC2 would let it be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.aws import firewall, price, server
from builder.aws.ground import survey
from builder.aws.parts import Addresses, Group, Key, Servers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.aws.door import Door
    from builder.aws.errors import AwsError
    from builder.aws.ground import Ground
    from builder.aws.order import Order
    from builder.aws.part import Ids


@dataclass(frozen=True, slots=True)
class Entry:
    """A part of the server: `there` are the ids that exist, `missing` how many would be made, `what` in words."""

    part: str
    what: str
    there: Ids
    missing: int
    refusal: AwsError | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a launch would do; `hourly` in dollars, where the price list tells."""

    ground: Ground
    entries: tuple[Entry, ...]
    user_data: int
    hourly: float | None

    @property
    def refusals(self) -> tuple[AwsError, ...]:
        """What EC2 would refuse."""
        return tuple(entry.refusal for entry in self.entries if entry.refusal)


def plan(door: Door, order: Order) -> Plan:
    """Look, and ask EC2 about what would be made; nothing is changed."""
    ground = survey(door, order)
    entries = tuple(_entries(door, order, ground))
    return Plan(ground, entries, len(ground.user_data), price.estimate(door, ground.kind.name))


def _entries(door: Door, order: Order, ground: Ground) -> Iterator[Entry]:
    made: dict[str, Ids] = {}
    group, key, servers = Group(order, ground), Key(order), Servers(order, ground)
    made[group.name] = group.look(door)
    refusal = None if made[group.name] else door.permitted("CreateSecurityGroup", **group.request())
    yield Entry(group.title, _rules(order), made[group.name], int(not made[group.name]), refusal)
    if order.key:
        made[key.name] = key.look(door)
        refusal = None if made[key.name] else door.permitted("ImportKeyPair", **key.request())
        yield Entry(key.title, key.label, made[key.name], int(not made[key.name]), refusal)
    yield _servers(door, order, ground, servers, made)
    if order.wishes.eip:
        yield _addresses(door, order)
    for domain, zone in zip(order.domains, ground.hosted, strict=False):
        yield Entry("DNS record", f"{domain} in the zone {zone.name}", (), 1)


def _servers(door: Door, order: Order, ground: Ground, servers: Servers, made: Mapping[str, Ids]) -> Entry:
    there = servers.look(door)
    missing = max(order.wishes.count - len(there), 0)
    # A key pair that does not exist yet would be the objection.
    made = {name: ids for name, ids in made.items() if ids}
    refusal = door.permitted("RunInstances", **servers.request(made, missing)) if missing else None
    return Entry(servers.title, _server(order, ground), there, missing, refusal)


def _addresses(door: Door, order: Order) -> Entry:
    addresses = Addresses(order)
    there = addresses.look(door)
    missing = max(order.wishes.count - len(there), 0)
    refusal = door.permitted("AllocateAddress", **addresses.request()) if missing else None
    return Entry(addresses.title, "Elastic IP", there, missing, refusal)


def _rules(order: Order) -> str:
    rules = sorted(firewall.wanted(order.spec.ssh.allow_from))
    return ", ".join(dict.fromkeys(f"{rule.port}/{rule.protocol}" for rule in rules))


def _server(order: Order, ground: Ground) -> str:
    wishes, image = order.wishes, ground.image
    extras = [word for word in ("spot", "ipv6", "protect") if getattr(wishes, word)]
    disk = server.disk_size(image, wishes.disk)
    words = [f"{ground.kind.name} in {ground.place.zone}", f"{image.on} image {image.id} ({image.name})"]
    return ", ".join([*words, f"{disk} GiB gp3, encrypted", *extras])
