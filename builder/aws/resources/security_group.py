"""The security group: the host's own firewall once more, at the edge."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.aws.resources.lifecycle import Described, Ids, Resource

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request


class SecurityGroup(Resource):
    """One for all servers of a name, with exactly the rules of the spec."""

    part = "firewall"
    title = "security group"
    json_key = "security_groups"
    id_field = "GroupId"
    listing, creation, removal = "DescribeSecurityGroups", "CreateSecurityGroup", "DeleteSecurityGroup"

    @classmethod
    def count(cls, request: Request) -> int:  # noqa: ARG003
        """Always one."""
        return 1

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """The ports that it opens."""
        rules = sorted(desired_rules(request.spec.ssh.allow_from))
        return ", ".join(dict.fromkeys(f"{rule.port}/{rule.protocol}" for rule in rules))

    def find_existing(self, api: Api) -> list[Described]:
        """The group in the VPC of the launch."""
        return self.find(api, self.request.name, vpc_id=self.prerequisites.subnet.vpc)

    def parameters(self) -> dict[str, Any]:
        """Of CreateSecurityGroup."""
        return {
            "GroupName": f"er-{self.request.name}",
            "Description": f"EasyRunner server {self.request.name}",
            "VpcId": self.prerequisites.subnet.vpc,
            "TagSpecifications": self.tag_specifications("security-group"),
        }

    def create(self, api: Api) -> Ids:
        """Create the group if need be, then make its rules what they should be."""
        group = self.found[0] if self.found else self.create_one(api)
        rules, others = read_rules(group.get("IpPermissions", ()))
        desired = desired_rules(self.request.spec.ssh.allow_from)
        if missing := permissions(desired - rules):
            api.call("AuthorizeSecurityGroupIngress", GroupId=group["GroupId"], IpPermissions=missing)
        if surplus := permissions(rules - desired) + others:
            api.call("RevokeSecurityGroupIngress", GroupId=group["GroupId"], IpPermissions=surplus)
        return (group["GroupId"],)


_EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
_OPEN: Final = (("tcp", facts.HTTP), ("tcp", facts.HTTPS), ("udp", facts.HTTPS))


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """An inbound rule: a protocol and a port, open to a network of either family."""

    protocol: str
    port: int
    network: str

    @property
    def permission(self) -> dict[str, Any]:
        """As EC2 takes it."""
        ipv4 = ipaddress.ip_network(self.network).version == 4
        ranges = {"IpRanges": [{"CidrIp": self.network}]} if ipv4 else {"Ipv6Ranges": [{"CidrIpv6": self.network}]}
        return {"IpProtocol": self.protocol, "FromPort": self.port, "ToPort": self.port, **ranges}


def desired_rules(allow_from: Sequence[str]) -> frozenset[Rule]:
    """What the host answers to: SSH for the networks of the spec, HTTP and HTTPS (TCP and UDP) for all.

    Outbound rules stay as EC2 makes them, open: what an app may reach, the host itself decides by user.
    """
    ssh = {Rule("tcp", facts.SSH, str(ipaddress.ip_network(network))) for network in allow_from}
    return frozenset(ssh | {Rule(protocol, port, network) for protocol, port in _OPEN for network in _EVERYWHERE})


def read_rules(permissions: Iterable[Mapping[str, Any]]) -> tuple[frozenset[Rule], list[dict[str, Any]]]:
    """What a group has: rules of our form, and any others, as they can be revoked."""
    rules: set[Rule] = set()
    others: list[dict[str, Any]] = []
    for permission in permissions:
        networks = [entry["CidrIp"] for entry in permission.get("IpRanges", ())]
        networks += [entry["CidrIpv6"] for entry in permission.get("Ipv6Ranges", ())]
        port = permission.get("FromPort")
        foreign = permission.get("UserIdGroupPairs") or permission.get("PrefixListIds")
        if foreign or port is None or port != permission.get("ToPort"):
            others.append({key: value for key, value in permission.items() if value})
        else:
            rules |= {Rule(permission["IpProtocol"], port, network) for network in networks}
    return frozenset(rules), others


def permissions(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """Rules as one call takes them, in a fixed order."""
    return [rule.permission for rule in sorted(rules)]
