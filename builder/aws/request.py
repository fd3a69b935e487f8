"""What is asked for, and what the account has for it: instance type, image, subnet, DNS zones.

All is looked up before anything is created; what can be refused beforehand is refused here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from builder import host as hosts
from builder import userdata
from builder.aws import dns, host_spec, machine_image
from builder.aws import subnet as subnets
from builder.problems import SpecError, UserError
from builder.stack import public

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from builder.aws.api import Api, Backoff
    from builder.aws.dns import Zone
    from builder.aws.machine_image import Image
    from builder.aws.subnet import Subnet
    from builder.host import Host
    from builder.spec import Spec
    from builder.spec.model import Fleet
    from builder.userdata.cloudconfig import On

DEFAULT_DISK: Final = 20
"""GiB of a server's disk."""
DEFAULT_TYPES: Final = {"amd64": "t3.small", "arm64": "t4g.small"}
# Characters of a tag's value.
_LONGEST_TAG: Final = 256
# What EC2 imports as a key pair; the admin's other kinds of key are in the user-data in any case.
_IMPORTABLE: Final = ("ssh-ed25519", "ssh-rsa")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `er launch`; None and False are what nobody asked for.

    `image` is an AMI, `baked`, `stock`, or None for the best there is; `disk` in GiB. With `overwrite_dns` records of
    the domains that lead elsewhere may be replaced. With `other_zone` a replacement may leave the zone of its volume.
    """

    type: str | None = None
    image: str | None = None
    count: int = 1
    disk: int | None = None
    vpc: str | None = None
    subnet: str | None = None
    profile_arn: str | None = None
    spot: bool = False
    eip: bool | None = None
    ipv6: bool = False
    protect: bool = False
    overwrite_dns: bool = False
    data_disk: int | None = None
    other_zone: bool = False
    replace: bool = False
    restore: bool = False


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
    def disk(self) -> int:
        """GiB."""
        return self.options.disk or DEFAULT_DISK

    @property
    def has_data_volume(self) -> bool:
        """Whether a volume is made for data: where the spec names a disk by its id, it is the user's."""
        return self.spec.data is not None and not self.spec.data.disk.startswith("/")

    @property
    def data_size(self) -> int:
        """GiB of the volume for data."""
        return self.options.data_disk or DEFAULT_DISK

    @property
    def eip(self) -> bool:
        """Whether the server has an Elastic IP: without one, domains lead to somebody else once it was stopped."""
        return bool(self.domains and not self.spec.fleet) if self.options.eip is None else self.options.eip

    @property
    def fleet(self) -> Fleet:
        """Of a spec that has one."""
        if self.spec.fleet is None:
            raise ValueError("a spec without a fleet")
        return self.spec.fleet

    @property
    def shares_files(self) -> bool:
        """Whether a file system is made for certificates: where the spec names their storage, it is the user's."""
        return self.spec.fleet is not None and self.spec.tls.storage is None

    @property
    def zone_count(self) -> int:
        """In how many zones there are servers."""
        return _FLEET_ZONES if self.spec.fleet else 1

    @property
    def restores(self) -> bool:
        """Whether its data comes from the backup before anything starts."""
        return self.spec.backup is not None and self.spec.backup.restores

    @property
    def digests(self) -> str:
        """`NAME:DIGEST …` of what the spec makes: without a name the host itself, then each stack.

        A server that has got its data from the backup is like any other of its spec afterwards. It
        is the value of a tag: when the names of all stacks are too long for one, they have the name @ together.
        """
        spec, host = self._lasting
        own = b"".join(text.encode() for text in userdata.cloudconfig.head_and_tail(spec, ascii_only=True))
        files: dict[str, list[hosts.File]] = {"": [hosts.File("", own, hosts.Part.FIRST_BOOT)]}
        for file in host.files:
            files.setdefault(file.stack, []).append(file)
        text = " ".join(f"{name}:{hosts.digest(its)[:8]}" for name, its in sorted(files.items()))
        if len(text) <= _LONGEST_TAG:
            return text
        stacks = [file for name, its in sorted(files.items()) if name for file in its]
        return f":{hosts.digest(files[''])[:8]} @:{hosts.digest(stacks)[:8]}"

    @property
    def _lasting(self) -> tuple[Spec, Host]:
        """What it is once its data is there."""
        if self.spec.backup is None or not self.restores:
            return self.spec, self.host
        spec = replace(self.spec, backup=replace(self.spec.backup, restores=False))
        return spec, hosts.build(spec)

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

    `run` is the token of this run of er, which is in the tags of all that it creates. Of the server there are already
    the instances `existing`, and `own_addresses` are its; `notes` say what is to be known of them. `secrets` is a
    digest of which secrets a fleet's hosts find, and how often each was set.
    """

    request: Request = field(repr=False)
    account: str
    region: str
    image: Image
    instance_type: InstanceType
    subnets: tuple[Subnet, ...]
    user_data: bytes = field(repr=False)
    run: str
    zones: tuple[Zone, ...] = ()
    existing: tuple[str, ...] = ()
    own_addresses: frozenset[str] = frozenset()
    secrets: str = ""
    notes: tuple[str, ...] = ()

    @property
    def subnet(self) -> Subnet:
        """The first to be tried; all are of one VPC."""
        return self.subnets[0]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What goes on all the same, and has to be known; for a person."""
        installs = "first boot installs it from the network"
        lacking = (f"the image lacks {name} ({reason}): {installs}" for name, reason in self.lacking.items())
        of_image = () if self.existing else (*filter(None, [self.image.warning]), *lacking)
        return (*of_image, *self.notes)

    def user_data_of_hosts(self, file_system: str) -> bytes:
        """Of a fleet, whose balancer has addresses in all the subnets."""
        networks = [network for subnet in self.subnets for network in subnet.networks]
        spec, region = self.request.spec, self.region
        return host_spec.user_data(spec, networks=networks, file_system=file_system, region=region)

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


