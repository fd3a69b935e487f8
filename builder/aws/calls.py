"""Every operation of AWS that er uses, and the permission each takes: the IAM policy is made from this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


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
