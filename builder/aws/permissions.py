"""The IAM policy that er needs, made from the table of calls: what it makes must carry er's own tag, what it changes,
removes or reads the console of must have it already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


# What each call makes, tagged in the same request; and what it stands on: anybody's, and what er made before.
_MADE: Final = {
    "ec2:AllocateAddress": ("elastic-ip",),
    "ec2:CreateSecurityGroup": ("security-group",),
    "ec2:ImportKeyPair": ("key-pair",),
    "ec2:RunInstances": ("instance", "network-interface", "spot-instances-request", "volume"),
}
_GROUND: Final = {"ec2:CreateSecurityGroup": ("vpc",), "ec2:RunInstances": ("image", "subnet")}
_OWN_GROUND: Final = {"ec2:RunInstances": ("key-pair", "security-group")}
# A console shows what a server prints at its boot: those of other servers are not er's business.
_CONSOLE: Final = "ec2:GetConsoleOutput"
_PASSING: Final = "iam:PassRole"
# A role's tags are no reliable condition of PassRole, says IAM's guide: so its name has to be.
ROLES: Final = "arn:aws:iam::*:role/er-*"
_RECORDS: Final = "route53:ChangeResourceRecordSets"


def policy() -> dict[str, Any]:
    """A policy document."""
    needed = {action for call in OPERATIONS.values() for action in call.needs}
    reads = {action for call in OPERATIONS.values() if not call.writes for action in call.needs}
    changes = needed - reads - _MADE.keys() - {TAGGING, _PASSING, _RECORDS}
    made, own = (_equal(f"aws:{what}Tag/{tags.PROJECT}", tags.OURS) for what in ("Request", "Resource"))
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("Look", reads - {_CONSOLE}),
            _allow("Make", _MADE, _ec2(_MADE), made),
            _allow("MakeFrom", _GROUND, _ec2(_GROUND)),
            _allow("MakeFromOwn", _OWN_GROUND, _ec2(_OWN_GROUND), own),
            _allow("TagWhatIsMade", {TAGGING}, condition=_both(made, _equal("ec2:CreateAction", _creations()))),
            _allow("ChangeAndRemoveOwn", changes | {_CONSOLE}, condition=own),
            _allow("SetAddressRecords", {_RECORDS}, "arn:aws:route53:::hostedzone/*", _ADDRESSES),
            _allow("PassInstanceProfile", {_PASSING}, ROLES, _equal("iam:PassedToService", "ec2.amazonaws.com")),
        ],
    }


# Every record of a change, or the change is refused: no mail, no name server, no proof of a domain.
_ADDRESSES: Final = {"ForAllValues:StringEquals": {"route53:ChangeResourceRecordSetsRecordTypes": ["A", "AAAA"]}}


def _creations() -> list[str]:
    return sorted(action.removeprefix("ec2:") for action in _MADE)


def _ec2(table: Mapping[str, tuple[str, ...]]) -> list[str]:
    """The resources of a table, as ARNs; an image's has no account."""
    return [f"arn:aws:ec2:*:*:{kind}/*" for kind in sorted({kind for kinds in table.values() for kind in kinds})]


def _equal(key: str, value: str | list[str]) -> dict[str, Any]:
    return {"StringEquals": {key: value}}


def _both(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return {"StringEquals": one["StringEquals"] | two["StringEquals"]}


def _allow(
    name: str, actions: Iterable[str], resource: str | list[str] = "*", condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    statement = {"Sid": name, "Effect": "Allow", "Action": sorted(actions), "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation. `needs` are IAM actions; `writes` says that it changes something; `items` is what is paged."""

    service: str
    name: str
    needs: tuple[str, ...]
    writes: bool = False
    items: str = ""


def _rows(*rows: Operation) -> Mapping[str, Operation]:
    return {row.name: row for row in rows}


def _read(name: str, items: str = "", service: str = "ec2") -> Operation:
    return Operation(service, name, (f"{service}:{name}",), items=items)


def _write(name: str, *more: str, service: str = "ec2") -> Operation:
    return Operation(service, name, (f"{service}:{name}", *more), writes=True)


# What tags at creation takes besides the creation itself.
TAGGING: Final = "ec2:CreateTags"

OPERATIONS: Final = _rows(
    # AWS lets every identity ask who it is.
    Operation("sts", "GetCallerIdentity", ()),
    _read("DescribeImages", "Images"),
    _read("DescribeInstanceTypes", "InstanceTypes"),
    _read("DescribeInstanceTypeOfferings", "InstanceTypeOfferings"),
    _read("DescribeVpcs", "Vpcs"),
    _read("DescribeSubnets", "Subnets"),
    _read("DescribeRouteTables", "RouteTables"),
    _read("DescribeSecurityGroups", "SecurityGroups"),
    _read("DescribeKeyPairs"),
    _read("DescribeInstances", "Reservations"),
    _read("DescribeAddresses"),
    _read("GetConsoleOutput"),
    _write("CreateSecurityGroup", TAGGING),
    _write("AuthorizeSecurityGroupIngress"),
    _write("RevokeSecurityGroupIngress"),
    _write("ImportKeyPair", TAGGING),
    _write("RunInstances", TAGGING, "iam:PassRole"),
    _write("AllocateAddress", TAGGING),
    _write("AssociateAddress"),
    _write("ModifyInstanceAttribute"),
    _write("TerminateInstances"),
    _write("DisassociateAddress"),
    _write("ReleaseAddress"),
    _write("DeleteSecurityGroup"),
    _write("DeleteKeyPair"),
    _read("ListHostedZones", "HostedZones", "route53"),
    _read("ListResourceRecordSets", "ResourceRecordSets", "route53"),
    _write("ChangeResourceRecordSets", service="route53"),
    _read("GetProducts", service="pricing"),
)
