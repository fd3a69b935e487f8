"""The IAM policy that er needs, made from the table of calls: what it makes must carry er's own tag, what it changes,
removes or reads the console of must have it already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.calls import OPERATIONS, TAGGING

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
