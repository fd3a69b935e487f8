"""The operations of the API that er calls, and the IAM policy that allows them.

By the policy, what er creates must carry its tag; it may change, remove and read the console of what has that
tag only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# What tagging at creation needs besides the creation itself.
_TAGGING: Final = "ec2:CreateTags"
# What giving a role to a server needs besides.
_PASSING: Final = "iam:PassRole"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    `needs` are IAM actions, the operation's own first; `writes` says that it changes something; `items` is the key of
    what it lists. Of EC2's resource types it `creates` some, tagged in the same request, and takes others: anybody's
    (`uses`), or only those with er's tag (`uses_own`).
    """

    service: str
    name: str
    needs: tuple[str, ...]
    writes: bool = False
    items: str = ""
    creates: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    uses_own: tuple[str, ...] = ()


def _read(name: str, items: str = "", service: str = "ec2") -> Operation:
    return Operation(service, name, (f"{service}:{name}",), items=items)


def _write(name: str, service: str = "ec2") -> Operation:
    return Operation(service, name, (f"{service}:{name}",), writes=True)


def _create(
    name: str, *creates: str, needs: tuple[str, ...] = (), uses: tuple[str, ...] = (), uses_own: tuple[str, ...] = ()
) -> Operation:
    needed = (f"ec2:{name}", _TAGGING, *needs)
    return Operation("ec2", name, needed, writes=True, creates=creates, uses=uses, uses_own=uses_own)


def _tagged(name: str) -> Operation:
    """Something of IAM's that is made with tags."""
    tagging = name.replace("Create", "iam:Tag")
    return Operation("iam", name, (f"iam:{name}", tagging), writes=True)


_ROWS: Final = (
    # AWS lets every identity ask who it is.
    Operation("sts", "GetCallerIdentity", ()),
    _read("DescribeImages", "Images"),
    _read("DescribeInstanceTypes", "InstanceTypes"),
    _read("DescribeInstanceTypeOfferings", "InstanceTypeOfferings"),
    _read("DescribeVpcs", "Vpcs"),
    _read("DescribeSubnets", "Subnets"),
    _read("DescribeRouteTables", "RouteTables"),
    _read("DescribeSecurityGroups", "SecurityGroups"),
    _read("DescribeKeyPairs", "KeyPairs"),
    _read("DescribeInstances", "Reservations"),
    _read("DescribeVolumes", "Volumes"),
    _read("DescribeAddresses", "Addresses"),
    _read("GetConsoleOutput"),
    _read("DescribeInstanceAttribute"),
    _read("DescribeRegions", "Regions"),
    _create("CreateSecurityGroup", "security-group", uses=("vpc",)),
    _write("AuthorizeSecurityGroupIngress"),
    _write("RevokeSecurityGroupIngress"),
    _create("ImportKeyPair", "key-pair"),
    _create(
        "RunInstances",
        *("instance", "network-interface", "spot-instances-request", "volume"),
        needs=(_PASSING,),
        uses=("image", "subnet"),
        uses_own=("key-pair", "security-group"),
    ),
    # Only for a spec with `registries: {…: aws}`.
    _read("GetRole", service="iam"),
    _read("GetRolePolicy", service="iam"),
    _read("GetInstanceProfile", service="iam"),
    _tagged("CreateRole"),
    _write("PutRolePolicy", "iam"),
    _tagged("CreateInstanceProfile"),
    Operation("iam", "AddRoleToInstanceProfile", ("iam:AddRoleToInstanceProfile", _PASSING), writes=True),
    Operation("ec2", "AssociateIamInstanceProfile", ("ec2:AssociateIamInstanceProfile", _PASSING), writes=True),
    _write("RemoveRoleFromInstanceProfile", "iam"),
    _write("DeleteInstanceProfile", "iam"),
    _write("DeleteRolePolicy", "iam"),
    _write("DeleteRole", "iam"),
    _create("AllocateAddress", "elastic-ip"),
    # Only for a spec with `data:`.
    _create("CreateVolume", "volume", uses_own=("snapshot",)),
    _write("AttachVolume"),
    _write("DetachVolume"),
    _write("DeleteVolume"),
    _read("DescribeSnapshots", "Snapshots"),
    # Only for `er launch --replace`.
    _create("CreateSnapshot", "snapshot", uses_own=("volume",)),
    _write("DeleteSnapshot"),
    _write("StopInstances"),
    _write("StartInstances"),
    Operation("ec2", "CreateTags", (_TAGGING,), writes=True),
    _write("AssociateAddress"),
    _write("ModifyInstanceAttribute"),
    _write("TerminateInstances"),
    _write("DisassociateAddress"),
    _write("ReleaseAddress"),
    _write("DeleteSecurityGroup"),
    _write("DeleteKeyPair"),
    _read("ListHostedZones", "HostedZones", "route53"),
    _read("ListResourceRecordSets", "ResourceRecordSets", "route53"),
    _write("ChangeResourceRecordSets", "route53"),
    _read("GetProducts", service="pricing"),
)


