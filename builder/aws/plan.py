"""`er launch --dry-run`: what exists, what would be created, whether EC2 would allow it, and about what it costs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder import problem_report
from builder.aws import existing, fleet, host_spec
from builder.aws.errors import AwsError
from builder.aws.request import look_up
from builder.aws.resources import RESOURCES
from builder.aws.resources.instance import Successor
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request
    from builder.aws.resources.lifecycle import Ids
    from builder.userdata.cloudconfig import On


@dataclass(frozen=True, slots=True)
class Entry:
    """A kind of resource: the ids that exist (None: unknown), how many would be created, and what in words."""

    title: str
    summary: str
    existing: Ids | None
    missing: int
    refusal: AwsError | None = None

    @property
    def lines(self) -> Iterator[str]:
        """For a person."""
        state = "would make" if self.missing == 1 else f"make {self.missing}"
        state = "refused" if self.refusal else state if self.missing else "is there"
        yield f"  {state:<10} {self.title}: {self.summary}"
        if self.existing:
            yield f"  {'':<10} {' '.join(self.existing)}"

    @property
    def json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "part": self.title,
            "what": self.summary,
            "there": None if self.existing is None else list(self.existing),
            "missing": self.missing,
            "refused": self.refusal.message if self.refusal else None,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What a launch would do, for a person and for --json; what EC2 would refuse, or why it was not asked."""

    lines: tuple[str, ...]
    json: dict[str, Any]
    refusals: tuple[AwsError, ...] = ()
    errors: tuple[AwsError, ...] = ()


def plan(api: Api, request: Request) -> Plan:
    """Look, and ask EC2 about what would be created; nothing is changed. Raises UserError."""
    looked_up = look_up(api, request)
    found = fleet.look(api, looked_up) if request.spec.fleet else existing.look(api, looked_up)
    request = found.request
    entries = tuple(_entries(api, found))
    size, hourly = len(found.user_data), estimate(api, found.instance_type.name)
    balancer = estimate_balancer(api) if request.spec.fleet else None
    subnets = " and ".join(subnet.id for subnet in found.subnets[: request.zone_count])
    lines = (
        f"  account {found.account}, {found.region}, {subnets} of {found.subnet.vpc}",
        *(line for entry in entries for line in entry.lines),
        f"  user-data  {size:,} bytes",
        *(f"  warning    {text}" for text in found.warnings),
        *([] if hourly is None else [f"  {_price(request, hourly, balancer)}"]),
    )
    value = {
        "account": found.account,
        "region": found.region,
        "vpc": found.subnet.vpc,
        "subnet": found.subnet.id,
        "image": {"id": found.image.id, "name": found.image.name, "kind": found.image.on},
        "user_data": size,
        "usd_per_hour": hourly,
        **({"usd_per_hour_of_balancer": balancer} if request.spec.fleet else {}),
        "parts": [entry.json for entry in entries],
        "unknown": [],
        "missing": [],
    }
    return Plan(lines, value, refusals=tuple(entry.refusal for entry in entries if entry.refusal))


def replacement(api: Api, request: Request) -> Iterator[str]:
    """What a replacement would do; nothing is changed. Raises UserError for what cannot be replaced."""
    found = existing.look(api, look_up(api, request), replacing=True)
    pair = existing.find_pair(api, request)
    verb = "would go back" if pair.given_up else "would go on" if pair.new else "would replace"
    yield f"  {verb}  {pair.old.id} by {pair.new.id if pair.new else 'a new server'}"
    yield f"  new server     {Successor.summary(found.request, found)}"
    zones = [pair.new.zone] if pair.new else [subnet.zone for subnet in found.subnets]
    if pair.zone in zones:
        yield f"  would move     {pair.volume} and {pair.address}"
    if others := [zone for zone in zones if zone != pair.zone]:
        when = f"without capacity in {pair.zone}: " if pair.zone in zones else ""
        way = f"{pair.volume} to {' or '.join(others)}, by two snapshots"
        yield f"  would copy     {when}{way}; and move {pair.address}"
    for text in found.warnings:
        yield f"  warning        {text}"


def _entries(api: Api, prerequisites: Prerequisites) -> Iterator[Entry]:
    request = prerequisites.request
    ids: dict[str, Ids] = {}
    for kind in (kind for kind in RESOURCES if kind.count(request)):
        resource = kind(prerequisites, ids)
        existing = ids[kind.part] = resource.look(api)
        asked = resource.missing and kind.dry_run
        refusal = api.permitted(kind.creation, **resource.parameters()) if asked else None
        yield Entry(kind.title, kind.summary(request, prerequisites), existing, resource.missing, refusal)
    for domain, zone in zip(request.domains, prerequisites.zones, strict=False):
        yield Entry("DNS record", f"{domain} in the zone {zone.name}", (), 1)


_HOURS_A_MONTH: Final = 730  # as AWS counts


def estimate(api: Api, instance_type: str) -> float | None:
    """What it costs, from the public price list: dollars an hour, or None. Never a reason to fail."""
    try:
        return hourly_price(api.call("GetProducts", **_price_query(instance_type, api.region))["PriceList"])
    except (AwsError, KeyError, TypeError, ValueError):
        return None


def _price_query(instance_type: str, region: str) -> dict[str, Any]:
    """The parameters that find the on-demand price of a Linux server."""
    fields = {
        "instanceType": instance_type,
        "regionCode": region,
        "operatingSystem": "Linux",
        "preInstalledSw": "NA",
        "tenancy": "Shared",
        "capacitystatus": "Used",
    }
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
    return {"ServiceCode": "AmazonEC2", "Filters": filters, "MaxResults": 10}


