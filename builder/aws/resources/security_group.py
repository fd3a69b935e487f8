"""Security groups: the host's own firewall once more, at the edge. A fleet's balancer has one too."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.aws import tags
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request


class _Group(Resource):
    """What both have in common: exactly the rules that they should have."""

    id_field = "GroupId"
    listing, creation, removal = "DescribeSecurityGroups", "CreateSecurityGroup", "DeleteSecurityGroup"

    @property
    def group_name(self) -> str:
        """What EC2 shows."""
        return f"er-{self.request.name}"

    def parameters(self) -> dict[str, Any]:
        """Of CreateSecurityGroup."""
        return {
            "GroupName": self.group_name,
            "Description": f"EasyRunner server {self.request.name}",
            "VpcId": self.prerequisites.subnet.vpc,
            "TagSpecifications": self.tag_specifications("security-group"),
        }

    def find_existing(self, api: Api) -> list[Described]:
        """The group in the VPC of the launch."""
        return self.find(api, self.request.name, vpc_id=self.prerequisites.subnet.vpc)

    def desired_rules(self, group: str) -> frozenset[Rule]:
        """What the group of this id should let in."""
        raise NotImplementedError

    def create(self, api: Api) -> Ids:
        """Create the group if need be, then make its rules what they should be."""
        group = self.found[0] if self.found else self.create_one(api)
        desired = self.desired_rules(group["GroupId"])
        rules, others = read_rules(group.get("IpPermissions", ()), {rule.source for rule in desired})
        if missing := permissions(desired - rules):
            api.call("AuthorizeSecurityGroupIngress", GroupId=group["GroupId"], IpPermissions=missing)
        if surplus := permissions(rules - desired) + others:
            api.call("RevokeSecurityGroupIngress", GroupId=group["GroupId"], IpPermissions=surplus)
        return (group["GroupId"],)


class BalancerGroup(_Group):
    """Of a fleet's balancer. It is the first part of a fleet that is made, the last that goes: by it er knows one."""

    part = "balancer-firewall"
    title = "security group of the balancer"
    json_key = "balancer_security_groups"

    @classmethod
    def count(cls, request: Request) -> int:
        """One, for a fleet."""
        return 1 if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """The ports that it opens."""
        return ", ".join(f"{port}/tcp" for port in BALANCED)

    @property
    def group_name(self) -> str:
        """Beside that of the hosts."""
        return f"{super().group_name}-lb"

    def desired_rules(self, group: str) -> frozenset[Rule]:  # noqa: ARG002
        """HTTP and HTTPS for all: HTTP/3 does not come through."""
        return frozenset(Rule("tcp", port, network) for port in BALANCED for network in _EVERYWHERE)


class SecurityGroup(_Group):
    """One for all servers of a name."""

    part = "firewall"
    title = "security group"
    json_key = "security_groups"

    @classmethod
    def count(cls, request: Request) -> int:  # noqa: ARG003
        """Always one."""
        return 1

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """The ports that it opens."""
        if request.spec.fleet:
            rules = sorted(desired_rules_of_hosts(request.spec.ssh.allow_from, "the balancer", "themselves"))
        else:
            rules = sorted(desired_rules(request.spec.ssh.allow_from))
        ports = dict.fromkeys((rule.port, rule.protocol, rule.group) for rule in rules)
        return ", ".join(f"{port}/{protocol}{f' from {group}' if group else ''}" for port, protocol, group in ports)

    @classmethod
    def find_all(cls, api: Api, name: str) -> list[Described]:
        """With that of the balancer, which the other refers to and so goes after it."""
        found = api.items(cls.listing, Filters=tags.filters(name))
        return sorted(found, key=lambda one: tags.read(one).get(tags.PART) != cls.part)

    def find_existing(self, api: Api) -> list[Described]:
        """Raises UserError where a server is to be made and the name is a fleet's."""
        if self.request.spec.fleet:
            return super().find_existing(api)
        both = api.items(self.listing, Filters=tags.filters(self.request.name, vpc_id=self.prerequisites.subnet.vpc))
        if any(is_of_fleet(one) for one in both):
            raise UserError(
                f"{self.request.name} is a fleet, and the spec has no `fleet:`",
                f"another name, or first: er destroy {self.request.name} --region {self.prerequisites.region}",
            )
        return both

    def desired_rules(self, group: str) -> frozenset[Rule]:
        """By the spec."""
        allow_from, balancer = self.request.spec.ssh.allow_from, self.ids.get(BalancerGroup.part)
        return desired_rules_of_hosts(allow_from, balancer[0], group) if balancer else desired_rules(allow_from)


