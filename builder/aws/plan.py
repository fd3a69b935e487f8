"""`er launch --dry-run`: what is there, what would be made, and whether EC2 would let it be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.aws import price
from builder.aws.prerequisites import look_up
from builder.aws.resources import instance, security_group
from builder.aws.resources.base import Addresses, Group, Key, Servers
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.aws.api import Api
    from builder.aws.errors import AwsError
    from builder.aws.prerequisites import Prerequisites
    from builder.aws.request import Request
    from builder.aws.resources.base import Ids
    from builder.userdata.cloudconfig import On


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

    ground: Prerequisites
    entries: tuple[Entry, ...]
    user_data: int
    hourly: float | None

    @property
    def refusals(self) -> tuple[AwsError, ...]:
        """What EC2 would refuse."""
        return tuple(entry.refusal for entry in self.entries if entry.refusal)


@dataclass(frozen=True, slots=True)
class Outline:
    """What can be said of a launch without asking AWS; what is there already is not known.

    `user_data` are its bytes by kind of image, `asks` the questions that a launch begins with, `lacking` why they were
    not asked.
    """

    region: str | None
    entries: tuple[Entry, ...]
    user_data: Mapping[str, int]
    unknown: tuple[str, ...]
    asks: tuple[str, ...]
    lacking: tuple[AwsError, ...]


def outline(order: Request, region: str | None, lacking: Iterable[AwsError]) -> Outline:
    """The plan as far as the spec and the options tell it. Raises UserError when no user-data fits."""
    wishes = order.wishes
    unknown = ("what is there already", *([] if wishes.subnet else ["the network"]), "the image", "the price")
    return Outline(region, tuple(_outlined(order)), _sizes(order), unknown, _asks(order), tuple(lacking))


def _sizes(order: Request) -> dict[str, int]:
    """For the kinds of image that it may be, and for which it is not too long."""
    kinds: tuple[On, ...] = ("baked", "stock")
    sizes: dict[str, int] = {}
    for on in (on for on in kinds if order.wishes.image not in kinds or order.wishes.image == on):
        try:
            sizes[on] = len(order.user_data(on))
        except UserError:
            if on == "stock" and not sizes:
                raise
    return sizes


def _asks(order: Request) -> tuple[str, ...]:
    first = ("GetCallerIdentity", "DescribeInstanceTypes", "DescribeImages")
    vpc = () if order.wishes.subnet or order.wishes.vpc else ("DescribeVpcs",)
    place = ("DescribeSubnets", "DescribeInstanceTypeOfferings", "DescribeRouteTables")
    zones = ("ListHostedZones",) if order.spec.dns == "route53" else ()
    return (*first, *vpc, *place, *zones)


def _outlined(order: Request) -> Iterator[Entry]:
    count = order.wishes.count
    yield Entry(Group.title, _rules(order), (), 1)
    if order.key:
        yield Entry(Key.title, Key(order).label, (), 1)
    yield Entry(Servers.title, _wished(order), (), count)
    if order.wishes.eip:
        yield Entry(Addresses.title, "Elastic IP", (), count)
    for domain in order.domains if order.spec.dns == "route53" else ():
        yield Entry("DNS record", domain, (), 1)


def _wished(order: Request) -> str:
    wishes = order.wishes
    image = wishes.image or f"newest baked image of {order.spec.server.base}, else its stock image"
    where = wishes.subnet or wishes.vpc or "the default VPC"
    image = f"{image} image of {order.spec.server.base}" if wishes.image in ("stock", "baked") else image
    return ", ".join([f"{order.type} in {where}", image, _disk(wishes.disk), *_extras(order)])


def _disk(size: int) -> str:
    return f"{size} GiB gp3, encrypted"


def _extras(order: Request) -> list[str]:
    return [word for word in ("spot", "ipv6", "protect") if getattr(order.wishes, word)]


def plan(door: Api, order: Request) -> Plan:
    """Look, and ask EC2 about what would be made; nothing is changed."""
    ground = look_up(door, order)
    entries = tuple(_entries(door, order, ground))
    return Plan(ground, entries, len(ground.user_data), price.estimate(door, ground.kind.name))


def _entries(door: Api, order: Request, ground: Prerequisites) -> Iterator[Entry]:
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


def _servers(door: Api, order: Request, ground: Prerequisites, servers: Servers, made: Mapping[str, Ids]) -> Entry:
    there = servers.look(door)
    missing = max(order.wishes.count - len(there), 0)
    # A key pair that does not exist yet would be the objection.
    made = {name: ids for name, ids in made.items() if ids}
    refusal = door.permitted("RunInstances", **servers.request(made, missing)) if missing else None
    return Entry(servers.title, _server(order, ground), there, missing, refusal)


def _addresses(door: Api, order: Request) -> Entry:
    addresses = Addresses(order)
    there = addresses.look(door)
    missing = max(order.wishes.count - len(there), 0)
    refusal = door.permitted("AllocateAddress", **addresses.request()) if missing else None
    return Entry(addresses.title, "Elastic IP", there, missing, refusal)


def _rules(order: Request) -> str:
    rules = sorted(security_group.wanted(order.spec.ssh.allow_from))
    return ", ".join(dict.fromkeys(f"{rule.port}/{rule.protocol}" for rule in rules))


def _server(order: Request, ground: Prerequisites) -> str:
    wishes, image = order.wishes, ground.image
    disk = instance.disk_size(image, wishes.disk)
    words = [f"{ground.kind.name} in {ground.place.zone}", f"{image.on} image {image.id} ({image.name})"]
    return ", ".join([*words, _disk(disk), *_extras(order)])
