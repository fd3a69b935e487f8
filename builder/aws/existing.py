"""What is there of a server before a launch: whether it is what is asked for, and what its DNS records may be.

A launch takes up a server that is there, and changes nothing of the instance itself. What is asked for and cannot be
had that way is refused before anything is made; that the spec has changed since is told. While a server is replaced
there are two: the pair is at the end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from builder.aws import dns, tags
from builder.aws.resources import data_volume, instance
from builder.aws.resources.address import Address
from builder.aws.resources.data_volume import DataVolume
from builder.aws.resources.instance import Instance, Predecessor, Successor
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request
    from builder.aws.resources.instance import Server
    from builder.aws.resources.lifecycle import Described
    from builder.aws.subnet import Subnet


def look(api: Api, found: Prerequisites, *, replacing: bool = False) -> Prerequisites:
    """Complete what was looked up by what is there. Raises UserError where it is not what is asked for.

    Who is `replacing` the server makes another one. The domains may not lead elsewhere yet, unless the user says so.
    """
    name = found.request.name
    every = [one for one in Instance.find_all(api, name) if instance.read(one).state not in instance.GONE]
    described = [one for one in every if tags.read(one).get(tags.PART) == Instance.part]
    addresses = Address.find(api, name)
    servers = tuple(map(instance.read, described))
    if not replacing and any(tags.read(one).get(tags.PART) == Successor.part for one in every):
        message = f"{name} is being replaced by another launch, or was when that ended"
        raise UserError(message, "er launch --replace goes on")
    if hosts := [one["InstanceId"] for one in every if tags.read(one).get(tags.PART) == tags.HOST]:
        raise _is_fleet(name, len(hosts), api.region)
    if found.request.restores and (other := [one for one in described if tags.RESTORE not in tags.read(one)]):
        raise _has_data(instance.read(other[0]))
    if not replacing and (refused := [text for one in described for text in _contradictions(api, one, found.request)]):
        message = f"{name} is there and is not what is asked for: {'; '.join(refused)}"
        raise UserError(message, _way_out(name, api.region))
    found = replace(
        found,
        request=_with_address(found.request, servers, addresses),
        subnets=_in_reach_of_data(api, found),
        existing=tuple(one.id for one in servers),
        own_addresses=_own_addresses(servers, addresses),
    )
    request, own = found.request, found.own_addresses
    dns.check(api, request.domains, found.zones, own, overwrite=request.options.overwrite_dns)
    spec_notes = () if replacing else _spec_notes(servers, request)
    return replace(found, notes=(*spec_notes, *_address_notes(request)))


def _is_fleet(name: str, hosts: int, region: str) -> UserError:
    """Of a spec that has none."""
    return UserError(
        f"{name} is a fleet of {hosts} host{'s' * (hosts > 1)}, and the spec has no `fleet:`",
        f"another name; or first: er destroy {name} --region {region}",
    )


def _has_data(one: Server) -> UserError:
    """Of a server that --restore has not made."""
    message = f"{one.name} is there ({one.id}), and --restore is for a new server"
    way = f"er server restore {one.admin}@{one.address} STACK"
    return UserError(message, f"`{way}` brings back the data of a stack on it")


def _in_reach_of_data(api: Api, found: Prerequisites) -> tuple[Subnet, ...]:
    """A volume can be attached in its own zone only: a server that is to be made has to be there.

    Where it may get a copy of the volume, the volume's zone is the first to be tried.
    """
    volumes = DataVolume.find(api, found.request.name) if found.request.has_data_volume else []
    if not volumes:
        return found.subnets
    zone = volumes[0]["AvailabilityZone"]
    near = tuple(subnet for subnet in found.subnets if subnet.zone == zone)
    if found.request.options.other_zone:
        return (*near, *(subnet for subnet in found.subnets if subnet.zone != zone))
    if not near:
        raise UserError(
            f"the data of {found.request.name} is on {volumes[0]['VolumeId']} in {zone}, and a server can be made "
            f"only in {', '.join(subnet.zone for subnet in found.subnets)}",
            "a --subnet or --type that is in its zone; or, of a server that is there, a copy of its volume in another "
            "zone: er launch --replace --other-zone",
        )
    return near


def _way_out(name: str, region: str) -> str:
    return (
        "without these options the launch takes it up as it is; "
        f"`er launch --replace` or `er destroy {name} --region {region}` and another launch make it anew"
    )


def _contradictions(api: Api, described: Described, request: Request) -> Iterator[str]:
    """What was asked for in so many words, and is otherwise: each with what is there."""
    options, one = request.options, instance.read(described)
    pairs = (
        ("type", one.type, options.type or request.spec.aws.type),
        ("image", one.image, options.image if (options.image or "").startswith("ami-") else None),
        ("vpc", described.get("VpcId"), options.vpc),
        ("subnet", described.get("SubnetId"), options.subnet),
        ("profile", described.get("IamInstanceProfile", {}).get("Arn"), options.profile_arn),
    )
    yield from (f"{what} {there or 'none'}, not {asked}" for what, there, asked in pairs if asked and there != asked)
    if options.disk and (size := _disk(api, described)) < options.disk:
        yield f"disk {size} GiB, not {options.disk}"
    if options.spot and not one.spot:
        yield "on demand, not spot"
    if options.ipv6 and one.ipv6 is None:
        yield "no IPv6 address"
    if options.protect and not instance.is_protected(api, one.id):
        yield "not protected"


def _disk(api: Api, described: Described) -> int:
    """The GiB of its root disk; an image may have asked for more than the launch did."""
    root = described.get("RootDeviceName")
    mapped = described.get("BlockDeviceMappings", ())
    ids = [disk["Ebs"]["VolumeId"] for disk in mapped if disk.get("DeviceName") == root]
    return sum(volume["Size"] for volume in api.items("DescribeVolumes", VolumeIds=ids)) if ids else 0


def _with_address(request: Request, servers: Sequence[Server], addresses: Sequence[Described]) -> Request:
    """Decide about the Elastic IP where the user has not: a server that is there does not change its address."""
    if request.options.eip is not None or not servers:
        return request
    tied = {one.get("InstanceId") for one in addresses}
    eip = any(one.eip or one.id in tied for one in servers)
    return replace(request, options=replace(request.options, eip=eip))


def _own_addresses(servers: Sequence[Server], addresses: Sequence[Described]) -> frozenset[str]:
    own = {ip for one in servers for ip in one.addresses}
    return frozenset(own | {one["PublicIp"] for one in addresses if one.get("PublicIp")})


def _spec_notes(servers: Sequence[Server], request: Request) -> Iterator[str]:
    for one in servers:
        if not one.spec:
            yield f"{one.id} does not say which spec it was made from: whether that has changed is not known"
        elif changed := changes(parse(one.spec), parse(request.digests)):
            yield (
                f"{one.id} was made from another spec or by another er: {', '.join(changed)}. A launch changes no "
                f"running server: if that is not done yet, `er server apply {one.admin}@{one.address} SPEC` does it"
            )


def _address_notes(request: Request) -> Iterator[str]:
    if request.domains and not request.eip:
        yield "without an Elastic IP DNS leads to somebody else's server once this one was stopped: --eip gives it one"


def parse(digests: str) -> dict[str, str]:
    """The digests of a tag, by name."""
    pairs = (one.rpartition(":") for one in digests.split())
    return {name: digest for name, _, digest in pairs}


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What differs between two specs, by the digests of the host itself and of each stack."""
    found = []
    for name in sorted({*before, *now}):
        if before.get(name) == now.get(name):
            continue
        what = "the host itself" if not name else "the stacks" if name == "@" else f"stack {name}"
        how = "is new" if name not in before else "is gone" if name not in now else "differs"
        found.append(f"{what} {how}")
    return found