def _made(service: str, name: str, *needs: str) -> Operation:
    """Something that is made with tags, in a service other than EC2; `needs` are the actions besides its own."""
    return Operation(service, name, (f"{service}:{name}", *needs), writes=True)


_BALANCER, _GROUP, _FILES = "elasticloadbalancing", "autoscaling", "elasticfilesystem"
_TAG_BALANCER, _TAG_GROUP, _TAG_FILES = f"{_BALANCER}:AddTags", f"{_GROUP}:CreateOrUpdateTags", f"{_FILES}:TagResource"
# The network interface of a mount target is made and removed in the caller's name; it has no tag of er's.
_INTERFACES: Final = ("ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface")
# Only for a spec with `fleet:`.
_FLEET_ROWS: Final = (
    _read("DescribeNetworkInterfaces", "NetworkInterfaces"),
    _read("DescribeLaunchTemplates", "LaunchTemplates"),
    _read("DescribeLaunchTemplateVersions", "LaunchTemplateVersions"),
    _create("CreateLaunchTemplate", "launch-template"),
    _write("CreateLaunchTemplateVersion"),
    _write("DeleteLaunchTemplate"),
    _read("DescribeFileSystems", "FileSystems", _FILES),
    _read("DescribeMountTargets", "MountTargets", _FILES),
    _made(_FILES, "CreateFileSystem", _TAG_FILES),
    Operation(_FILES, "CreateMountTarget", (f"{_FILES}:CreateMountTarget", _INTERFACES[0]), writes=True),
    Operation(_FILES, "DeleteMountTarget", (f"{_FILES}:DeleteMountTarget", _INTERFACES[1]), writes=True),
    _write("DeleteFileSystem", _FILES),
    _read("DescribeLoadBalancers", "LoadBalancers", _BALANCER),
    _read("DescribeLoadBalancerAttributes", "Attributes", _BALANCER),
    _read("DescribeTargetGroups", "TargetGroups", _BALANCER),
    _read("DescribeTargetGroupAttributes", "Attributes", _BALANCER),
    _read("DescribeTargetHealth", "TargetHealthDescriptions", _BALANCER),
    _read("DescribeListeners", "Listeners", _BALANCER),
    _read("DescribeTags", "TagDescriptions", _BALANCER),
    _made(_BALANCER, "CreateLoadBalancer", _TAG_BALANCER),
    _made(_BALANCER, "CreateTargetGroup", _TAG_BALANCER),
    _made(_BALANCER, "CreateListener", _TAG_BALANCER),
    _write("ModifyLoadBalancerAttributes", _BALANCER),
    _write("ModifyTargetGroupAttributes", _BALANCER),
    _write("DeleteListener", _BALANCER),
    _write("DeleteLoadBalancer", _BALANCER),
    _write("DeleteTargetGroup", _BALANCER),
    _read("DescribeAutoScalingGroups", "AutoScalingGroups", _GROUP),
    _read("DescribeLifecycleHooks", "LifecycleHooks", _GROUP),
    _read("DescribePolicies", "ScalingPolicies", _GROUP),
    _read("DescribeScalingActivities", "Activities", _GROUP),
    _read("DescribeInstanceRefreshes", "InstanceRefreshes", _GROUP),
    _made(_GROUP, "CreateAutoScalingGroup", _TAG_GROUP),
    _write("UpdateAutoScalingGroup", _GROUP),
    _write("PutLifecycleHook", _GROUP),
    _write("PutScalingPolicy", _GROUP),
    _write("StartInstanceRefresh", _GROUP),
    _write("RollbackInstanceRefresh", _GROUP),
    _write("DeleteAutoScalingGroup", _GROUP),
    _read("GetParametersByPath", "Parameters", "ssm"),
    _write("PutParameter", "ssm"),
    _write("DeleteParameter", "ssm"),
)
OPERATIONS: Final = {row.name: row for row in (*_ROWS, *_FLEET_ROWS)}
FLEET_OPERATIONS: Final = frozenset(row.name for row in _FLEET_ROWS)

