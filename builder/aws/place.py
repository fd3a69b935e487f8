"""Where a server stands: a subnet with a way to the internet, in a zone that has its type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from builder.aws.api import Door
    from builder.aws.request import Wishes


@dataclass(frozen=True, slots=True)
class Place:
    """A subnet, and its VPC and zone; `ipv6` says that addresses of that family are to be had."""

    vpc: str
    subnet: str
    zone: str
    ipv6: bool


def choose(door: Door, wishes: Wishes, kind: str) -> Place:
    """Look for a place; raises UserError when there is none."""
    subnets = list(door.items("DescribeSubnets", **_query(door, wishes)))
    if not subnets:
        raise UserError(f"{wishes.vpc} has no subnet", "name another VPC, or a subnet: --subnet subnet-…")
    zones = {offer["Location"] for offer in door.items("DescribeInstanceTypeOfferings", **_offers(kind))}
    place = pick(subnets, zones, kind, ipv6=wishes.ipv6)
    _check_way_out(door, place)
    return place


def _query(door: Door, wishes: Wishes) -> dict[str, Any]:
    if wishes.subnet:
        return {"SubnetIds": [wishes.subnet]}
    if wishes.vpc:
        return {"Filters": [{"Name": "vpc-id", "Values": [wishes.vpc]}]}
    vpcs = list(door.items("DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}]))
    if not vpcs:
        raise UserError(
            f"the account has no default VPC in {door.region}",
            "name a network: --vpc vpc-… or --subnet subnet-…; or make one: aws ec2 create-default-vpc",
        )
    return {"Filters": [{"Name": "vpc-id", "Values": [vpcs[0]["VpcId"]]}]}


def _offers(kind: str) -> dict[str, Any]:
    return {
        "LocationType": "availability-zone",
        "Filters": [{"Name": "instance-type", "Values": [kind]}],
    }


def pick(subnets: Iterable[Mapping[str, Any]], zones: Collection[str], kind: str, *, ipv6: bool) -> Place:
    """The first suitable subnet, by zone; the same for every run."""
    places = sorted((_read(subnet) for subnet in subnets), key=lambda place: (place.zone, place.subnet))
    offering = [place for place in places if place.zone in zones]
    if not offering:
        there = ", ".join(sorted({place.zone for place in places}))
        raise UserError(f"{kind} is not to be had in {there}", "another --type, or a --subnet in another zone")
    if ipv6 and not any(place.ipv6 for place in offering):
        raise UserError("no subnet here has IPv6 addresses", "add an IPv6 block to VPC and subnet, or leave --ipv6 out")
    return next(place for place in offering if place.ipv6 or not ipv6)


def _read(subnet: Mapping[str, Any]) -> Place:
    blocks = subnet.get("Ipv6CidrBlockAssociationSet", ())
    ipv6 = any(block.get("Ipv6CidrBlockState", {}).get("State") == "associated" for block in blocks)
    return Place(subnet["VpcId"], subnet["SubnetId"], subnet["AvailabilityZone"], ipv6)


def _check_way_out(door: Door, place: Place) -> None:
    """A subnet without a route to an internet gateway holds servers that nobody reaches."""
    vpc = {"Name": "vpc-id", "Values": [place.vpc]}
    tables = list(door.items("DescribeRouteTables", Filters=[vpc]))
    if tables and not public(tables, place.subnet):
        raise UserError(
            f"{place.subnet} has no route to an internet gateway: nobody could reach the server",
            "name a public subnet: --subnet subnet-…",
        )


def public(tables: Iterable[Mapping[str, Any]], subnet: str) -> bool:
    """Whether the subnet's route table, its own or the main one, leads to an internet gateway."""
    own, main = [], []
    for table in tables:
        links = table.get("Associations", ())
        own += [table] if any(link.get("SubnetId") == subnet for link in links) else []
        main += [table] if any(link.get("Main") for link in links) else []
    routes = [route for table in own or main for route in table.get("Routes", ())]
    return any(str(route.get("GatewayId", "")).startswith("igw-") for route in routes)
