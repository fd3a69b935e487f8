"""`er servers` and the first half of `er destroy`: all that er has made, found by its tags alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.resources import instance
from builder.aws.resources.base import Addresses, Group, Key, Servers

# What belongs to a server, in the order of its removal.
KINDS: Final = (Servers.title, Addresses.title, Group.title, Key.title)

if TYPE_CHECKING:
    from builder.aws.api import Api
    from builder.aws.resources.instance import Server


@dataclass(frozen=True, slots=True)
class Holdings:
    """What belongs to one server. `addresses` are described Elastic IPs; `volumes` are disks that will stay."""

    servers: tuple[Server, ...]
    addresses: tuple[dict[str, Any], ...]
    groups: tuple[str, ...]
    keys: tuple[str, ...]
    disks: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.servers or self.addresses or self.groups or self.keys)

    @property
    def ips(self) -> frozenset[str]:
        """Every address that DNS may know the server by."""
        own = {address for one in self.servers for address in (one.ipv4, one.ipv6)}
        return frozenset(filter(None, own | {address.get("PublicIp") for address in self.addresses}))

    @property
    def zones(self) -> tuple[str, ...]:
        """The Route 53 zones that hold its records."""
        return tuple(sorted({zone for one in self.servers for zone in one.zones}))


def servers(door: Api) -> tuple[Server, ...]:
    """All servers of er in the region that are not gone."""
    found = instance.servers(door.items("DescribeInstances", Filters=tags.filters(part=Servers.name)))
    return tuple(one for one in found if one.state not in instance.GONE)


def holdings(door: Api, name: str) -> Holdings:
    """All that carries the name, whatever run has made it."""
    instances = list(door.items("DescribeInstances", Filters=tags.filters(name, Servers.name)))
    alive = tuple(one for one in instance.servers(instances) if one.state != "terminated")
    groups = door.items("DescribeSecurityGroups", Filters=tags.filters(name, Group.name))
    keys = door.call("DescribeKeyPairs", Filters=tags.filters(name, Key.name))["KeyPairs"]
    addresses = door.call("DescribeAddresses", Filters=tags.filters(name, Addresses.name))["Addresses"]
    return Holdings(
        alive,
        tuple(addresses),
        tuple(group["GroupId"] for group in groups),
        tuple(pair["KeyName"] for pair in keys),
        _staying(instances, {one.id for one in alive}),
    )


def _staying(reservations: list[dict[str, Any]], alive: set[str]) -> tuple[str, ...]:
    """Disks that somebody attached and that do not end with the server."""
    return tuple(
        disk["Ebs"]["VolumeId"]
        for reservation in reservations
        for instance in reservation["Instances"]
        for disk in instance.get("BlockDeviceMappings", ())
        if instance["InstanceId"] in alive and not disk["Ebs"].get("DeleteOnTermination")
    )


def baked(door: Api) -> tuple[str, ...]:
    """The images that er baked in this region."""
    filters = tags.filters(part=tags.IMAGE)
    return tuple(image["ImageId"] for image in door.items("DescribeImages", Owners=["self"], Filters=filters))
