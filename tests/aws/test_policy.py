"""The policy in the documentation allows what er calls, all of it and no more.

`UPDATE=1 pytest tests/aws/test_policy.py` writes it into docs/aws.md.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.aws.permissions import OPERATIONS, policy, role_policy
from tests.aws import er_command, iam, test_replace
from tests.aws.iam import Request
from tests.aws.test_launch import READY

if TYPE_CHECKING:
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account
    from tests.aws.wire import Call

_BOTH = {"Statement": [*policy()["Statement"], *role_policy()["Statement"]]}
_TO_EC2 = {"iam:PassedToService": ("ec2.amazonaws.com",)}
_CHANGE = "route53:ChangeResourceRecordSets"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "aws.md"


@pytest.fixture
def seen(er: Er, account: Account) -> list[Request]:
    """Every request to IAM of the calls that a test makes, as things are when it is made."""
    found: list[Request] = []

    def note(call: Call, _: object) -> None:
        found.extend(iam.requests(call, account))

    er.wire.fault = note
    return found


def test_every_declared_call_is_made_and_every_call_is_declared(er: Er, account: Account, seen: list[Request]) -> None:
    """All commands, in all their ways: what was seen on the wire is the table that the policy comes from.

    The policy allows all of it, and refuses what would make, change or remove a thing without er's tag.
    """
    profile = account.profile("er-web")
    assert er.launch("--dry-run").code == 0
    assert er.launch("--no-wait", "--eip", "--spot", "--profile-arn", profile).code == 0
    group = account.groups()[0]["GroupId"]
    account.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=25, ToPort=25, CidrIp="0.0.0.0/0"
    )
    assert er.launch("--no-wait", "--disk", "20").code == 0
    assert er("servers").code == 0
    (server,) = account.instances()
    protected = {"Value": True}
    account.ec2.modify_instance_attribute(InstanceId=server["InstanceId"], DisableApiTermination=protected)
    assert er("destroy", "web1", "--yes", "--unprotect").code == 0
    assert er("destroy", "web1", "--yes").code == 0
    # A server with data is replaced, and its first successor does not come up.
    _replace(er, account)
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: READY
    assert er.launch().code == 0
    without = len(seen)
    assert [request for request in seen if not iam.allows(policy(), request)] == []
    # A role is made for a spec that has a use for it, and given to the server that is there.
    er.spec.write_text(er_command.BY_ROLE)
    assert er.launch("--no-wait").code == 0
    assert er.launch("--no-wait").code == 0
    assert er("destroy", "web1", "--yes").code == 0
    assert [request for request in seen[without:] if not iam.allows(_BOTH, request)] == []
    assert {call.operation for call in er.wire.calls} == set(OPERATIONS)
    assert {(call.service, call.operation) for call in er.wire.calls} == {
        (operation.service, operation.name) for operation in OPERATIONS.values()
    }
    needed = {action for operation in OPERATIONS.values() for action in operation.needs}
    assert {request.action for request in seen} == needed
    free = {
        f"{request.action} {request.resource.split(':')[-1].partition('/')[0]}"
        for request in seen
        if request.resource != "*" and iam.allows(_BOTH, request.without_tags())
    }
    assert free == {
        "ec2:CreateSecurityGroup vpc",
        "ec2:RunInstances image",
        "ec2:RunInstances subnet",
        "iam:GetInstanceProfile instance-profile",
        "iam:GetRole role",
        "iam:GetRolePolicy role",
        "iam:PassRole role",
        "route53:ChangeResourceRecordSets hostedzone",
    }


def _replace(er: Er, account: Account) -> None:
    account.bake()
    er.wire.console = None
    er.spec.write_text(test_replace.SPEC)
    assert er.launch(*test_replace.LAUNCH).code == 0
    old = account.instances()[0]["InstanceId"]

    def fails(instance: str) -> str:
        broken = "easyrunner: not ready: name=web1 missing: blog/web\n"
        mine = test_replace.holder(account) == instance
        return (READY if instance == old else broken) if mine else test_replace.WAITS

    er.wire.console_of = fails
    assert er.launch("--replace").code == 1
    er.wire.console_of = lambda instance: READY if test_replace.holder(account) == instance else test_replace.WAITS
    assert er.launch("--replace").code == 0
    assert er("destroy", "web1", "--yes", "--data").code == 0
    er.wire.console_of = None


def _tagged(action: str, kind: str, tags: dict[str, str], what: str = "Resource") -> Request:
    keys = {f"aws:{what}Tag/{key}": (value,) for key, value in tags.items()}
    return Request(action, f"arn:aws:ec2:eu-central-1:123456789012:{kind}/x", keys)


def _with_keys(request: Request, *keys: str) -> Request:
    """That gives it tags with these keys."""
    return replace(request, keys={**request.keys, "aws:TagKeys": keys})


@pytest.mark.parametrize(
    "request_",
    [
        _tagged("ec2:AssociateAddress", "elastic-ip", {"er:project": "another"}),
        _tagged("ec2:AssociateAddress", "instance", {}),
        _tagged("ec2:DisassociateAddress", "elastic-ip", {}),
        _tagged("ec2:GetConsoleOutput", "instance", {}),
        _tagged("ec2:DescribeInstanceAttribute", "instance", {}),
        _tagged("ec2:RunInstances", "instance", {}, "Request"),
        _tagged("ec2:RunInstances", "security-group", {}),
        _tagged("ec2:RunInstances", "key-pair", {}),
        _tagged("ec2:CreateTags", "instance", {"er:project": "easyrunner"}, "Request"),
        _with_keys(_tagged("ec2:CreateTags", "instance", {"er:project": "easyrunner"}), "er:project"),
        _with_keys(_tagged("ec2:CreateTags", "instance", {"er:project": "another"}), "er:part"),
        _tagged("ec2:CreateVolume", "volume", {}, "Request"),
        _tagged("ec2:CreateSnapshot", "volume", {}),
        _tagged("ec2:DetachVolume", "volume", {}),
        _tagged("ec2:DeleteVolume", "volume", {}),
        _tagged("ec2:StopInstances", "instance", {}),
        Request("iam:PassRole", "arn:aws:iam::123456789012:role/Admin", _TO_EC2),
        Request(
            "iam:PassRole", "arn:aws:iam::123456789012:role/er-web", {"iam:PassedToService": ("lambda.amazonaws.com",)}
        ),
        Request("iam:CreateRole", "arn:aws:iam::123456789012:role/er-web"),
        Request("iam:PutRolePolicy", "arn:aws:iam::123456789012:role/er-web"),
        Request(
            "iam:DeleteRole", "arn:aws:iam::123456789012:role/Admin", {"aws:ResourceTag/er:project": ("easyrunner",)}
        ),
        Request(_CHANGE, "arn:aws:route53:::hostedzone/Z1", {f"{_CHANGE}RecordTypes": ("A", "MX")}),
    ],
    ids=lambda request: f"{request.action} {request.resource.rpartition(':')[2]}",
)
def test_the_policy_refuses(request_: Request) -> None:
    """What has not er's tag, a role or a record that is none of er's business, a tag on what is there already."""
    assert not iam.allows(_BOTH, request_)


@pytest.mark.parametrize(("name", "document"), [("policy", policy()), ("role policy", role_policy())])
def test_the_page_has_the_policy(name: str, document: dict[str, object]) -> None:
    text = f"```json\n{json.dumps(document, indent=2)}\n```"
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, _, rest = PAGE.read_text().partition(begin)
    there, _, after = rest.partition(end)
    if os.environ.get("UPDATE"):
        PAGE.write_text(f"{before}{begin}{text}{end}{after}")
    else:
        assert there == text
