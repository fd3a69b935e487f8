"""An instance: the one call that makes it, and what is read of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.aws.prerequisites import Image, Prerequisites, Subnet
    from builder.aws.request import Request

PART: Final = "server"
GONE: Final = frozenset({"terminated", "shutting-down"})
STOPPED: Final = frozenset({"stopping", "stopped"})


@dataclass(frozen=True, slots=True)
class Server:
    """An instance as it is now."""

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
    zones: tuple[str, ...]
    reason: str
    network_interface: str | None = None

    @property
    def address(self) -> str | None:
        """Where it is reached."""
        return self.ipv4 or self.ipv6


def read(found: Mapping[str, Any]) -> Server:
    """A described instance."""
    ours = tags.read(found)
    cards = found.get("NetworkInterfaces", ())
    addresses = [entry["Ipv6Address"] for card in cards for entry in card.get("Ipv6Addresses", ())]
    return Server(
        id=found["InstanceId"],
        name=ours.get(tags.SERVER, ""),
        state=found.get("State", {}).get("Name", ""),
        type=found.get("InstanceType", ""),
        zone=found.get("Placement", {}).get("AvailabilityZone", ""),
        image=found.get("ImageId", ""),
        ipv4=found.get("PublicIpAddress") or None,
        ipv6=found.get("Ipv6Address") or next(iter(addresses), None),
        started=str(found.get("LaunchTime", "")),
        spot=found.get("InstanceLifecycle") == "spot",
        admin=ours.get(tags.ADMIN, ""),
        zones=tuple(ours.get(tags.ZONES, "").split()),
        reason=found.get("StateReason", {}).get("Message") or "",
        network_interface=next((card.get("NetworkInterfaceId") for card in cards), None),
    )


def servers(reservations: Iterable[Mapping[str, Any]]) -> tuple[Server, ...]:
    """All instances of a listing, the oldest first."""
    found = [read(instance) for reservation in reservations for instance in reservation.get("Instances", ())]
    return tuple(sorted(found, key=lambda server: (server.started, server.id)))


def token(group: str, there: Sequence[Server], wanted: int) -> str:
    """The client token of a launch: the same for a run that takes up another, and new after anything has changed.

    The security group is made anew for every server and goes with it, so its id stands for this life of the name.
    """
    known = " ".join(sorted(server.id for server in there))
    return "er-" + hashlib.sha256(f"{group} {known} {wanted}".encode()).hexdigest()[:48]


def request(order: Request, ground: Prerequisites, *, group: str | None, key: str | None, count: int) -> dict[str, Any]:
    """The parameters of RunInstances, but for its token. Without a group it is good for a dry run only."""
    wishes = order.wishes
    more = {tags.ADMIN: order.spec.admin.name} | ({tags.ZONES: " ".join(ground.zones)} if ground.zones else {})
    labels = tags.of(order.name, PART, **more)
    kinds = ["instance", "volume", "network-interface", *(["spot-instances-request"] if wishes.spot else [])]
    return {
        "ImageId": ground.image.id,
        "InstanceType": order.type,
        "MinCount": count,
        "MaxCount": count,
        "UserData": ground.user_data,
        "BlockDeviceMappings": [_disk(ground.image, wishes.disk)],
        "NetworkInterfaces": [_card(ground.place, group, ipv6=wishes.ipv6)],
        "MetadataOptions": _metadata(ipv6=wishes.ipv6),
        "TagSpecifications": tags.specification(kinds, labels),
        "DisableApiTermination": wishes.protect,
        **({"KeyName": key} if key else {}),
        **({"IamInstanceProfile": {"Arn": wishes.profile_arn}} if wishes.profile_arn else {}),
        **({"InstanceMarketOptions": _SPOT} if wishes.spot else {}),
    }


_SPOT: Final = {
    "MarketType": "spot",
    "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
}


def disk_size(image: Image, wish: int) -> int:
    """GiB: what was asked for, but never less than the image's own."""
    return max(wish, image.size)


def _disk(image: Image, wish: int) -> dict[str, Any]:
    size = disk_size(image, wish)
    volume = {"VolumeType": "gp3", "VolumeSize": size, "Encrypted": True, "DeleteOnTermination": True}
    return {"DeviceName": image.root, "Ebs": volume}


def _card(place: Subnet, group: str | None, *, ipv6: bool) -> dict[str, Any]:
    card: dict[str, Any] = {"DeviceIndex": 0, "SubnetId": place.subnet, "AssociatePublicIpAddress": True}
    return card | ({"Groups": [group]} if group else {}) | ({"Ipv6AddressCount": 1} if ipv6 else {})


def _metadata(*, ipv6: bool) -> dict[str, Any]:
    """Tokens only, and none for what is a hop away: a container that asks gets no answer."""
    return {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpProtocolIpv6": "enabled" if ipv6 else "disabled",
        "InstanceMetadataTags": "disabled",
    }
