"""What a server consists of, in the order of its making."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from builder.aws import instance, security_group, tags
from builder.aws.part import Part
from builder.aws.removal import take
from builder.lab.signals import shielded
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.aws.api import Door
    from builder.aws.part import Ids
    from builder.aws.prerequisites import Ground
    from builder.aws.request import Order


class Group(Part):
    """The security group, with exactly the rules of the spec."""

    name = "firewall"
    title = "security group"

    def __init__(self, order: Order, ground: Ground) -> None:
        super().__init__()
        self.order, self.ground = order, ground

    def look(self, door: Door) -> Ids:
        """What is there now."""
        return tuple(group["GroupId"] for group in self.find(door))

    def find(self, door: Door) -> list[dict[str, Any]]:
        """The groups themselves; one, or none."""
        filters = tags.filters(self.order.name, self.name, vpc_id=self.ground.place.vpc)
        return list(door.items("DescribeSecurityGroups", Filters=filters))

    def request(self) -> dict[str, Any]:
        """The parameters that make it."""
        return {
            "GroupName": f"er-{self.order.name}",
            "Description": f"EasyRunner server {self.order.name}",
            "VpcId": self.ground.place.vpc,
            "TagSpecifications": tags.specification(["security-group"], tags.of(self.order.name, self.name)),
        }

    def make(self, door: Door, made: Mapping[str, Ids]) -> Ids:
        """Make the group if need be, then its rules what they should be."""
        del made
        found = self.find(door)
        self.seen(group["GroupId"] for group in found)
        group = found[0] if found else self._new(door)
        rules, others = security_group.read(group.get("IpPermissions", ()))
        wanted = security_group.wanted(self.order.spec.ssh.allow_from)
        if missing := security_group.permissions(wanted - rules):
            door.call("AuthorizeSecurityGroupIngress", GroupId=group["GroupId"], IpPermissions=missing)
        if surplus := security_group.permissions(rules - wanted) + others:
            door.call("RevokeSecurityGroupIngress", GroupId=group["GroupId"], IpPermissions=surplus)
        return (group["GroupId"],)

    def _new(self, door: Door) -> dict[str, Any]:
        group = door.call("CreateSecurityGroup", **self.request())
        self.known.add(group["GroupId"])
        return group

    def undo(self, door: Door, ids: Iterable[str]) -> None:
        """Take it away."""
        for group in ids:
            take(door, "DeleteSecurityGroup", GroupId=group)
            self.known.discard(group)


class Key(Part):
    """The admin's public key as a key pair; its name has the key's digest, so another key is another pair."""

    name = "key"
    title = "key pair"

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    @property
    def label(self) -> str:
        """The name of the pair."""
        digest = hashlib.sha256(" ".join((self.order.key or "").split()[:2]).encode()).hexdigest()
        return f"er-{self.order.name}-{digest[:8]}"

    def look(self, door: Door) -> Ids:
        """What is there now."""
        filters = tags.filters(self.order.name, self.name, key_name=self.label)
        return tuple(pair["KeyName"] for pair in door.call("DescribeKeyPairs", Filters=filters)["KeyPairs"])

    def request(self) -> dict[str, Any]:
        """The parameters that make it."""
        return {
            "KeyName": self.label,
            "PublicKeyMaterial": (self.order.key or "").encode(),
            "TagSpecifications": tags.specification(["key-pair"], tags.of(self.order.name, self.name)),
        }

    def make(self, door: Door, made: Mapping[str, Ids]) -> Ids:
        """Import it if need be."""
        del made
        found = self.look(door)
        self.seen(found)
        if not found:
            found = (door.call("ImportKeyPair", **self.request())["KeyName"],)
            self.known.update(found)
        return found

    def undo(self, door: Door, ids: Iterable[str]) -> None:
        """Take it away."""
        for pair in ids:
            take(door, "DeleteKeyPair", KeyName=pair)
            self.known.discard(pair)


class Servers(Part):
    """The instances."""

    name = instance.PART
    title = "server"

    def __init__(self, order: Order, ground: Ground) -> None:
        super().__init__()
        self.order, self.ground = order, ground

    def look(self, door: Door) -> Ids:
        """What lives now."""
        return tuple(one.id for one in self.find(door) if one.state not in instance.GONE)

    def find(self, door: Door) -> tuple[instance.Server, ...]:
        """All instances of the name, those that ended lately too."""
        filters = tags.filters(self.order.name, self.name)
        return instance.servers(door.items("DescribeInstances", Filters=filters))

    def request(self, made: Mapping[str, Ids], count: int) -> dict[str, Any]:
        """The parameters that make them, without the token."""
        group, key = (next(iter(made.get(part, ())), None) for part in (Group.name, Key.name))
        return instance.request(self.order, self.ground, group=group, key=key, count=count)

    def make(self, door: Door, made: Mapping[str, Ids]) -> Ids:
        """Start as many as are missing, all of them or none."""
        there = list(self.find(door))
        alive = [one for one in there if one.state not in instance.GONE]
        self.seen(one.id for one in alive)
        _refuse_stopped(alive)
        if (missing := self.order.wishes.count - len(alive)) > 0:
            alive += self._run(door, made, there, missing)
        return tuple(one.id for one in alive)

    def _run(
        self, door: Door, made: Mapping[str, Ids], there: list[instance.Server], count: int
    ) -> tuple[instance.Server, ...]:
        """Ctrl-C waits until the answer is here. A token of a life that is over brings back the dead: then another."""
        request = self.request(made, count)
        while True:
            token = instance.token(made[Group.name][0], there, self.order.wishes.count)
            with shielded():
                found = instance.servers([door.call("RunInstances", **request, ClientToken=token)])
                alive = tuple(one for one in found if one.state not in instance.GONE)
                self.known.update(one.id for one in alive)
            if alive:
                return alive
            there += found

    def undo(self, door: Door, ids: Iterable[str]) -> None:
        """End them."""
        listed = sorted(ids)
        if listed:
            take(door, "TerminateInstances", InstanceIds=listed)
            self.known.difference_update(listed)


def _refuse_stopped(alive: Iterable[instance.Server]) -> None:
    for one in alive:
        if one.state in instance.STOPPED:
            raise UserError(
                f"{one.name} is there and {one.state}: {one.id}",
                f"start it: aws ec2 start-instances --instance-ids {one.id}; or remove it: er destroy {one.name}",
            )


class Addresses(Part):
    """Elastic IPs: addresses that stay when a server is stopped; one for each."""

    name = "address"
    title = "address"

    def __init__(self, order: Order) -> None:
        super().__init__()
        self.order = order

    def look(self, door: Door) -> Ids:
        """What is there now."""
        return tuple(address["AllocationId"] for address in self.find(door))

    def find(self, door: Door) -> list[dict[str, Any]]:
        """The addresses themselves."""
        filters = tags.filters(self.order.name, self.name)
        found: list[dict[str, Any]] = door.call("DescribeAddresses", Filters=filters)["Addresses"]
        return found

    def request(self) -> dict[str, Any]:
        """The parameters that make one."""
        specification = tags.specification(["elastic-ip"], tags.of(self.order.name, self.name))
        return {"Domain": "vpc", "TagSpecifications": specification}

    def make(self, door: Door, made: Mapping[str, Ids]) -> Ids:
        """Give every server one. One that an interrupted run left over is used first."""
        found = self.find(door)
        self.seen(address["AllocationId"] for address in found)
        free = [address["AllocationId"] for address in found if not address.get("InstanceId")]
        bare = sorted(set(made[Servers.name]) - {address.get("InstanceId") for address in found})
        for server_id in bare:
            address = free.pop(0) if free else self._allocate(door)
            door.call("AssociateAddress", AllocationId=address, InstanceId=server_id, AllowReassociation=False)
        return tuple({address["AllocationId"] for address in found} | self.known)

    def _allocate(self, door: Door) -> str:
        with shielded():
            address: str = door.call("AllocateAddress", **self.request())["AllocationId"]
            self.known.add(address)
        return address

    def undo(self, door: Door, ids: Iterable[str]) -> None:
        """Give them back."""
        wanted = set(ids)
        for address in self.find(door):
            if address["AllocationId"] in wanted:
                if address.get("AssociationId"):
                    take(door, "DisassociateAddress", AssociationId=address["AssociationId"])
                take(door, "ReleaseAddress", AllocationId=address["AllocationId"])
                self.known.discard(address["AllocationId"])