def hourly_price(products: Iterable[str]) -> float | None:
    """Dollars an hour, from products as the API lists them, each a JSON text."""
    for product in products:
        for term in json.loads(product).get("terms", {}).get("OnDemand", {}).values():
            for dimension in term.get("priceDimensions", {}).values():
                price = float(dimension.get("pricePerUnit", {}).get("USD", 0))
                if price and dimension.get("unit") == "Hrs":
                    return price
    return None


_BALANCER_PRICE: Final = {"productFamily": "Load Balancer-Network", "operation": "LoadBalancing:Network"}


def estimate_balancer(api: Api) -> float | None:
    """What a Network Load Balancer costs, in dollars an hour, or None; the units that it passes on are not in it."""
    fields = {**_BALANCER_PRICE, "regionCode": api.region}
    filters = [{"Type": "TERM_MATCH", "Field": field, "Value": value} for field, value in fields.items()]
    try:
        products = api.call("GetProducts", ServiceCode="AWSELB", Filters=filters, MaxResults=10)["PriceList"]
        return hourly_price(products)
    except (AwsError, KeyError, TypeError, ValueError):
        return None


def _price(request: Request, hourly: float, balancer: float | None) -> str:
    if request.spec.fleet is None:
        return price_line(hourly, request.options.count)
    least, most = request.fleet.min, request.fleet.max
    return fleet_price_line(hourly, least, most, balancer)


def fleet_price_line(price: float, least: int, most: int, balancer: float | None) -> str:
    """The price of a fleet for a person: of its least and its most hosts, with the balancer where that is known."""
    sums = [(price * hosts + (balancer or 0)) * _HOURS_A_MONTH for hosts in (least, most)]
    month = f"${sums[0]:.2f}" if least == most else f"${sums[0]:.2f} to ${sums[1]:.2f}"
    hosts = f"{least}" if least == most else f"{least} to {most}"
    plus = f" + ${balancer:.4f} of the balancer" if balancer else ", and the balancer"
    return (
        f"about ${price:.4f} an hour x {hosts}{plus}, {month} a month, on demand; "
        "disks, public addresses, what the balancer passes on, and traffic come on top"
    )


def price_line(price: float, count: int) -> str:
    """The price for a person."""
    times = f" x {count}" if count > 1 else ""
    month = price * count * _HOURS_A_MONTH
    return f"about ${price:.4f} an hour{times}, ${month:.2f} a month, on demand; disk, address and traffic come on top"


def outline(request: Request, region: str | None, errors: Iterable[AwsError]) -> Plan:
    """The plan as far as spec and options tell it, where AWS cannot be asked. Raises UserError when no user-data fits.

    In its JSON null is unknown; user_data has the bytes by kind of image.
    """
    options, errors = request.options, tuple(errors)
    entries, sizes, calls = _entries_unseen(request), _user_data_sizes(request), _first_calls(request)
    unknown = ["what is there already", *([] if options.subnet else ["the network"]), "the image", "the price"]
    lines = (
        f"  account unknown, {region or 'region unknown'}",
        *(line for entry in entries for line in entry.lines),
        f"  user-data  {', '.join(f'{size:,} bytes for a {on} image' for on, size in sizes.items())}",
        f"  unknown    {', '.join(unknown)}",
        f"  would ask  {', '.join(calls)}",
    )
    ami = options.image if options.image and options.image.startswith("ami-") else None
    value = {
        "account": None,
        "region": region,
        "vpc": options.vpc,
        "subnet": options.subnet,
        "image": {"id": ami, "name": None, "kind": None if ami else options.image or None},
        "user_data": sizes,
        "usd_per_hour": None,
        "parts": [entry.json for entry in entries],
        "unknown": unknown,
        "asks": list(calls),
        "missing": problem_report.missing(errors),
    }
    return Plan(lines, value, errors=errors)


def _entries_unseen(request: Request) -> list[Entry]:
    counts = {kind: kind.count(request) for kind in RESOURCES}
    entries = [Entry(kind.title, kind.summary(request, None), None, count) for kind, count in counts.items() if count]
    domains = request.domains if request.spec.dns == "route53" else ()
    return [*entries, *(Entry("DNS record", domain, None, 1) for domain in domains)]


def _user_data_sizes(request: Request) -> dict[str, int]:
    """For the kinds of image that it may be, and for which it is not too long."""
    if request.spec.fleet:
        return {"baked": len(host_spec.outline(request.spec))}
    kinds: tuple[On, ...] = ("baked", "stock")
    sizes: dict[str, int] = {}
    for on in (on for on in kinds if request.options.image not in kinds or request.options.image == on):
        try:
            sizes[on] = len(request.user_data(on))
        except UserError:
            if on == "stock" and not sizes:
                raise
    return sizes


def _first_calls(request: Request) -> tuple[str, ...]:
    """The operations that a launch begins with."""
    first = ("GetCallerIdentity", "DescribeInstanceTypes", "DescribeImages")
    vpc = () if request.options.subnet or request.options.vpc else ("DescribeVpcs",)
    subnet = ("DescribeSubnets", "DescribeInstanceTypeOfferings", "DescribeRouteTables")
    zones = ("ListHostedZones",) if request.spec.dns == "route53" else ()
    return (*first, *vpc, *subnet, *zones)