def check(request: Request) -> None:
    """Raise UserError for what can never work."""
    if request.spec.fleet:
        _check_fleet(request)
    if request.options.count > 1 and request.domains and request.spec.tls.ca != "internal":
        raise UserError(
            f"--count {request.options.count}: every server would order its own certificates for the same domains, and "
            "the CA's question reaches one of them",
            "one server; or `fleet: {min: …, max: …}`: several that share their certificates; or `tls: {ca: internal}`",
        )

    if request.options.count > 1 and request.has_data_volume:
        raise UserError(
            f"--count {request.options.count}: `data:` is one volume, and it belongs to one server", "one server"
        )

    if request.options.count > 1 and request.restores:
        raise UserError(
            f"--count {request.options.count}: the backup is of one server, and each of them would go on with it",
            "one server",
        )


_FLEET_ZONES: Final = 2
# Of a balancer's name AWS takes 32 characters; the longest of a fleet is er-NAME-443.
_LONGEST_FLEET_NAME: Final = 25


def _check_fleet(request: Request) -> None:
    options = request.options
    if given := [name for name, value in _NOT_OF_FLEETS.items() if value(options)]:
        raise UserError(
            f"{', '.join(given)}: not with a fleet",
            "`fleet: {min: …, max: …}` says how many hosts there are; all alike, and none has a name",
        )
    if len(request.name) > _LONGEST_FLEET_NAME:
        raise UserError(
            f"{request.name} has {len(request.name)} characters: a fleet's name has {_LONGEST_FLEET_NAME} at most, as "
            "its balancer is called er-NAME",
            "a shorter `server: {name: …}`",
        )
    edge = request.spec.proxy.edge
    if edge is None or edge.name != "aws-nlb":
        raise UserError("a fleet stands behind its own balancer, which passes TCP on", "take `behind` out")


_NOT_OF_FLEETS: Final[Mapping[str, Callable[[Options], object]]] = {
    "--image stock": lambda options: options.image == "stock",
    "--count": lambda options: options.count != 1,
    "--subnet": lambda options: options.subnet,
    "--profile-arn": lambda options: options.profile_arn,
    "--spot": lambda options: options.spot,
    "--eip": lambda options: options.eip is not None,
    "--ipv6": lambda options: options.ipv6,
    "--protect": lambda options: options.protect,
    "--data-disk": lambda options: options.data_disk,
    "--replace": lambda options: options.replace,
    "--restore": lambda options: options.restore,
}


def look_up(api: Api, request: Request) -> Prerequisites:
    """Look everything up; raises UserError or AwsError."""
    account = api.call("GetCallerIdentity")["Account"]
    instance_type = find_instance_type(api, request.type, request.spec.server.arch)
    _check_options(instance_type, request.options)
    image = _image(api, request)
    found = subnets.choose(
        api, instance_type.name, vpc=request.options.vpc, subnet=request.options.subnet, ipv6=request.options.ipv6
    )
    if request.spec.fleet:
        found = _two_zones(found)
    _check_archives(request, image)
    zones = dns.zones_of(request.domains, dns.hosted_zones(api)) if request.spec.dns == "route53" else ()
    run = secrets.token_hex(8)
    prerequisites = Prerequisites(request, account, api.region, image, instance_type, found, b"", run, zones)
    # Before anything is created: this raises when EC2 would refuse the length.
    return replace(prerequisites, user_data=_user_data(prerequisites))


def _image(api: Api, request: Request) -> Image:
    """For a fleet a baked one: a host that installs itself from the network comes too late, or not at all."""
    wanted = request.options.image or ("baked" if request.spec.fleet else None)
    image = machine_image.choose(api, request.host, wanted)
    if request.spec.fleet and image.on != "baked":
        raise UserError(f"{image.id} is no image that er has baked", "a fleet's hosts are: er build-image --target aws")
    return image


def _two_zones(found: tuple[Subnet, ...]) -> tuple[Subnet, ...]:
    if len(found) < _FLEET_ZONES:
        raise UserError(
            f"{found[0].vpc} has public subnets for this type in {found[0].zone} alone, and a fleet is in two zones",
            "a --vpc with public subnets in two zones, or another --type",
        )
    return found[:_FLEET_ZONES]


def _user_data(found: Prerequisites) -> bytes:
    """Of a fleet's hosts with a file system that is yet to be made."""
    if found.request.spec.fleet:
        return found.user_data_of_hosts(host_spec.SOME_FILE_SYSTEM)
    return found.request.user_data(found.image.on)


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


def find_instance_type(api: Api, name: str, arch: str) -> InstanceType:
    """The type by its name; raises AwsError when there is none, UserError when it has another processor."""
    found = read_instance_type(next(iter(api.items("DescribeInstanceTypes", InstanceTypes=[name]))))
    if machine_image.ARCHITECTURES[arch] not in found.architectures:
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
