"""What a launch stands on: looked up first, nothing made. What can be refused beforehand is refused here."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from builder.aws import dns, tags
from builder.aws.request import DEFAULT_TYPES
from builder.problems import SpecError, UserError
from builder.userdata.delivery import archive_problems

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from builder.aws.api import Api
    from builder.aws.dns import Zone
    from builder.aws.request import Request, Wishes


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """Account and region, and what was chosen there; `zones` are Route 53 zones of the domains, where it is asked."""

    account: str
    region: str
    image: Image
    kind: InstanceType
    place: Subnet
    user_data: bytes = field(repr=False)
    zones: tuple[str, ...] = ()
    hosted: tuple[Zone, ...] = ()


def look_up(door: Api, order: Request) -> Prerequisites:
    """Look everything up; raises UserError or AwsError."""
    account = door.call("GetCallerIdentity")["Account"]
    wishes = order.wishes
    kind = find_instance_type(door, order.type, order.spec.server.arch)
    _check_kind(kind, order)
    image = choose_image(door, order)
    where = choose_subnet(door, wishes, kind.name)
    _check_archives(order, image)
    # Before anything is made: this raises when EC2 would refuse the length.
    user_data = order.user_data(image.on)
    hosted = dns.of(order.domains, dns.all_(door)) if order.spec.dns == "route53" else ()
    ids = tuple(sorted({zone.id for zone in hosted}))
    return Prerequisites(account, door.region, image, kind, where, user_data, ids, hosted)


def _check_archives(order: Request, image: Image) -> None:
    """A baked image may hold them; whether it does, first boot will tell."""
    found = archive_problems(order.spec, image.on)
    if any(problem.severity == "error" for problem in found):
        raise SpecError(found)


def _check_kind(kind: InstanceType, order: Request) -> None:
    if order.wishes.ipv6 and not kind.ipv6:
        raise UserError(f"{kind.name} has no IPv6", "take a type of this century, or leave --ipv6 out")
    if order.wishes.spot and not kind.spot:
        raise UserError(f"{kind.name} is not offered as Spot", "another --type, or leave --spot out")


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet, and its VPC and zone; `ipv6` says that addresses of that family are to be had."""

    vpc: str
    subnet: str
    zone: str
    ipv6: bool


def choose_subnet(door: Api, wishes: Wishes, kind: str) -> Subnet:
    """Look for a place; raises UserError when there is none."""
    subnets = list(door.items("DescribeSubnets", **_subnet_query(door, wishes)))
    if not subnets:
        raise UserError(f"{wishes.vpc} has no subnet", "name another VPC, or a subnet: --subnet subnet-…")
    zones = {offer["Location"] for offer in door.items("DescribeInstanceTypeOfferings", **_offers(kind))}
    place = pick_subnet(subnets, zones, kind, ipv6=wishes.ipv6)
    _check_way_out(door, place)
    return place


def _subnet_query(door: Api, wishes: Wishes) -> dict[str, Any]:
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


def pick_subnet(subnets: Iterable[Mapping[str, Any]], zones: Collection[str], kind: str, *, ipv6: bool) -> Subnet:
    """The first suitable subnet, by zone; the same for every run."""
    places = sorted((_read_subnet(subnet) for subnet in subnets), key=lambda place: (place.zone, place.subnet))
    offering = [place for place in places if place.zone in zones]
    if not offering:
        there = ", ".join(sorted({place.zone for place in places}))
        raise UserError(f"{kind} is not to be had in {there}", "another --type, or a --subnet in another zone")
    if ipv6 and not any(place.ipv6 for place in offering):
        raise UserError("no subnet here has IPv6 addresses", "add an IPv6 block to VPC and subnet, or leave --ipv6 out")
    return next(place for place in offering if place.ipv6 or not ipv6)


def _read_subnet(subnet: Mapping[str, Any]) -> Subnet:
    blocks = subnet.get("Ipv6CidrBlockAssociationSet", ())
    ipv6 = any(block.get("Ipv6CidrBlockState", {}).get("State") == "associated" for block in blocks)
    return Subnet(subnet["VpcId"], subnet["SubnetId"], subnet["AvailabilityZone"], ipv6)


def _check_way_out(door: Api, place: Subnet) -> None:
    """A subnet without a route to an internet gateway holds servers that nobody reaches."""
    vpc = {"Name": "vpc-id", "Values": [place.vpc]}
    tables = list(door.items("DescribeRouteTables", Filters=[vpc]))
    if tables and not is_public(tables, place.subnet):
        raise UserError(
            f"{place.subnet} has no route to an internet gateway: nobody could reach the server",
            "name a public subnet: --subnet subnet-…",
        )


