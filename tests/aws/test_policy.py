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

from builder.aws.permissions import FLEET_OPERATIONS, OPERATIONS, fleet_policy, policy, role_policy
from tests.aws import er_command, iam, test_fleet, test_replace
from tests.aws.iam_request import Request
from tests.aws.test_launch import READY
from tests.aws.wire import Answer, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account
    from tests.aws.wire import Call

_BOTH = {"Statement": [*policy()["Statement"], *role_policy()["Statement"]]}
_ALL = {"Statement": [*_BOTH["Statement"], *fleet_policy()["Statement"]]}
_TO_EC2 = {"iam:PassedToService": ("ec2.amazonaws.com",)}
_CHANGE = "route53:ChangeResourceRecordSets"
DOCS = Path(__file__).resolve().parents[2] / "docs"


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
    assert {(call.service, call.operation) for call in er.wire.calls} == {
        (operation.service, operation.name)
        for operation in OPERATIONS.values()
        if operation.name not in FLEET_OPERATIONS
    }
    declared = {operation for name, operation in OPERATIONS.items() if name not in FLEET_OPERATIONS}
    needed = {action for operation in declared for action in operation.needs}
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


# What may be done to anything, or to what has no tags: each is bound by its name, or is not told apart by IAM.
_FREE_OF_FLEETS = {
    "ec2:CreateNetworkInterface network-interface",
    "ec2:DeleteNetworkInterface network-interface",
    "iam:CreateServiceLinkedRole role",
    "ssm:DeleteParameter parameter",
    "ssm:GetParametersByPath parameter",
    "ssm:PutParameter parameter",
}


def test_a_fleet_makes_every_declared_call_and_no_other(er: Er, account: Account, seen: list[Request]) -> None:
    """Made, changed by somebody, rolled, rolled back and taken away; with a secret, and one that failed half way."""
    account.autoscaling = er.wire.autoscaling
    er.spec.write_text(test_fleet.SECRETS)
    image, secret = account.bake(), er.directory / "token"
    secret.write_text("s3cret")
    for verb in ("set", "rm", "set"):
        more = ("--file", str(secret)) if verb == "set" else ()
        assert er("secret", verb, er.spec, "hello", "token", *more).code == 0
    _fail_at_the_group(er)
    assert er.launch("--no-wait", "--image", image).code == 0
    found = test_fleet.group(er)
    found.hooks["er-launching"]["HeartbeatTimeout"], found.parameters["MaxSize"] = 60, 9
    er.spec.write_text(test_fleet.QUIET)
    assert er.launch("--image", image).code == 0
    newer = account.bake()
    er.wire.autoscaling.first_boot = test_fleet.bad(account, newer)
    assert er.launch("--image", newer).code == 1
    assert er("destroy", "web1", "--yes").code == 0
    account.autoscaling = None
    assert [request for request in seen if not iam.allows(_ALL, request)] == []
    called = {call.operation for call in er.wire.calls}
    assert called >= FLEET_OPERATIONS
    services = {call.service for call in er.wire.calls if call.operation in FLEET_OPERATIONS}
    assert services == {"ec2", "autoscaling", "elasticloadbalancing", "elasticfilesystem", "ssm"}
    actions = {request.action for request in seen}
    assert {action for name in FLEET_OPERATIONS for action in OPERATIONS[name].needs} <= actions
    without = [request for request in seen if request.resource != "*" and not iam.allows(_BOTH, request)]
    free = {request for request in map(_named, without) if request}
    assert free == _FREE_OF_FLEETS
    for request in seen:
        writes = not request.action.partition(":")[2].startswith(("Describe", "Get"))
        if writes and request.action.partition(":")[0] in {"autoscaling", "elasticloadbalancing", "elasticfilesystem"}:
            assert not iam.allows(_ALL, request.without_tags()), request


def _named(request: Request) -> str:
    """Of a request that is allowed whatever tags there are."""
    kind = request.resource.split(":")[-1].partition("/")[0]
    return f"{request.action} {kind}" if iam.allows(_ALL, request.without_tags()) else ""


def _fail_at_the_group(er: Er) -> None:
    """A launch that takes away again what it has made."""
    note = er.wire.fault

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        assert note is not None
        note(call, do)
        if call.operation == "CreateAutoScalingGroup":
            return refusal(call, 400, "LimitExceeded", "You have reached your limit of groups")
        return None

    er.wire.fault = fault
    assert er.launch("--no-wait").code == 1
    er.wire.fault = note


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
        _tagged("ec2:RunInstances", "launch-template", {}),
        Request("autoscaling:DeleteAutoScalingGroup", "*", {"aws:ResourceTag/er:project": ("another",)}),
        Request("elasticloadbalancing:DeleteLoadBalancer", "*"),
        Request("elasticfilesystem:DeleteFileSystem", "*"),
        Request("ssm:GetParametersByPath", "arn:aws:ssm:eu-central-1:123456789012:parameter/prod/db"),
        Request("iam:CreateServiceLinkedRole", "*", {"iam:AWSServiceName": ("lambda.amazonaws.com",)}),
        Request(_CHANGE, "arn:aws:route53:::hostedzone/Z1", {f"{_CHANGE}RecordTypes": ("A", "MX")}),
    ],
    ids=lambda request: f"{request.action} {request.resource.rpartition(':')[2]}",
)
def test_the_policy_refuses(request_: Request) -> None:
    """What has not er's tag, a role or a record that is none of er's business, a tag on what is there already."""
    assert not iam.allows(_ALL, request_)


@pytest.mark.parametrize(
    ("page", "name", "document"),
    [
        ("aws.md", "policy", policy()),
        ("aws.md", "role policy", role_policy()),
        ("fleet.md", "fleet policy", fleet_policy()),
    ],
)
def test_the_page_has_the_policy(page: str, name: str, document: dict[str, object]) -> None:
    path = DOCS / page
    text = f"```json\n{json.dumps(document, indent=2)}\n```"
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    before, _, rest = path.read_text().partition(begin)
    there, _, after = rest.partition(end)
    if os.environ.get("UPDATE"):
        path.write_text(f"{before}{begin}{text}{end}{after}")
    else:
        assert there == text
