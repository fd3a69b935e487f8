"""What a launch stands on: looked up first, nothing made. What can be refused beforehand is refused here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder.aws import dns, images, kinds, place
from builder.problems import SpecError, UserError
from builder.userdata import requirements

if TYPE_CHECKING:
    from builder.aws.api import Door
    from builder.aws.dns import Zone
    from builder.aws.images import Image
    from builder.aws.kinds import Kind
    from builder.aws.place import Place
    from builder.aws.request import Order


@dataclass(frozen=True, slots=True)
class Ground:
    """Account and region, and what was chosen there; `zones` are Route 53 zones of the domains, where it is asked."""

    account: str
    region: str
    image: Image
    kind: Kind
    place: Place
    user_data: bytes = field(repr=False)
    zones: tuple[str, ...] = ()
    hosted: tuple[Zone, ...] = ()


def survey(door: Door, order: Order) -> Ground:
    """Look everything up; raises UserError or AwsError."""
    account = door.call("GetCallerIdentity")["Account"]
    wishes = order.wishes
    kind = kinds.look_up(door, order.type, order.spec.server.arch)
    _check_kind(kind, order)
    image = images.choose(door, order)
    where = place.choose(door, wishes, kind.name)
    _check_archives(order, image)
    # Before anything is made: this raises when EC2 would refuse the length.
    user_data = order.user_data(image.on)
    hosted = dns.of(order.domains, dns.all_(door)) if order.spec.dns == "route53" else ()
    ids = tuple(sorted({zone.id for zone in hosted}))
    return Ground(account, door.region, image, kind, where, user_data, ids, hosted)


def _check_archives(order: Order, image: Image) -> None:
    """A baked image may hold them; whether it does, first boot will tell."""
    found = requirements.problems(order.spec, image.on)
    if any(problem.severity == "error" for problem in found):
        raise SpecError(found)


def _check_kind(kind: Kind, order: Order) -> None:
    if order.wishes.ipv6 and not kind.ipv6:
        raise UserError(f"{kind.name} has no IPv6", "take a type of this century, or leave --ipv6 out")
    if order.wishes.spot and not kind.spot:
        raise UserError(f"{kind.name} is not offered as Spot", "another --type, or leave --spot out")
