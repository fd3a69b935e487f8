"""The instances: the one call that creates them, and what is read of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.api import Backoff, Deadline
from builder.aws.errors import UNKNOWN_PROFILE, AwsError, lacks_capacity
from builder.aws.resources.key_pair import KeyPair
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.aws.resources.role import InstanceProfile
from builder.aws.resources.security_group import SecurityGroup
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.machine_image import Image
    from builder.aws.request import Prerequisites, Request
    from builder.aws.subnet import Subnet

GONE: Final = frozenset({"terminated", "shutting-down"})
STOPPED: Final = frozenset({"stopping", "stopped"})


class Instance(Resource):
    """An instance; for people it is a server."""

    part = "server"
    title = "server"
    json_key = "servers"
    id_field = "InstanceId"
    shared = False
    listing, creation, removal = "DescribeInstances", "RunInstances", "TerminateInstances"

    @classmethod
    def count(cls, request: Request) -> int:
        """As many as are asked for; the hosts of a fleet are its group's to make."""
        return 0 if request.spec.fleet else request.options.count

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:
        """Type, network, image, disk and options."""
        options, base = request.options, request.spec.server.base
        if prerequisites:
            found = prerequisites.image
            image, size = f"{found.on} image {found.id} ({found.name})", disk_size(found, request.disk)
            where, type_ = prerequisites.subnet.zone, prerequisites.instance_type.name
        else:
            image, size = options.image or f"newest baked image of {base}, else its stock image", request.disk
            image = f"{image} image of {base}" if options.image in ("stock", "baked") else image
            where, type_ = options.subnet or options.vpc or "the default VPC", request.type
        extras = [word for word in ("spot", "ipv6", "protect") if getattr(options, word)]
        return ", ".join([f"{type_} in {where}", image, f"{size} GiB gp3, encrypted", *extras])

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """Without those that are terminated."""
        return [one for one in cls.find_all(api, name, **filters) if tags.read(one).get(tags.PART) == cls.part]

    @classmethod
    def find_all(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """With those that take over from another, or have been replaced."""
        found = _describe(api, tags.filters(name, **filters))
        return [one for one in found if _state(one) != "terminated"]

    def find_existing(self, api: Api) -> list[Described]:
        """With those that ended lately: the client token depends on them."""
        return _describe(api, tags.filters(self.request.name, self.part))

    @classmethod
    def usable(cls, described: Iterable[Described]) -> Ids:
        """The ids of those that live."""
        return tuple(one[cls.id_field] for one in described if _state(one) not in GONE)

    def create(self, api: Api) -> Ids:
        """Run as many as are missing, all of them or none. Raises UserError when one is stopped."""
        alive = self.usable(self.found)
        _refuse_stopped(read(one) for one in self.found if one[self.id_field] in alive)
        self._give_profile(api, alive)
        return (*alive, *self._run(api)) if self.missing else alive

    def _run(self, api: Api) -> Ids:
        """In the first zone that has capacity; raises the error of the last one."""
        *others, last = self.prerequisites.subnets
        for subnet in others:
            try:
                return self._run_in(api, subnet)
            except AwsError as error:
                if not lacks_capacity(error):
                    raise
                api.report(f"{subnet.zone}: {error.message}; trying another zone")
        return self._run_in(api, last)

    def _run_in(self, api: Api, subnet: Subnet) -> Ids:
        """Holds Ctrl-C back until EC2 has answered. A client token of terminated ones gets a successor."""
        parameters = self.parameters(subnet)
        place, known = f"{self._life} {subnet.id}", [one[self.id_field] for one in self.found]
        while True:
            client_token = token(place, known, self.request.options.count)
            new = self._run_once(api, {**parameters, "ClientToken": client_token})
            alive = self.usable(new)
            if alive:
                return alive
            known += [one[self.id_field] for one in new]

    @property
    def _life(self) -> str:
        """The security group is made anew for every server: its id stands for this life of the name."""
        return self.ids[SecurityGroup.part][0]

    def _run_once(self, api: Api, parameters: dict[str, Any]) -> list[Described]:
        """EC2 may not have heard of an instance profile that was made a moment ago."""
        own = bool(self.ids.get(InstanceProfile.part))

        def run() -> list[Described] | None:
            with shielded():
                try:
                    new = _flat([api.call(self.creation, **parameters)])
                except AwsError as error:
                    if not own or error.code != UNKNOWN_PROFILE:
                        raise
                    return None
                self.created.update(self.usable(new))
                return new

        return Deadline(_PROFILE_SECONDS, api.backoff).until(run, "EC2 to know the new instance profile") or []

    def _give_profile(self, api: Api, alive: Ids) -> None:
        """Servers of a launch before, when the spec had no need of a role, get it now."""
        own = self.ids.get(InstanceProfile.part, ())
        without = [one for one in self.found if one[self.id_field] in alive and not one.get("IamInstanceProfile")]
        for one in without if own else ():
            profile = {"Name": own[0]}
            api.call("AssociateIamInstanceProfile", InstanceId=one[self.id_field], IamInstanceProfile=profile)

    def parameters(self, subnet: Subnet | None = None) -> dict[str, Any]:
        """Of RunInstances, but for the token. Without a security group they are good for a dry run only."""
        subnet = subnet or self.prerequisites.subnet
        options, image = self.request.options, self.prerequisites.image
        group, key = (next(iter(self.ids.get(kind.part, ())), None) for kind in (SecurityGroup, KeyPair))
        return {
            "ImageId": image.id,
            "InstanceType": self.request.type,
            "MinCount": self.missing,
            "MaxCount": self.missing,
            "UserData": self.prerequisites.user_data,
            "BlockDeviceMappings": [disk_mapping(image, self.request.disk)],
            "NetworkInterfaces": [_network_interface(subnet, group, ipv6=options.ipv6)],
            "MetadataOptions": metadata_options(ipv6=options.ipv6),
            "TagSpecifications": self._tags(),
            "DisableApiTermination": options.protect,
            **({"KeyName": key} if key else {}),
            **self._profile(),
            **({"InstanceMarketOptions": {"MarketType": "spot", "SpotOptions": _SPOT_OPTIONS}} if options.spot else {}),
        }

    def _profile(self) -> dict[str, Any]:
        """The user's, else er's own, where there is one."""
        if arn := self.request.options.profile_arn:
            return {"IamInstanceProfile": {"Arn": arn}}
        own = self.ids.get(InstanceProfile.part, ())
        return {"IamInstanceProfile": {"Name": own[0]}} if own else {}

    def _tags(self) -> list[dict[str, Any]]:
        zone_ids = self.prerequisites.zone_ids
        more = {tags.ADMIN: self.request.spec.admin.name, tags.SPEC: self.request.digests}
        more |= {tags.ZONES: " ".join(zone_ids)} if zone_ids else {}
        more |= {tags.EIP: "yes"} if self.request.eip else {}
        more |= {tags.RESTORE: "yes"} if self.request.restores else {}
        spot = ["spot-instances-request"] * self.request.options.spot
        return self.tag_specifications("instance", "volume", "network-interface", *spot, **more)

    @classmethod
    def deletion(cls, described: Sequence[Described]) -> list[tuple[str, dict[str, Any]]]:
        """One call for all."""
        ids = [one[cls.id_field] for one in described]
        return [(cls.removal, {"InstanceIds": ids})] if ids else []

    @classmethod
    def wait_until_gone(cls, api: Api, described: Sequence[Described]) -> None:
        """While it ends, it uses the security group."""
        wait_until_terminated(api, [one[cls.id_field] for one in described], api.backoff)

    @classmethod
    def line(cls, described: Described) -> str:
        """Its id, type and address."""
        one = read(described)
        return f"{one.id} {one.type} {one.address or ''}{' (ending)' if one.state in GONE else ''}"


class Successor(Instance):
    """The new instance of a replacement, until it is the server."""

    part = "successor"
    title = "new server"

    @property
    def _life(self) -> str:
        """Of those it replaces, too: they were made with the same group."""
        return " ".join([self.part, super()._life, *self.prerequisites.existing])


class Predecessor(Instance):
    """The instance that was replaced."""

    part = "predecessor"
    title = "old server"


def _describe(api: Api, filters: list[dict[str, Any]]) -> list[Described]:
    return _flat(api.items("DescribeInstances", Filters=filters))


def _flat(reservations: Iterable[Mapping[str, Any]]) -> list[Described]:
    """The instances of all reservations, the oldest first."""
    found = [one for reservation in reservations for one in reservation.get("Instances", ())]
    return sorted(found, key=lambda one: (str(one.get("LaunchTime", "")), one["InstanceId"]))


def _state(described: Mapping[str, Any]) -> str:
    return str(described.get("State", {}).get("Name", ""))


def _refuse_stopped(alive: Iterable[Server]) -> None:
    for one in alive:
        if one.state in STOPPED:
            raise UserError(
                f"{one.name} is there and {one.state}: {one.id}",
                f"start it: aws ec2 start-instances --instance-ids {one.id}; or remove it: er destroy {one.name}",
            )


def token(place: str, existing: Iterable[str], desired: int) -> str:
    """The client token of a launch: the same for a run that takes up another, and new after anything has changed.

    `place` has the subnet, and what tells this life of the name from others.
    """
    known = " ".join(sorted(existing))
    return "er-" + hashlib.sha256(f"{place} {known} {desired}".encode()).hexdigest()[:48]


_SPOT_OPTIONS: Final = {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"}


def disk_size(image: Image, asked: int) -> int:
    """GiB: what was asked for, but never less than the image's own."""
    return max(asked, image.size)


def disk_mapping(image: Image, asked: int) -> dict[str, Any]:
    """The root disk."""
    size = disk_size(image, asked)
    volume = {"VolumeType": "gp3", "VolumeSize": size, "Encrypted": True, "DeleteOnTermination": True}
    return {"DeviceName": image.root, "Ebs": volume}


def _network_interface(subnet: Subnet, group: str | None, *, ipv6: bool) -> dict[str, Any]:
    interface: dict[str, Any] = {"DeviceIndex": 0, "SubnetId": subnet.id, "AssociatePublicIpAddress": True}
    return interface | ({"Groups": [group]} if group else {}) | ({"Ipv6AddressCount": 1} if ipv6 else {})


def metadata_options(*, ipv6: bool) -> dict[str, Any]:
    """IMDSv2 only, with a hop limit of 1: a container gets no metadata."""
    return {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpProtocolIpv6": "enabled" if ipv6 else "disabled",
        "InstanceMetadataTags": "disabled",
    }


@dataclass(frozen=True, slots=True)
class Server:
    """An instance as it is now; `zone_ids` are the Route 53 zones that hold its records.

    `spec` has the digests of the spec that it was made from; `eip` says that it was to have an Elastic IP.
    """

    id: str
    name: str
    state: str
    type: str
    zone: str
    image: str
    ipv4: str | None
    ipv6: str | None
    started: str
    spot: bool
    admin: str
    zone_ids: tuple[str, ...]
    reason: str
    spec: str
    eip: bool
    part: str

    @property
    def addresses(self) -> tuple[str, ...]:
        """All of its public addresses."""
        return tuple(filter(None, (self.ipv4, self.ipv6)))

    @property
    def address(self) -> str | None:
        """Where it is reached."""
        return next(iter(self.addresses), None)

    @property
    def json(self) -> dict[str, Any]:
        """As --json shows it."""
        shown = ("name", "id", "state", "type", "zone", "image", "ipv4", "ipv6", "started", "spot", "admin")
        return {field: getattr(self, field) for field in shown}

    def __str__(self) -> str:
        """One row of `er servers`."""
        spot = " spot" if self.spot else ""
        of_two = f"  ({self.part})" if self.part != Instance.part else ""
        shown = f"{self.name:<16} {self.state:<12} {self.type}{spot}  {self.zone}  {self.id}  {self.address or '-'}"
        return shown + of_two


def read(described: Mapping[str, Any]) -> Server:
    """A described instance."""
    ours = tags.read(described)
    listed = [interface.get("Ipv6Addresses", ()) for interface in described.get("NetworkInterfaces", ())]
    ipv6 = [entry["Ipv6Address"] for addresses in listed for entry in addresses]
    return Server(
        id=described["InstanceId"],
        name=ours.get(tags.SERVER, ""),
        state=_state(described),
        type=described.get("InstanceType", ""),
        zone=described.get("Placement", {}).get("AvailabilityZone", ""),
        image=described.get("ImageId", ""),
        ipv4=described.get("PublicIpAddress") or None,
        ipv6=described.get("Ipv6Address") or next(iter(ipv6), None),
        started=str(described.get("LaunchTime", "")),
        spot=described.get("InstanceLifecycle") == "spot",
        admin=ours.get(tags.ADMIN, ""),
        zone_ids=tuple(ours.get(tags.ZONES, "").split()),
        reason=described.get("StateReason", {}).get("Message") or "",
        spec=ours.get(tags.SPEC, ""),
        eip=tags.EIP in ours,
        part=ours.get(tags.PART, Instance.part),
    )


def describe(api: Api, ids: Iterable[str]) -> tuple[Server, ...]:
    """These instances as they are now; one that was just created may be missing for a moment."""
    return tuple(map(read, described(api, ids)))


def described(api: Api, ids: Iterable[str]) -> list[Described]:
    """The same as EC2 describes them."""
    return _describe(api, [{"Name": "instance-id", "Values": sorted(ids)}])


def servers(api: Api) -> tuple[Server, ...]:
    """All servers of er in the region that live, those too that are replaced or replace."""
    return tuple(one for one in map(read, _describe(api, tags.filters())) if one.state not in GONE)


def is_protected(api: Api, instance_id: str) -> bool:
    """Whether AWS would refuse to terminate it."""
    answer = api.call("DescribeInstanceAttribute", InstanceId=instance_id, Attribute="disableApiTermination")
    return bool(answer.get("DisableApiTermination", {}).get("Value"))


_POWER_ON_SECONDS: Final = 300.0
# IAM tells the regions of what is new; that takes some ten seconds.
_PROFILE_SECONDS: Final = 90.0
_ENDING_SECONDS: Final = 300.0


def wait_until_running(api: Api, ids: Iterable[str], backoff: Backoff) -> None:
    """Wait; raises UserError for an instance that AWS ended again, NotInTimeError."""
    listed = sorted(ids)
    running = lambda: _all_running(describe(api, listed), len(listed))  # noqa: E731
    Deadline(_POWER_ON_SECONDS, backoff).until(running, "the server to run")


def _all_running(found: Sequence[Server], desired: int) -> bool:
    for one in found:
        if one.state in GONE | STOPPED:
            raise UserError(
                f"AWS has {one.state} {one.id} again: {one.reason or 'no reason given'}",
                "another --type or --subnet may help; an own key for EBS encryption must be usable by this identity",
            )
    return len(found) == desired and all(one.state == "running" for one in found)


def wait_until_terminated(api: Api, ids: Iterable[str], backoff: Backoff) -> None:
    """Wait until these instances are no more; raises NotInTimeError."""
    listed = sorted(ids)
    over = lambda: all(one.state == "terminated" for one in describe(api, listed))  # noqa: E731
    Deadline(_ENDING_SECONDS, backoff).until(over, "the server to end")
