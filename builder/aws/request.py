"""What is asked for, and what the account has for it: instance type, image, subnet, DNS zones.

All is looked up before anything is created; what can be refused beforehand is refused here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import userdata
from builder.aws import dns, tags
from builder.problems import SpecError, UserError
from builder.stack import public

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from builder.aws.api import Api, Backoff
    from builder.aws.dns import Zone
    from builder.host import Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

DEFAULT_TYPES: Final = {"amd64": "t3.small", "arm64": "t4g.small"}
# What EC2 imports as a key pair; the admin's other kinds of key are in the user-data in any case.
_IMPORTABLE: Final = ("ssh-ed25519", "ssh-rsa")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `er launch`. `image` is an AMI, `baked`, `stock`, or None for the best there is; `disk` in GiB."""

    type: str | None = None
    image: str | None = None
    count: int = 1
    disk: int = 20
    vpc: str | None = None
    subnet: str | None = None
    profile_arn: str | None = None
    spot: bool = False
    eip: bool = False
    ipv6: bool = False
    protect: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """Spec and options together."""

    spec: Spec = field(repr=False)
    host: Host = field(repr=False)
    options: Options = Options()

    @property
    def name(self) -> str:
        """What the server and all its resources are called."""
        return self.spec.server.name

    @property
    def type(self) -> str:
        """The instance type: of the option, of the spec, or a small one."""
        return self.options.type or self.spec.aws.type or DEFAULT_TYPES[self.spec.server.arch]

    @property
    def key(self) -> str | None:
        """The admin's first public key that EC2 takes, if there is one."""
        return next((line for line in self.spec.admin.ssh_keys if line.split()[0] in _IMPORTABLE), None)

    @property
    def domains(self) -> tuple[str, ...]:
        """Every domain that the server will answer for, those that only lead to another included."""
        return tuple(domain for stack in self.spec.stacks for domain in stack.domains)

    @property
    def waiting_domains(self) -> frozenset[str]:
        """Those whose image is built once the server is up."""
        built = (service for stack in self.spec.stacks for service in stack.public if service.build)
        return frozenset(name for service in built for name in service.domains)

    @property
    def rpc_domains(self) -> frozenset[str]:
        """Those whose front page may be no page."""
        return frozenset().union(*map(public.rpc_names, self.spec.stacks))

    def user_data(self, on: On) -> bytes:
        """What the instance gets, before base64; raises UserError when it is over EC2's limit."""
        return userdata.deliver(self.spec, self.host, "aws", on).content


@dataclass(frozen=True, slots=True)
class Settings:
    """Where host keys go, how to wait (`timeout` seconds at most), and which key to log in with."""

    known_hosts: Path
    backoff: Backoff
    timeout: float = 900
    wait: bool = True
    identity: Path | None = None


@dataclass(frozen=True, slots=True)
class Prerequisites:
    """The request, the account and region, and what was chosen there; `zones` has the hosted zone of each domain.

    `run` is the token of this run of er, which is in the tags of all that it creates.
    """

    request: Request = field(repr=False)
    account: str
    region: str
    image: Image
    instance_type: InstanceType
    subnet: Subnet
    user_data: bytes = field(repr=False)
    run: str
    zones: tuple[Zone, ...] = ()

    @property
    def zone_ids(self) -> tuple[str, ...]:
        """Of the hosted zones, each once."""
        return tuple(sorted({zone.id for zone in self.zones}))

    @property
    def lacking(self) -> dict[str, str]:
        """The packages that a baked image lacks and this host needs, with their reasons: first boot installs them."""
        if self.image.on == "stock":
            return {}
        needed = self.request.host.extra_packages.items()
        return {name: reason for name, reason in needed if name not in self.image.packages}


def look_up(api: Api, request: Request) -> Prerequisites:
    """Look everything up; raises UserError or AwsError."""
    account = api.call("GetCallerIdentity")["Account"]
    instance_type = find_instance_type(api, request.type, request.spec.server.arch)
    _check_options(instance_type, request.options)
    image = choose_image(api, request)
    subnet = choose_subnet(api, request.options, instance_type.name)
    _check_archives(request, image)
    # Before anything is created: this raises when EC2 would refuse the length.
    user_data = request.user_data(image.on)
    zones = dns.zones_of(request.domains, dns.hosted_zones(api)) if request.spec.dns == "route53" else ()
    run = secrets.token_hex(8)
    return Prerequisites(request, account, api.region, image, instance_type, subnet, user_data, run, zones)