def is_public(tables: Iterable[Mapping[str, Any]], subnet: str) -> bool:
    """Whether the subnet's route table, its own or the main one, leads to an internet gateway."""
    own, main = [], []
    for table in tables:
        links = table.get("Associations", ())
        own += [table] if any(link.get("SubnetId") == subnet for link in links) else []
        main += [table] if any(link.get("Main") for link in links) else []
    routes = [route for table in own or main for route in table.get("Routes", ())]
    return any(str(route.get("GatewayId", "")).startswith("igw-") for route in routes)


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An instance type; `memory` in MiB."""

    name: str
    architectures: tuple[str, ...]
    cpus: int
    memory: int
    ipv6: bool
    spot: bool


def find_instance_type(door: Api, name: str, arch: str) -> InstanceType:
    """The type by its name; raises AwsError when there is none, UserError when it has another processor."""
    kind = read_instance_type(next(iter(door.items("DescribeInstanceTypes", InstanceTypes=[name]))))
    if ARCHITECTURES[arch] not in kind.architectures:
        raise UserError(
            f"{name} has no {arch} processor, the spec says arch: {arch}",
            f"take a type for {arch}, as {DEFAULT_TYPES[arch]}, or change `arch` in the spec",
        )
    return kind


def read_instance_type(found: Mapping[str, Any]) -> InstanceType:
    """A described type."""
    return InstanceType(
        found["InstanceType"],
        tuple(found.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        found.get("VCpuInfo", {}).get("DefaultVCpus", 0),
        found.get("MemoryInfo", {}).get("SizeInMiB", 0),
        bool(found.get("NetworkInfo", {}).get("Ipv6Supported")),
        "spot" in found.get("SupportedUsageClasses", ()),
    )


# EC2's words for processors.
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "arm64"}
# Debian's and Canonical's accounts, and how they name their images: wiki.debian.org/Cloud/AmazonEC2Image and
# documentation.ubuntu.com/aws.
_STOCK: Final = {
    "debian-13": ("136693071363", "debian-13-{arch}-*"),
    "ubuntu-24.04": ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-*"),
}


@dataclass(frozen=True, slots=True)
class Image:
    """An image: `on` says which user-data it takes; `root` is its root device, `size` that disk's GiB at least."""

    id: str
    name: str
    arch: str
    root: str
    size: int
    on: Literal["stock", "baked"]


def stock_query(base: str, arch: str) -> dict[str, Any]:
    """What finds the distribution's images."""
    owner, pattern = _STOCK[base]
    return _image_query(owner, name=pattern.format(arch=arch), arch=ARCHITECTURES[arch])


def baked_query(base: str, arch: str) -> dict[str, Any]:
    """What finds images that er baked in this account, for this base and processor."""
    query = _image_query("self", arch=ARCHITECTURES[arch])
    wanted = tags.image(base, arch)
    query["Filters"] += [{"Name": f"tag:{key}", "Values": [value]} for key, value in wanted.items()]
    return query


def _image_query(owner: str, *, arch: str, name: str | None = None) -> dict[str, Any]:
    filters = [{"Name": "architecture", "Values": [arch]}, {"Name": "state", "Values": ["available"]}]
    filters += [{"Name": "name", "Values": [name]}] if name else []
    return {"Owners": [owner], "Filters": filters}


def newest_image(found: Iterable[Mapping[str, Any]]) -> Image | None:
    """The youngest of the described images; the time is in a form that sorts."""
    youngest = max(found, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]), default=None)
    return read_image(youngest) if youngest else None


def read_image(found: Mapping[str, Any]) -> Image:
    """A described image. What carries our tags is baked; any other is taken for a stock image."""
    ours = tags.read(found)
    root = found.get("RootDeviceName", "/dev/xvda")
    disks = [disk.get("Ebs", {}) for disk in found.get("BlockDeviceMappings", ()) if disk.get("DeviceName") == root]
    size = max((disk.get("VolumeSize", 0) for disk in disks), default=0)
    on: Literal["stock", "baked"] = "baked" if ours.get(tags.PROJECT) == tags.OURS else "stock"
    return Image(found["ImageId"], found.get("Name", ""), found.get("Architecture", ""), root, size, on)


def choose_image(door: Api, order: Request) -> Image:
    """Look the image up; raises UserError when there is none, or one for another processor."""
    server, wish = order.spec.server, order.wishes.image
    if wish and wish.startswith("ami-"):
        found = newest_image(door.items("DescribeImages", ImageIds=[wish]))
        return _right(found, wish, server.arch)
    image = None
    if wish != "stock":
        image = newest_image(door.items("DescribeImages", **baked_query(server.base, server.arch)))
    if image is None and wish != "baked":
        image = newest_image(door.items("DescribeImages", **stock_query(server.base, server.arch)))
    what = f"no {'baked ' * (wish == 'baked')}image of {server.base} for {server.arch} in {door.region}"
    if image is None:
        way = "bake one with `er build-image --target aws`" if wish == "baked" else "name one: --image ami-…"
        raise UserError(what, f"{way}, or take another region")
    return image


def _right(image: Image | None, wish: str, arch: str) -> Image:
    if image is None:
        raise UserError(f"there is no image {wish} here", "images belong to one region: is it the right one?")
    if image.arch != ARCHITECTURES[arch]:
        given = next((name for name, ec2 in ARCHITECTURES.items() if ec2 == image.arch), image.arch)
        raise UserError(
            f"{wish} is an image for {given}, the spec says arch: {arch}",
            f"take an image for {arch}, or write `arch: {given}` in the spec",
        )
    return image