def is_of_fleet(group: Described) -> bool:
    """Whether this security group says that its name is a fleet's."""
    return tags.read(group).get(tags.PART) == BalancerGroup.part


_EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
_OPEN: Final = (("tcp", facts.HTTP), ("tcp", facts.HTTPS), ("udp", facts.HTTPS))
# The ports of a balancer, and of its target groups.
BALANCED: Final = (facts.HTTP, facts.HTTPS)
_NFS: Final = 2049


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """An inbound rule: a protocol and a port, open to a network of either family, or to a security group."""

    protocol: str
    port: int
    source: str

    @property
    def group(self) -> str:
        """The security group; empty for a network."""
        return "" if "/" in self.source else self.source

    @property
    def permission(self) -> dict[str, Any]:
        """As EC2 takes it."""
        return {"IpProtocol": self.protocol, "FromPort": self.port, "ToPort": self.port, **self._sources}

    @property
    def _sources(self) -> dict[str, Any]:
        if self.group:
            return {"UserIdGroupPairs": [{"GroupId": self.group}]}
        ipv4 = ipaddress.ip_network(self.source).version == 4
        return {"IpRanges": [{"CidrIp": self.source}]} if ipv4 else {"Ipv6Ranges": [{"CidrIpv6": self.source}]}


def desired_rules(allow_from: Sequence[str]) -> frozenset[Rule]:
    """What a server answers to: SSH for the networks of the spec, HTTP and HTTPS (TCP and UDP) for all.

    Outbound rules stay as EC2 makes them, open: what an app may reach, the host itself decides by user.
    """
    return _ssh(allow_from) | {Rule(protocol, port, network) for protocol, port in _OPEN for network in _EVERYWHERE}


def desired_rules_of_hosts(allow_from: Sequence[str], balancer: str, own: str) -> frozenset[Rule]:
    """What the hosts of a fleet answer to: visitors by way of the balancer alone; among themselves, shared files.

    The file system has the hosts' own group too.
    """
    return _ssh(allow_from) | {Rule("tcp", port, balancer) for port in BALANCED} | {Rule("tcp", _NFS, own)}


def _ssh(allow_from: Sequence[str]) -> frozenset[Rule]:
    return frozenset(Rule("tcp", facts.SSH, str(ipaddress.ip_network(network))) for network in allow_from)


def read_rules(
    permissions: Iterable[Mapping[str, Any]], sources: Collection[str] = ()
) -> tuple[frozenset[Rule], list[dict[str, Any]]]:
    """What a group has: rules of our form, and others, as they can be revoked; of groups only `sources` are ours."""
    rules: set[Rule] = set()
    others: list[dict[str, Any]] = []
    for permission in permissions:
        networks = [entry["CidrIp"] for entry in permission.get("IpRanges", ())]
        networks += [entry["CidrIpv6"] for entry in permission.get("Ipv6Ranges", ())]
        groups = [pair.get("GroupId", "") for pair in permission.get("UserIdGroupPairs", ())]
        port = permission.get("FromPort")
        foreign = not {*groups} <= {*sources} or permission.get("PrefixListIds")
        if foreign or port is None or port != permission.get("ToPort"):
            others.append({key: value for key, value in permission.items() if value})
        else:
            rules |= {Rule(permission["IpProtocol"], port, source) for source in (*networks, *groups)}
    return frozenset(rules), others


def permissions(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules as one call takes them, in a fixed order."""
    return [rule.permission for rule in sorted(rules)]