def _check_archives(request: Request, image: Image) -> None:
    """A baked image may hold them; whether it does, first boot will tell."""
    found = userdata.archive_problems(request.spec, image.on)
    if any(problem.severity == "error" for problem in found):
        raise SpecError(found)


@dataclass(frozen=True, slots=True)
class InstanceType:
    """An instance type, and whether it has IPv6 and is offered as Spot."""

    name: str
    architectures: tuple[str, ...]
    ipv6: bool
    spot: bool


# EC2's words for processors.
ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "arm64"}


def find_instance_type(api: Api, name: str, arch: str) -> InstanceType:
    """The type by its name; raises AwsError when there is none, UserError when it has another processor."""
    found = read_instance_type(next(iter(api.items("DescribeInstanceTypes", InstanceTypes=[name]))))
    if ARCHITECTURES[arch] not in found.architectures:
        raise UserError(
            f"{name} has no {arch} processor, the spec says arch: {arch}",
            f"take a type for {arch}, as {DEFAULT_TYPES[arch]}, or change `arch` in the spec",
        )
    return found


def read_instance_type(described: Mapping[str, Any]) -> InstanceType:
    """A described type."""
    return InstanceType(
        described["InstanceType"],
        tuple(described.get("ProcessorInfo", {}).get("SupportedArchitectures", ())),
        bool(described.get("NetworkInfo", {}).get("Ipv6Supported")),
        "spot" in described.get("SupportedUsageClasses", ()),
    )


def _check_options(instance_type: InstanceType, options: Options) -> None:
    if options.ipv6 and not instance_type.ipv6:
        raise UserError(f"{instance_type.name} has no IPv6", "take a type of this century, or leave --ipv6 out")
    if options.spot and not instance_type.spot:
        raise UserError(f"{instance_type.name} is not offered as Spot", "another --type, or leave --spot out")


@dataclass(frozen=True, slots=True)
class Image:
    """An image: `on` says which user-data it takes; `root` is its root device, `size` that disk's GiB at least.

    `packages` were baked in although not every host has them.
    """

    id: str
    name: str
    arch: str
    root: str
    size: int
    on: Literal["stock", "baked"]
    packages: tuple[str, ...] = ()


def choose_image(api: Api, request: Request) -> Image:
    """Look the image up; raises UserError when there is none, or one for another processor."""
    server, option = request.spec.server, request.options.image
    if option and option.startswith("ami-"):
        return _checked(newest_image(api.items("DescribeImages", ImageIds=[option])), option, server.arch)
    image = None
    if option != "stock":
        image = newest_image(api.items("DescribeImages", **baked_query(server.base, server.arch)))
    if image is None and option != "baked":
        image = newest_image(api.items("DescribeImages", **stock_query(server.base, server.arch)))
    if image is None:
        hint = "bake one with `er build-image --target aws`" if option == "baked" else "name one: --image ami-…"
        raise UserError(
            f"no {'baked ' * (option == 'baked')}image of {server.base} for {server.arch} in {api.region}",
            f"{hint}, or take another region",
        )
    return image


def _checked(image: Image | None, name: str, arch: str) -> Image:
    if image is None:
        raise UserError(f"there is no image {name} here", "images belong to one region: is it the right one?")
    if image.arch != ARCHITECTURES[arch]:
        other = next((ours for ours, ec2 in ARCHITECTURES.items() if ec2 == image.arch), image.arch)
        raise UserError(
            f"{name} is an image for {other}, the spec says arch: {arch}",
            f"take an image for {arch}, or write `arch: {other}` in the spec",
        )
    return image


def baked_query(base: str, arch: str) -> dict[str, Any]:
    """What finds images that er baked in this account, for this base and processor."""
    query = _image_query("self", arch=ARCHITECTURES[arch])
    query["Filters"] += [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.image(base, arch).items()]
    return query


# Debian's and Canonical's accounts, and how they name their images: wiki.debian.org/Cloud/AmazonEC2Image and
# documentation.ubuntu.com/aws.
_STOCK: Final = {
    "debian-13": ("136693071363", "debian-13-{arch}-*"),
    "ubuntu-24.04": ("099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-*"),
}


def stock_query(base: str, arch: str) -> dict[str, Any]:
    """What finds the distribution's images."""
    owner, pattern = _STOCK[base]
    return _image_query(owner, name=pattern.format(arch=arch), arch=ARCHITECTURES[arch])


def _image_query(owner: str, *, arch: str, name: str | None = None) -> dict[str, Any]:
    filters = [{"Name": "architecture", "Values": [arch]}, {"Name": "state", "Values": ["available"]}]
    filters += [{"Name": "name", "Values": [name]}] if name else []
    return {"Owners": [owner], "Filters": filters}


