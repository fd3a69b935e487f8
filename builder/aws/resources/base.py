"""What a server consists of, in the order of its making."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.api import Clock, Pace, persist, take
from builder.aws.errors import AwsError
from builder.aws.resources import instance, security_group
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.prerequisites import Prerequisites
    from builder.aws.progress import Timed
    from builder.aws.request import Request


Ids = tuple[str, ...]


class Part(ABC):
    """A kind of resource of one server. `before` is what was there when this run first looked, `known` what it made."""

    name: str
    title: str

    def __init__(self) -> None:
        self.before: frozenset[str] | None = None
        self.known: set[str] = set()

    def seen(self, ids: Iterable[str]) -> None:
        """Note what is there, the first time."""
        if self.before is None:
            self.before = frozenset(ids)

    @abstractmethod
    def look(self, door: Api) -> Ids:
        """What is there now, by its tags."""

    @abstractmethod
    def make(self, door: Api, made: Mapping[str, Ids]) -> Ids:
        """Look, and make what is missing; may be repeated at any time. `made` are the parts before this one."""

    @abstractmethod
    def undo(self, door: Api, ids: Iterable[str]) -> None:
        """Take these away; what is gone already is no error."""


class Group(Part):
    """The security group, with exactly the rules of the spec."""

    name = "firewall"
    title = "security group"

    def __init__(self, order: Request, ground: Prerequisites) -> None:
        super().__init__()
        self.order, self.ground = order, ground

    def look(self, door: Api) -> Ids:
        """What is there now."""
        return tuple(group["GroupId"] for group in self.find(door))

    def find(self, door: Api) -> list[dict[str, Any]]:
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

    def make(self, door: Api, made: Mapping[str, Ids]) -> Ids:
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

    def _new(self, door: Api) -> dict[str, Any]:
        group = door.call("CreateSecurityGroup", **self.request())
        self.known.add(group["GroupId"])
        return group

    def undo(self, door: Api, ids: Iterable[str]) -> None:
        """Take it away."""
        for group in ids:
            take(door, "DeleteSecurityGroup", GroupId=group)
            self.known.discard(group)


class Key(Part):
    """The admin's public key as a key pair; its name has the key's digest, so another key is another pair."""

    name = "key"
    title = "key pair"

    def __init__(self, order: Request) -> None:
        super().__init__()
        self.order = order

    @property
    def label(self) -> str:
        """The name of the pair."""
        digest = hashlib.sha256(" ".join((self.order.key or "").split()[:2]).encode()).hexdigest()
        return f"er-{self.order.name}-{digest[:8]}"

    def look(self, door: Api) -> Ids:
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

    def make(self, door: Api, made: Mapping[str, Ids]) -> Ids:
        """Import it if need be."""
        del made
        found = self.look(door)
        self.seen(found)
        if not found:
            found = (door.call("ImportKeyPair", **self.request())["KeyName"],)
            self.known.update(found)
        return found

    def undo(self, door: Api, ids: Iterable[str]) -> None:
        """Take it away."""
        for pair in ids:
            take(door, "DeleteKeyPair", KeyName=pair)
            self.known.discard(pair)


class Servers(Part):
    """The instances."""

    name = instance.PART
    title = "server"

    def __init__(self, order: Request, ground: Prerequisites) -> None:
        super().__init__()
        self.order, self.ground = order, ground

    def look(self, door: Api) -> Ids:
        """What lives now."""
        return tuple(one.id for one in self.find(door) if one.state not in instance.GONE)

    def find(self, door: Api) -> tuple[instance.Server, ...]:
        """All instances of the name, those that ended lately too."""
        filters = tags.filters(self.order.name, self.name)
        return instance.servers(door.items("DescribeInstances", Filters=filters))

    def request(self, made: Mapping[str, Ids], count: int) -> dict[str, Any]:
        """The parameters that make them, without the token."""
        group, key = (next(iter(made.get(part, ())), None) for part in (Group.name, Key.name))
        return instance.request(self.order, self.ground, group=group, key=key, count=count)

    def make(self, door: Api, made: Mapping[str, Ids]) -> Ids:
        """Start as many as are missing, all of them or none."""
        there = list(self.find(door))
        alive = [one for one in there if one.state not in instance.GONE]
        self.seen(one.id for one in alive)
        _refuse_stopped(alive)
        if (missing := self.order.wishes.count - len(alive)) > 0:
            alive += self._run(door, made, there, missing)
        return tuple(one.id for one in alive)

    def _run(
        self, door: Api, made: Mapping[str, Ids], there: list[instance.Server], count: int
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

    def undo(self, door: Api, ids: Iterable[str]) -> None:
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

    def __init__(self, order: Request) -> None:
        super().__init__()
        self.order = order

    def look(self, door: Api) -> Ids:
        """What is there now."""
        return tuple(address["AllocationId"] for address in self.find(door))

    def find(self, door: Api) -> list[dict[str, Any]]:
        """The addresses themselves."""
        filters = tags.filters(self.order.name, self.name)
        found: list[dict[str, Any]] = door.call("DescribeAddresses", Filters=filters)["Addresses"]
        return found

    def request(self) -> dict[str, Any]:
        """The parameters that make one."""
        specification = tags.specification(["elastic-ip"], tags.of(self.order.name, self.name))
        return {"Domain": "vpc", "TagSpecifications": specification}

    def make(self, door: Api, made: Mapping[str, Ids]) -> Ids:
        """Give every server one. One that an interrupted run left over is used first."""
        found = self.find(door)
        self.seen(address["AllocationId"] for address in found)
        free = [address["AllocationId"] for address in found if not address.get("InstanceId")]
        bare = sorted(set(made[Servers.name]) - {address.get("InstanceId") for address in found})
        for server_id in bare:
            address = free.pop(0) if free else self._allocate(door)
            door.call("AssociateAddress", AllocationId=address, InstanceId=server_id, AllowReassociation=False)
        return tuple({address["AllocationId"] for address in found} | self.known)

    def _allocate(self, door: Api) -> str:
        with shielded():
            address: str = door.call("AllocateAddress", **self.request())["AllocationId"]
            self.known.add(address)
        return address

    def undo(self, door: Api, ids: Iterable[str]) -> None:
        """Give them back."""
        wanted = set(ids)
        for address in self.find(door):
            if address["AllocationId"] in wanted:
                if address.get("AssociationId"):
                    take(door, "DisassociateAddress", AssociationId=address["AssociationId"])
                take(door, "ReleaseAddress", AllocationId=address["AllocationId"])
                self.known.discard(address["AllocationId"])


class HalfwayError(UserError):
    """Not all could be made, nor all of that be taken away again; the hint says what remains and how to remove it."""


def parts(order: Request, ground: Prerequisites, pace: Pace) -> tuple[Part, ...]:
    """What the order takes, in the order of making: what costs nothing first, an address once it has a server."""
    key: tuple[Part, ...] = (Key(order),) if order.key else ()
    address: tuple[Part, ...] = (Addresses(order),) if order.wishes.eip else ()
    return (Group(order, ground), *key, Servers(order, ground), Running(pace), *address)


def make(door: Api, wanted: Sequence[Part], told: Timed, pace: Pace, remedy: str) -> dict[str, Ids]:
    """Make every part; the ids of each. On a failure or Ctrl-C, undo what this run made, and raise.

    `remedy` is the command that removes what may remain.
    """
    made: dict[str, Ids] = {}
    try:
        for part in wanted:
            with told.step(part.title):
                made[part.name] = _made(door, part, made, told, pace)
    except (UserError, KeyboardInterrupt) as error:
        left = _undo(door, [part for part in wanted if part.before is not None], told, pace)
        if not left:
            raise
        message, hint = (error.message, error.hint) if isinstance(error, UserError) else ("interrupted", None)
        remains = f"there may be left of it: {', '.join(left)}; remove it by: {remedy}"
        raise HalfwayError(message, "\n".join(filter(None, (hint, remains)))) from error
    return made


def _made(door: Api, part: Part, made: Mapping[str, Ids], told: Timed, pace: Pace) -> Ids:
    return persist(lambda: part.make(door, made), pace, told.line)


def _undo(door: Api, parts: Sequence[Part], told: Timed, pace: Pace) -> list[str]:
    """Last things first. What could not be taken away, or may be there unseen, in words."""
    left: list[str] = []
    for part in reversed(parts):
        try:
            _take_away(door, part, told, pace)
        except (UserError, KeyboardInterrupt):
            left.append(" ".join([part.title, *sorted(part.known)]))
    return left


def _take_away(door: Api, part: Part, told: Timed, pace: Pace) -> None:
    new = _new(door, part)
    if new:
        told.line(f"taking away again: {part.title} {' '.join(sorted(new))}")
        persist(lambda: part.undo(door, new), pace, told.line)
        if part.name == Servers.name:
            ended(door, new, pace)


def _new(door: Api, part: Part) -> set[str]:
    """What this run has made: as AWS lists it, and as it answered when it was made."""
    try:
        now = set(part.look(door))
    except AwsError:
        if not part.known:
            raise
        now = set()
    return (now | part.known) - (part.before or frozenset())


_POWER_ON: Final = 300.0
# Ending holds the security group: undoing waits for it, so long at most. Both in seconds.
_ENDING: Final = 300.0
_HINT: Final = "another --type or --subnet may help; an own key for EBS encryption must be usable by this identity"


class Running(Part):
    """No resource, but a time: the servers run."""

    name = "running"
    title = "power on"

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def look(self, door: Api) -> Ids:
        """Nothing of its own."""
        del door
        return ()

    def make(self, door: Api, made: Mapping[str, Ids]) -> Ids:
        """Wait; raises UserError for a server that AWS ended again."""
        ids = made[Servers.name]
        Clock(_POWER_ON, self.pace).until(lambda: _run(find(door, ids), len(ids)), "the server to run")
        return ()

    def undo(self, door: Api, ids: Iterable[str]) -> None:
        """Nothing of its own."""


def find(door: Api, ids: Iterable[str]) -> tuple[instance.Server, ...]:
    """These instances as they are now; one that was just made may be missing for a moment."""
    return instance.servers(door.items("DescribeInstances", Filters=[{"Name": "instance-id", "Values": sorted(ids)}]))


def _run(found: Sequence[instance.Server], wanted: int) -> bool:
    for one in found:
        if one.state in instance.GONE | instance.STOPPED:
            raise UserError(f"AWS has {one.state} {one.id} again: {one.reason or 'no reason given'}", _HINT)
    return len(found) == wanted and all(one.state == "running" for one in found)


def ended(door: Api, ids: Iterable[str], pace: Pace) -> None:
    """Wait until these instances are no more."""
    listed = sorted(ids)
    over = lambda: all(one.state == "terminated" for one in find(door, listed))  # noqa: E731
    Clock(_ENDING, pace).until(over, "the server to end")
