"""The security group: the host's own firewall once more, at the edge."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
_OPEN: Final = (("tcp", facts.HTTP), ("tcp", facts.HTTPS), ("udp", facts.HTTPS))


@dataclass(frozen=True, slots=True, order=True)
class Rule:
    """One way in: a protocol and a port, for a network of either family."""

    protocol: str
    port: int
    network: str

    @property
    def permission(self) -> dict[str, Any]:
        """As EC2 takes it."""
        version = ipaddress.ip_network(self.network).version
        where = (
            {"IpRanges": [{"CidrIp": self.network}]} if version == 4 else {"Ipv6Ranges": [{"CidrIpv6": self.network}]}
        )
        return {"IpProtocol": self.protocol, "FromPort": self.port, "ToPort": self.port, **where}


def wanted(allow_from: Sequence[str]) -> frozenset[Rule]:
    """What the host answers to: SSH for the networks of the spec, HTTP and HTTPS (TCP and UDP) for all.

    Ways out stay as EC2 makes them, open: what an app may reach, the host itself decides by user.
    """
    ssh = {Rule("tcp", facts.SSH, str(ipaddress.ip_network(network))) for network in allow_from}
    return frozenset(ssh | {Rule(protocol, port, network) for protocol, port in _OPEN for network in EVERYWHERE})


def read(permissions: Iterable[Mapping[str, Any]]) -> tuple[frozenset[Rule], list[dict[str, Any]]]:
    """What a group has: rules of our form, and any others, as they can be revoked."""
    rules: set[Rule] = set()
    others: list[dict[str, Any]] = []
    for permission in permissions:
        networks = [entry["CidrIp"] for entry in permission.get("IpRanges", ())]
        networks += [entry["CidrIpv6"] for entry in permission.get("Ipv6Ranges", ())]
        port = permission.get("FromPort")
        strange = permission.get("UserIdGroupPairs") or permission.get("PrefixListIds")
        if strange or port is None or port != permission.get("ToPort"):
            others.append({key: value for key, value in permission.items() if value})
        else:
            rules |= {Rule(permission["IpProtocol"], port, network) for network in networks}
    return frozenset(rules), others


def permissions(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """A list for one call, in a fixed order."""
    return [rule.permission for rule in sorted(rules)]