# A console shows what a server prints at its boot, an attribute may be its user-data: those of other servers are not
# er's business.
_OWN_READS: Final = frozenset({"ec2:GetConsoleOutput", "ec2:DescribeInstanceAttribute"})
# A role's tags are no reliable condition of PassRole, says IAM's guide: so its name has to be.
_ROLES: Final = "arn:aws:iam::*:role/er-*"
_PROFILES: Final = "arn:aws:iam::*:instance-profile/er-*"
_RECORDS: Final = "route53:ChangeResourceRecordSets"
# Of what has er's tag, the others may change: what belongs to whom is said once, when it is made.
_KEYS_OF_A_REPLACEMENT: Final = {"ForAllValues:StringEquals": {"aws:TagKeys": [tags.GIVEN_UP, tags.PART]}}
# Every record of a change must be A or AAAA: er may not touch mail, name servers, or TXT proofs of a domain.
_ADDRESSES: Final = {"ForAllValues:StringEquals": {"route53:ChangeResourceRecordSetsRecordTypes": ["A", "AAAA"]}}


def policy() -> dict[str, Any]:
    """The policy document, without what only a spec with a login by role needs; `role_policy` has the rest."""
    rows = [row for row in _ROWS if row.service != "iam"]
    needed = {action for call in rows for action in call.needs}
    reads = {action for call in rows if not call.writes for action in call.needs}
    creates, uses, uses_own = (_types(field) for field in ("creates", "uses", "uses_own"))
    changes = needed - reads - creates.keys() - {_TAGGING, _PASSING, _RECORDS}
    tagged, own = (_equal(f"aws:{what}Tag/{tags.PROJECT}", tags.OURS) for what in ("Request", "Resource"))
    creations = sorted(action.removeprefix("ec2:") for action in creates)
    return _document(
        _allow("Look", reads - _OWN_READS),
        _allow("Make", creates, _arns(creates), tagged),
        _allow("MakeFrom", uses, _arns(uses)),
        _allow("MakeFromOwn", uses_own, _arns(uses_own), own),
        _allow("TagWhatIsMade", {_TAGGING}, condition=_both(tagged, _equal("ec2:CreateAction", creations))),
        _allow("TagOwn", {_TAGGING}, condition=own | _KEYS_OF_A_REPLACEMENT),
        _allow("ChangeAndRemoveOwn", changes | _OWN_READS, condition=own),
        _allow("SetAddressRecords", {_RECORDS}, "arn:aws:route53:::hostedzone/*", _ADDRESSES),
        _allow("PassInstanceProfile", {_PASSING}, _ROLES, _equal("iam:PassedToService", "ec2.amazonaws.com")),
        _allow("LookForRoles", {"iam:GetInstanceProfile", "iam:GetRole"}, [_ROLES, _PROFILES]),
    )