def newest_image(described: Iterable[Mapping[str, Any]]) -> Image | None:
    """The newest of the described images; the time is in a form that sorts."""
    newest = max(described, key=lambda image: (image.get("CreationDate", ""), image["ImageId"]), default=None)
    return read_image(newest) if newest else None


def read_image(described: Mapping[str, Any]) -> Image:
    """A described image. What carries our tags is baked; any other is taken for a stock image."""
    ours = tags.read(described)
    root = described.get("RootDeviceName", "/dev/xvda")
    devices = described.get("BlockDeviceMappings", ())
    disks = [device.get("Ebs", {}) for device in devices if device.get("DeviceName") == root]
    size = max((disk.get("VolumeSize", 0) for disk in disks), default=0)
    on: Literal["stock", "baked"] = "baked" if ours.get(tags.PROJECT) == tags.OURS else "stock"
    name, arch = described.get("Name", ""), described.get("Architecture", "")
    return Image(described["ImageId"], name, arch, root, size, on, tuple(ours.get(tags.PACKAGES, "").split()))


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet, and its VPC and availability zone; `ipv6` says that it gives addresses of that family."""

    vpc: str
    id: str
    zone: str
    ipv6: bool


def choose_subnet(api: Api, options: Options, instance_type: str) -> Subnet:
    """A public subnet in a zone that has the instance type; raises UserError when there is none."""
    subnets = list(api.items("DescribeSubnets", **_subnet_query(api, options)))
    if not subnets:
        raise UserError(f"{options.vpc} has no subnet", "name another VPC, or a subnet: --subnet subnet-…")
    offers = api.items("DescribeInstanceTypeOfferings", **_offerings_query(instance_type))
    subnet = pick_subnet(subnets, {offer["Location"] for offer in offers}, instance_type, ipv6=options.ipv6)
    _check_public(api, subnet)
    return subnet


def _subnet_query(api: Api, options: Options) -> dict[str, Any]:
    if options.subnet:
        return {"SubnetIds": [options.subnet]}
    return {"Filters": [{"Name": "vpc-id", "Values": [options.vpc or _default_vpc(api)]}]}


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


def pick_subnet(
    described: Iterable[Mapping[str, Any]], zones: Collection[str], instance_type: str, *, ipv6: bool
) -> Subnet:
    """The first suitable subnet, by zone; the same for every run."""
    subnets = sorted((_read_subnet(subnet) for subnet in described), key=lambda subnet: (subnet.zone, subnet.id))
    offering = [subnet for subnet in subnets if subnet.zone in zones]
    if not offering:
        known = ", ".join(sorted({subnet.zone for subnet in subnets}))
        raise UserError(f"{instance_type} is not to be had in {known}", "another --type, or a --subnet in another zone")
    if ipv6 and not any(subnet.ipv6 for subnet in offering):
        raise UserError("no subnet here has IPv6 addresses", "add an IPv6 block to VPC and subnet, or leave --ipv6 out")
    return next(subnet for subnet in offering if subnet.ipv6 or not ipv6)


def _read_subnet(described: Mapping[str, Any]) -> Subnet:
    blocks = described.get("Ipv6CidrBlockAssociationSet", ())
    ipv6 = any(block.get("Ipv6CidrBlockState", {}).get("State") == "associated" for block in blocks)
    return Subnet(described["VpcId"], described["SubnetId"], described["AvailabilityZone"], ipv6)


def _check_public(api: Api, subnet: Subnet) -> None:
    """Nobody reaches a server in a subnet without a route to an internet gateway."""
    tables = list(api.items("DescribeRouteTables", Filters=[{"Name": "vpc-id", "Values": [subnet.vpc]}]))
    if tables and not is_public(tables, subnet.id):
        raise UserError(
            f"{subnet.id} has no route to an internet gateway: nobody could reach the server",
            "name a public subnet: --subnet subnet-…",
        )


def is_public(tables: Iterable[Mapping[str, Any]], subnet: str) -> bool:
    """Whether the subnet's route table, its own or the main one, leads to an internet gateway."""
    own, main = [], []
    for table in tables:
        associations = table.get("Associations", ())
        own += [table] if any(each.get("SubnetId") == subnet for each in associations) else []
        main += [table] if any(each.get("Main") for each in associations) else []
    routes = [route for table in own or main for route in table.get("Routes", ())]
    return any(str(route.get("GatewayId", "")).startswith("igw-") for route in routes)
