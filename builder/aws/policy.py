"""The IAM policy that er needs, made from the table of calls: what makes and removes is bound to er's own tags."""

from __future__ import annotations

from typing import Any, Final

from builder.aws import tags
from builder.aws.calls import OPERATIONS

# Things that are tagged from their creation on, so their change and removal can be bound to the tag.
_OWN: Final = frozenset(
    {
        "ec2:TerminateInstances",
        "ec2:ModifyInstanceAttribute",
        "ec2:DeleteSecurityGroup",
        "ec2:AuthorizeSecurityGroupIngress",
        "ec2:RevokeSecurityGroupIngress",
        "ec2:DeleteKeyPair",
        "ec2:ReleaseAddress",
    }
)
_TAGGING: Final = "ec2:CreateTags"
_PASSING: Final = "iam:PassRole"


def policy() -> dict[str, Any]:
    """A policy document."""
    reads = {action for call in OPERATIONS.values() if not call.writes for action in call.needs}
    writes = {action for call in OPERATIONS.values() if call.writes for action in call.needs}
    route53 = {action for action in reads | writes if action.startswith("route53:")}
    making = writes - _OWN - route53 - {_TAGGING, _PASSING}
    return {
        "Version": "2012-10-17",
        "Statement": [
            _allow("Look", reads - route53),
            _allow("Make", making),
            _allow("TagWhatIsMade", {_TAGGING}, {"StringEquals": {"ec2:CreateAction": _creations()}}),
            _allow("ChangeAndRemoveOwn", _OWN, {"StringEquals": {f"aws:ResourceTag/{tags.PROJECT}": tags.OURS}}),
            _allow("SetRecords", route53),
            _allow("PassInstanceProfile", {_PASSING}, {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
        ],
    }


def _creations() -> list[str]:
    return sorted(call.name for call in OPERATIONS.values() if _TAGGING in call.needs)


def _allow(name: str, actions: set[str] | frozenset[str], condition: dict[str, Any] | None = None) -> dict[str, Any]:
    statement = {"Sid": name, "Effect": "Allow", "Action": sorted(actions), "Resource": "*"}
    return statement | ({"Condition": condition} if condition else {})
