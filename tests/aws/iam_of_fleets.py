"""What IAM would be asked for a call of a fleet's services: balancer, group, file system and secrets."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from tests.aws.iam_request import Request

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.aws.moto_account import Account
    from tests.aws.wire import Call

SERVICES: Final = ("autoscaling", "elasticloadbalancing", "elasticfilesystem", "ssm")
_PLACE: Final = "eu-central-1:123456789012"
_ROLE: Final = "arn:aws:iam::123456789012:role"
# What an account's first of its kind needs besides: AWS makes the service's own role in the caller's name.
_FIRST: Final = {
    "CreateAutoScalingGroup": "autoscaling",
    "CreateFileSystem": "elasticfilesystem",
    "CreateLoadBalancer": "elasticloadbalancing",
}
_TAGGING: Final = {
    "autoscaling": "autoscaling:CreateOrUpdateTags",
    "elasticfilesystem": "elasticfilesystem:TagResource",
    "elasticloadbalancing": "elasticloadbalancing:AddTags",
}


def requests(action: str, call: Call, account: Account) -> Iterator[Request]:
    """All that has to be allowed for it, as things are before it is done."""
    if call.service == "ssm":
        said = json.loads(call.body)
        name = str(said.get("Name") or said["Path"]).rstrip("/")
        yield Request(action, f"arn:aws:ssm:{_PLACE}:parameter{name}")
        return
    if call.operation.startswith("Describe"):
        yield Request(action, "*")
        return
    if given := _given(call):
        keys = _keys("Request", given)
        yield Request(action, "*", keys)
        yield Request(_TAGGING[call.service], "*", keys)
    else:
        yield Request(action, "*", _keys("Resource", _tags(call, account)))
    yield from _besides(call, account)


def _besides(call: Call, account: Account) -> Iterator[Request]:
    if call.operation in _FIRST:
        service = f"{_FIRST[call.operation]}.amazonaws.com"
        made = f"{_ROLE}/aws-service-role/{service}/AWSServiceRole"
        yield Request("iam:CreateServiceLinkedRole", made, {"iam:AWSServiceName": (service,)})
    if call.operation in {"CreateMountTarget", "DeleteMountTarget"}:
        yield Request(f"ec2:{call.operation[:6]}NetworkInterface", f"arn:aws:ec2:{_PLACE}:network-interface/*")
    if call.operation == "CreateAutoScalingGroup":
        template = dict(call.parameters)["LaunchTemplate.LaunchTemplateId"]
        keys = _keys("Resource", account.tags("launch-template", template))
        yield Request("ec2:RunInstances", f"arn:aws:ec2:{_PLACE}:launch-template/{template}", keys)
        yield Request("iam:PassRole", f"{_ROLE}/{account.roles()[0]}", {"iam:PassedToService": ("ec2.amazonaws.com",)})


def _keys(what: str, tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {f"aws:{what}Tag/{key}": (value,) for key, value in tags.items()}


def _given(call: Call) -> dict[str, str]:
    """The tags that a call gives to what it makes."""
    if call.service == "elasticfilesystem":
        return _dict(json.loads(call.body or b"{}").get("Tags", ()))
    said = dict(call.parameters)
    keys = [key for key in said if re.fullmatch(r"Tags\.member\.\d+\.Key", key)]
    return {said[key]: said[f"{key.removesuffix('Key')}Value"] for key in keys}


def _tags(call: Call, account: Account) -> dict[str, str]:
    """Of the resource that a call is about."""
    said = dict(call.parameters)
    if call.service == "autoscaling":
        found = account.autoscaling.groups.get(said["AutoScalingGroupName"]) if account.autoscaling else None
        return _dict(found.parameters["Tags"]) if found else {}
    if call.service == "elasticloadbalancing":
        arn = next(said[key] for key in ("ListenerArn", "TargetGroupArn", "LoadBalancerArn") if key in said)
        return _dict(account.elb.describe_tags(ResourceArns=[arn])["TagDescriptions"][0]["Tags"])
    # A mount target is its file system's.
    name = json.loads(call.body)["FileSystemId"] if call.body else call.path.rpartition("/")[2]
    if name.startswith("fsmt-"):
        (target,) = account.efs.describe_mount_targets(MountTargetId=name)["MountTargets"]
        name = target["FileSystemId"]
    return _dict(account.efs.describe_file_systems(FileSystemId=name)["FileSystems"][0]["Tags"])


def _dict(tags: Any) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}
