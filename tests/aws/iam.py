"""What IAM would say to a request that was seen on the wire: its resources and their tags, held against a policy.

Of IAM's grammar just what the policy uses; a condition that it does not know is an error, never a yes.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from tests.aws import iam_of_fleets
from tests.aws.iam_request import Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tests.aws.moto_account import Account
    from tests.aws.wire import Call

# Parameters of EC2 that name a resource, and of which type it is.
_NAMED: Final = (
    (r"AllocationId", "elastic-ip"),
    (r"ImageId", "image"),
    (r"InstanceId(\.\d+)?", "instance"),
    (r"KeyName", "key-pair"),
    (r"GroupId|NetworkInterface\.\d+\.SecurityGroupId\.\d+", "security-group"),
    (r"NetworkInterface\.\d+\.SubnetId", "subnet"),
    (r"VpcId", "vpc"),
    (r"VolumeId", "volume"),
    (r"SnapshotId", "snapshot"),
    (r"LaunchTemplateId", "launch-template"),
)
# What is tagged by itself: what its id begins with.
_TAGGED: Final = {"i": "instance", "vol": "volume"}
# What a call makes although no parameter names it.
_MADE: Final[Mapping[str, tuple[str, ...]]] = {
    "AllocateAddress": ("elastic-ip",),
    "CreateLaunchTemplate": ("launch-template",),
    "CreateSecurityGroup": ("security-group",),
    "CreateSnapshot": ("snapshot",),
    "CreateVolume": ("volume",),
    "ImportKeyPair": ("key-pair",),
    "RunInstances": ("instance", "network-interface", "volume"),
}


def requests(call: Call, account: Account) -> list[Request]:
    """All that has to be allowed for a call, as things are before it is done."""
    action = f"{call.service}:{call.operation}"
    if call.service == "sts":
        return []  # every identity may ask who it is
    if call.service == "ec2":
        return [*_ec2(action, call, account)]
    if call.service == "iam":
        return [*_iam(action, call, account)]
    if call.service in iam_of_fleets.SERVICES:
        return [*iam_of_fleets.requests(action, call, account)]
    keys = {}
    if call.operation == "ChangeResourceRecordSets":
        kinds = re.findall(rb"<Type>(\w+)</Type>", call.body)
        keys = {"route53:ChangeResourceRecordSetsRecordTypes": tuple(kind.decode() for kind in kinds)}
    return [Request(action, "arn:aws:route53:::hostedzone/Z1" if keys else "*", keys)]


def _ec2(action: str, call: Call, account: Account) -> Iterator[Request]:
    given = _given_tags(call)
    # Of what is listed IAM decides as a whole; of one thing's attribute by that thing.
    if call.operation.startswith("Describe") and not call.operation.endswith("Attribute"):
        yield Request(action, "*")
        return
    for kind in (*_MADE.get(call.operation, ()), *(given.keys() - set(_MADE.get(call.operation, ())))):
        yield Request(action, _arn(kind, "*"), _keys("Request", given.get(kind, {})))
        if kind in given:
            made_by = {"ec2:CreateAction": (call.operation,)}
            yield Request("ec2:CreateTags", _arn(kind, "*"), {**_keys("Request", given[kind]), **made_by})
    made = _MADE.get(call.operation, ())
    for kind, name in _named(call, account):
        if kind not in made:
            yield Request(action, _arn(kind, name), _keys("Resource", account.tags(kind, name)) | _tag_keys(call))
    yield from _passed(call, account)


# The kind of resource that each operation of IAM is about, and how it is named.
_ABOUT_PROFILES: Final = re.compile(r"\w*InstanceProfile")


def _iam(action: str, call: Call, account: Account) -> Iterator[Request]:
    said = dict(call.parameters)
    kind = "instance-profile" if _ABOUT_PROFILES.fullmatch(call.operation) else "role"
    name = said["InstanceProfileName" if kind == "instance-profile" else "RoleName"]
    arn = f"arn:aws:iam::123456789012:{kind}/{name}"
    if call.operation.startswith("Create"):
        keys = [key for key in said if re.fullmatch(r"Tags\.member\.\d+\.Key", key)]
        given = {said[key]: said[f"{key.removesuffix('Key')}Value"] for key in keys}
        yield Request(action, arn, _keys("Request", given))
        yield Request(action.replace("Create", "Tag"), arn, _keys("Request", given))
        return
    yield Request(action, arn, _keys("Resource", account.iam_tags(kind, name)))
    if call.operation == "AddRoleToInstanceProfile":
        passed = f"arn:aws:iam::123456789012:role/{said['RoleName']}"
        yield Request("iam:PassRole", passed, {"iam:PassedToService": ("ec2.amazonaws.com",)})


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:ec2:eu-central-1:{'' if kind == 'image' else '123456789012'}:{kind}/{name}"


def _keys(what: str, tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {f"aws:{what}Tag/{key}": (value,) for key, value in tags.items()}


def _given_tags(call: Call) -> dict[str, dict[str, str]]:
    """Of each type of resource the tags that the request gives it."""
    said = dict(call.parameters)
    found: dict[str, dict[str, str]] = {}
    for name, kind in call.parameters:
        if match := re.fullmatch(r"(TagSpecification\.\d+)\.ResourceType", name):
            keys = [key for key in said if re.fullmatch(rf"{re.escape(match[1])}\.Tag\.\d+\.Key", key)]
            found[kind] = {said[key]: said[f"{key.removesuffix('Key')}Value"] for key in keys}
    return found


def _tag_keys(call: Call) -> dict[str, tuple[str, ...]]:
    """Of a call that tags what is there."""
    keys = tuple(value for name, value in call.parameters if re.fullmatch(r"Tag\.\d+\.Key", name))
    return {"aws:TagKeys": keys} if keys else {}


def _named(call: Call, account: Account) -> Iterator[tuple[str, str]]:
    for name, value in call.parameters:
        for pattern, kind in _NAMED:
            if re.fullmatch(pattern, name):
                yield kind, value
        if re.fullmatch(r"ResourceId\.\d+", name):
            yield _TAGGED[value.partition("-")[0]], value
        if name == "AssociationId":
            yield from account.association(value)


def _passed(call: Call, account: Account) -> Iterator[Request]:
    """The role of an instance profile is passed on."""
    for name, profile in call.parameters:
        if name in {"IamInstanceProfile.Arn", "IamInstanceProfile.Name"}:
            found = account.iam.get_instance_profile(InstanceProfileName=profile.rpartition("/")[2])
            for role in found["InstanceProfile"]["Roles"]:
                yield Request("iam:PassRole", role["Arn"], {"iam:PassedToService": ("ec2.amazonaws.com",)})


def allows(policy: Mapping[str, Any], request: Request) -> bool:
    """Whether a statement of the policy allows it."""
    return any(_fits(statement, request) for statement in policy["Statement"])


def _fits(statement: Mapping[str, Any], request: Request) -> bool:
    resources = statement["Resource"]
    return (
        request.action in statement["Action"]
        and any(fnmatchcase(request.resource, pattern) for pattern in _list(resources))
        and all(_holds(operator, wanted, request) for operator, wanted in statement.get("Condition", {}).items())
    )


def _list(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _holds(operator: str, wanted: Mapping[str, str | list[str]], request: Request) -> bool:
    if operator not in {"StringEquals", "ForAllValues:StringEquals"}:
        raise NotImplementedError(operator)
    for key, values in wanted.items():
        there = request.keys.get(key, ())
        if operator == "StringEquals" and not there:
            return False
        if not set(there) <= set(_list(values)):
            return False
    return True