def role_policy() -> dict[str, Any]:
    """What a launch needs besides, where the server's role logs in to registries: it makes that role."""
    rows = [row for row in _ROWS if row.service == "iam"]
    makes = {action for row in rows for action in row.needs if row.name.startswith("Create")}
    reads = {row.needs[0] for row in rows if not row.writes}
    changes = {row.needs[0] for row in rows} - makes - reads
    tagged, own = (_equal(f"aws:{what}Tag/{tags.PROJECT}", tags.OURS) for what in ("Request", "Resource"))
    return _document(
        _allow("LookAtRoles", reads, [_ROLES, _PROFILES]),
        _allow("MakeRoles", makes, [_ROLES, _PROFILES], tagged),
        _allow("ChangeAndRemoveOwnRoles", changes, [_ROLES, _PROFILES], own),
    )


def fleet_policy() -> dict[str, Any]:
    """What a fleet needs besides both others: its balancer, group, template, file system and secrets."""
    rows = [row for row in _FLEET_ROWS if row.service != "ssm"]
    tagging = {_TAGGING, _TAG_BALANCER, _TAG_GROUP, _TAG_FILES}
    makes = {row.needs[0] for row in rows if tagging & {*row.needs}}
    reads = {row.needs[0] for row in rows if not row.writes}
    changes = {row.needs[0] for row in rows} - makes - reads
    tagged, own = (_equal(f"aws:{what}Tag/{tags.PROJECT}", tags.OURS) for what in ("Request", "Resource"))
    template = "arn:aws:ec2:*:*:launch-template/*"
    return _document(
        _allow("LookAtFleets", reads),
        _allow("MakeFleets", makes, condition=tagged),
        _allow("TagWhatFleetsAreMadeOf", tagging - {_TAGGING, _TAG_GROUP}, condition=tagged),
        _allow("TagGroups", {_TAG_GROUP}, condition=tagged),
        _allow("TagTemplates", {_TAGGING}, template, _both(tagged, _equal("ec2:CreateAction", "CreateLaunchTemplate"))),
        _allow("MakeHostsFromOwn", {"ec2:RunInstances"}, template, own),
        _allow("ChangeAndRemoveOwnFleets", changes, condition=own),
        _allow("ConnectMountTargets", _INTERFACES),
        _allow("KeepSecrets", {row.needs[0] for row in _FLEET_ROWS if row.service == "ssm"}, _SECRETS),
        _allow("MakeRolesOfServices", {_SERVICE_ROLE}, condition=_equal("iam:AWSServiceName", list(_SERVICES))),
    )


_SECRETS: Final = "arn:aws:ssm:*:*:parameter/er/*"
# AWS makes the roles of these services with the first thing of theirs in an account.
_SERVICE_ROLE: Final = "iam:CreateServiceLinkedRole"
_SERVICES: Final = tuple(f"{name}.amazonaws.com" for name in (_GROUP, _FILES, _BALANCER))


def _document(*statements: dict[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def _types(field: str) -> dict[str, tuple[str, ...]]:
    """The resource types in this field of the operations, by IAM action."""
    return {row.needs[0]: getattr(row, field) for row in _ROWS if getattr(row, field)}


def _arns(types: Mapping[str, tuple[str, ...]]) -> list[str]:
    """All resources of these types; an image's ARN has no account."""
    return [f"arn:aws:ec2:*:*:{type_}/*" for type_ in sorted({each for listed in types.values() for each in listed})]


def _equal(key: str, value: str | list[str]) -> dict[str, Any]:
    return {"StringEquals": {key: value}}


def _both(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return {"StringEquals": one["StringEquals"] | two["StringEquals"]}


def _allow(
    name: str, actions: Iterable[str], resource: str | list[str] = "*", condition: dict[str, Any] | None = None
) -> dict[str, Any]:
    statement = {"Sid": name, "Effect": "Allow", "Action": sorted(actions), "Resource": resource}
    return statement | ({"Condition": condition} if condition else {})
