"""The subnets that a server may be made in: public ones, in zones that have its instance type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from builder.aws.api import Api


@dataclass(frozen=True, slots=True, order=True)
class Subnet:
    """A subnet, its VPC, availability zone and networks; `ipv6` says that it gives addresses of that family."""

    zone: str
    id: str
    vpc: str
    ipv6: bool
    networks: tuple[str, ...] = ()


def choose(api: Api, instance_type: str, *, vpc: str | None, subnet: str | None, ipv6: bool) -> tuple[Subnet, ...]:
    """A subnet in each zone, in the order in which they are tried: of a VPC, the default one, or this very subnet.

    Raises UserError when there is none.
    """
    described = list(api.items("DescribeSubnets", **_query(api, vpc, subnet)))
    if not described:
        raise UserError(f"{vpc} has no subnet", "name another VPC, or a subnet: --subnet subnet-…")
    offers = api.items("DescribeInstanceTypeOfferings", **_offerings_query(instance_type))
    suitable = pick(described, {offer["Location"] for offer in offers}, instance_type, ipv6=ipv6)
    tables = list(api.items("DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [suitable[0].vpc]}]))
    return _one_each(reachable(suitable, tables, ipv6=ipv6))


def _query(api: Api, vpc: str | None, subnet: str | None) -> dict[str, Any]:
    if subnet:
        return {"SubnetIds": [subnet]}
    return {"Filters": [{"Name": "vpc-id", "Values": [vpc or _default_vpc(api)]}]}


def _default_vpc(api: Api) -> str:
    vpcs = list(api.items("DescribeVpcs", Filters=[{"Name": "is-default", "Values": ["true"]}]))
    if not vpcs:
        raise UserError(
            f"the account has no default VPC in {api.region}",
            "name a network: --vpc vpc-… or --subnet subnet-…; or make one: aws ec2 create-default-vpc",
        )
    return str(vpcs[0]["VpcId"])


def _offerings_query(instance_type: str) -> dict[str, Any]:
    return {
        "LocationType": "availability-zone",
        "Filters": [{"Name": "instance-type", "Values": [instance_type]}],
    }


def pick(
    described: Iterable[Mapping[str, Any]], zones: Collection[str], instance_type: str, *, ipv6: bool
) -> tuple[Subnet, ...]:
    """Those in zones with the type, and with IPv6 where that is asked for; by zone, the same for every run."""
    subnets = sorted(map(_read, described))
    offering = tuple(subnet for subnet in subnets if subnet.zone in zones)
    if not offering:
        known = ", ".join(sorted({subnet.zone for subnet in subnets}))
        raise UserError(f"{instance_type} is not to be had in {known}", "another --type, or a --subnet in another zone")
    if ipv6 and not any(subnet.ipv6 for subnet in offering):
        raise UserError("no subnet here has IPv6 addresses", "add an IPv6 block to VPC and subnet, or leave --ipv6 out")
    return tuple(subnet for subnet in offering if subnet.ipv6 or not ipv6)


def _read(described: Mapping[str, Any]) -> Subnet:
    blocks = described.get("Ipv6CidrBlockAssociationSet", ())
    ipv6 = [one for one in blocks if one.get("Ipv6CidrBlockState", {}).get("State") == "associated"]
    networks = (described.get("CidrBlock", ""), *(one.get("Ipv6CidrBlock", "") for one in ipv6))
    found = tuple(filter(None, networks))
    return Subnet(described["AvailabilityZone"], described["SubnetId"], described["VpcId"], bool(ipv6), found)


def reachable(subnets: Sequence[Subnet], tables: Sequence[Mapping[str, Any]], *, ipv6: bool) -> tuple[Subnet, ...]:
    """Those from which the world is reached, and reaches: by IPv6 too, where that is asked for."""
    public = tuple(subnet for subnet in subnets if not tables or is_public(tables, subnet.id))
    if not public:
        raise UserError(
            f"{subnets[0].id} has no route to an internet gateway: nobody could reach the server",
            "name a public subnet: --subnet subnet-…",
        )
    found = tuple(subnet for subnet in public if not ipv6 or not tables or is_public_by_ipv6(tables, subnet.id))
    if not found:
        raise UserError(
            f"{public[0].id} has no route for ::/0 to an internet gateway: nobody could reach the server by IPv6",
            "add it: aws ec2 create-route --destination-ipv6-cidr-block ::/0 --gateway-id igw-… "
            "--route-table-id rtb-…; or leave --ipv6 out",
        )
    return found


def is_public(tables: Iterable[Mapping[str, Any]], subnet: str) -> bool:
    """Whether the subnet's route table leads to an internet gateway."""
    return any(_to_internet(route) for route in _routes(tables, subnet))


def is_public_by_ipv6(tables: Iterable[Mapping[str, Any]], subnet: str) -> bool:
    """The same for all IPv6 addresses; an egress-only gateway is none: nobody comes in through it."""
    routes = _routes(tables, subnet)
    return any(_to_internet(route) and route.get("DestinationIpv6CidrBlock") == "::/0" for route in routes)


def _to_internet(route: Mapping[str, Any]) -> bool:
    return str(route.get("GatewayId", "")).startswith("igw-")


def _routes(tables: Iterable[Mapping[str, Any]], subnet: str) -> list[Mapping[str, Any]]:
    """Of the subnet's own route table, else of the main one."""
    own, main = [], []
    for table in tables:
        associations = table.get("Associations", ())
        own += [table] if any(each.get("SubnetId") == subnet for each in associations) else []
        main += [table] if any(each.get("Main") for each in associations) else []
    return [route for table in own or main for route in table.get("Routes", ())]


def _one_each(subnets: Iterable[Subnet]) -> tuple[Subnet, ...]:
    """The first of each zone."""
    first: dict[str, Subnet] = {}
    for subnet in subnets:
        first.setdefault(subnet.zone, subnet)
    return tuple(first.values())