# Of a server that is replaced.


@dataclass(frozen=True, slots=True)
class Pair:
    """The two instances of a replacement, and what moves between them: volume and address. `new` may not exist yet.

    `ip` is the address itself, `zone` the volume's; `given_up` is the value of the tag.
    """

    old: Server
    new: Server | None
    given_up: str
    volume: str
    zone: str
    address: str
    ip: str

    @property
    def apart(self) -> bool:
        """Whether the new instance needs a copy of the volume, as it is in another zone."""
        return self.new is not None and self.new.zone != self.zone


def find_pair(api: Api, request: Request) -> Pair:
    """Raises UserError for what cannot be replaced."""
    found: dict[str, list[Described]] = {}
    for one in Instance.find_all(api, request.name):
        if instance.read(one).state not in instance.GONE:
            found.setdefault(tags.read(one).get(tags.PART, ""), []).append(one)
    new = next(iter(found.get(Successor.part, ())), None)
    if found.get(Instance.part) and (former := found.get(Predecessor.part)):
        raise _is_replaced(request.name, instance.read(former[0]), api.region)
    # Between its last two steps a replacement has a predecessor already, and no server yet.
    old = found.get(Instance.part) or (found.get(Predecessor.part, [])[-1:] if new else [])
    both = [one["InstanceId"] if one else None for one in (next(iter(old), None), new)]
    volumes = data_volume.of_pair(DataVolume.find_all(api, request.name), *both)
    addresses = Address.find(api, request.name)
    if refusal := _refusal(request, [instance.read(one) for one in old], volumes, addresses):
        raise UserError(*refusal)
    return Pair(
        instance.read(old[0]),
        instance.read(new) if new else None,
        tags.read(new).get(tags.GIVEN_UP, "") if new else "",
        volumes[0]["VolumeId"],
        volumes[0]["AvailabilityZone"],
        addresses[0]["AllocationId"],
        addresses[0]["PublicIp"],
    )


def _is_replaced(name: str, former: Server, region: str) -> UserError:
    """The same command once more may be meant to go on: it would make another server."""
    return UserError(
        f"{name} was replaced, and {former.id} is kept: nothing is left to do",
        f"`er destroy {name} --region {region} --old` removes it; after that --replace makes another one",
    )


def _refusal(
    request: Request, old: list[Server], volumes: list[Described], addresses: list[Described]
) -> tuple[str, str] | None:
    name = request.name
    if len(old) != 1:
        what = f"{len(old)} servers are called {name}" if old else f"there is no server {name} here"
        return f"{what}: --replace is for one", "er servers lists what there is; er launch without --replace makes one"
    if not request.has_data_volume or not volumes:
        return (
            f"{name} has no volume for its data that could move to another server",
            "`data: {disk: auto}` in the spec gives a new server one; what this one has is on its own disk",
        )
    if not addresses:
        return (
            f"{name} has no Elastic IP that could move to another server",
            "`er launch --eip` gives it one, which changes its address",
        )
    if old[0].spot:
        return f"{name} is a Spot server, which cannot be stopped and started again", "er destroy, then er launch"
    return None


_STOPPED_AT: Final = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


def stopped_at(api: Api, server: Server) -> float | None:
    """When it was stopped, in seconds since 1970; None while it runs."""
    (described,) = instance.described(api, [server.id])
    if instance.read(described).state not in instance.STOPPED:
        return None
    found = _STOPPED_AT.search(described.get("StateTransitionReason", ""))
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp() if found else None


def has_run_since(api: Api, pair: Pair) -> bool:
    """Whether the old one has, since the snapshot that a copy is made of: somebody started it by hand, and it has more.

    What it stopped at last is earlier than the snapshot, where all is well.
    """
    if pair.new is None or not pair.apart or (taken := data_volume.taken_at(api, pair.old.name, pair.new.id)) is None:
        return False
    stopped = stopped_at(api, pair.old)
    return stopped is None or taken < stopped
