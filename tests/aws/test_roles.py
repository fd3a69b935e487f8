"""A role for a server whose images come from Amazon ECR: made, changed, given, taken away, and every call failing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from builder.aws.permissions import OPERATIONS
from builder.aws.resources.role import name_of
from tests.aws import er_command, test_faults
from tests.aws.er_command import BY_ROLE
from tests.aws.moto_account import REGION
from tests.aws.test_faults import BY_NAME, arm, disarm
from tests.aws.wire import Answer, Call, refusal
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

NAME = name_of("web1", REGION)


@pytest.fixture
def by_role(er: Er) -> Er:
    er.spec.write_text(BY_ROLE)
    return er


def pull(account: Account) -> Any:
    """What the role may do."""
    found = account.iam.get_role_policy(RoleName=NAME, PolicyName="pull")["PolicyDocument"]
    return json.loads(unquote(found)) if isinstance(found, str) else found


def test_the_role_may_fetch_the_images_of_the_spec_and_nothing_else(by_role: Er, account: Account) -> None:
    done = by_role.launch("--no-wait")
    assert done.code == 0, done.err
    assert account.roles() == [NAME]
    (profile,) = account.profiles()
    assert [role["RoleName"] for role in profile["Roles"]] == [NAME]
    (server,) = account.instances()
    assert server["IamInstanceProfile"]["Arn"] == profile["Arn"]
    assert (server["MetadataOptions"]["HttpTokens"], server["MetadataOptions"]["HttpPutResponseHopLimit"]) == (
        "required",
        1,
    )
    assert pull(account)["Statement"] == [
        {"Sid": "LogIn", "Effect": "Allow", "Action": "ecr:GetAuthorizationToken", "Resource": "*"},
        {
            "Sid": "Pull",
            "Effect": "Allow",
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            "Resource": ["arn:aws:ecr:eu-central-1:123456789012:repository/team/hello"],
        },
    ]
    trust = account.iam.get_role(RoleName=NAME)["Role"]["AssumeRolePolicyDocument"]
    assert [one["Principal"] for one in trust["Statement"]] == [{"Service": "ec2.amazonaws.com"}]
    for kind in ("role", "instance-profile"):
        tags = account.iam_tags(kind, NAME)
        assert (tags["er:project"], tags["er:server"]) == ("easyrunner", "web1")
    again = by_role.launch("--no-wait")
    assert again.code == 0, again.err
    shown = by_role("destroy", "web1", "--dry-run")
    assert f"role {NAME}" in shown.err
    assert f"instance profile {NAME}" in shown.err
    gone = by_role("destroy", "web1", "--yes")
    assert gone.code == 0, gone.err
    assert account.everything() == []


def test_a_second_run_makes_nothing_and_another_image_changes_what_it_may(by_role: Er, account: Account) -> None:
    assert by_role.launch("--no-wait").code == 0
    by_role.wire.calls.clear()
    assert by_role.launch("--no-wait").code == 0
    assert [op for op in by_role.wire.operations if OPERATIONS[op].writes] == []
    by_role.spec.write_text(BY_ROLE.replace("team/hello", "team/other"))
    by_role.wire.calls.clear()
    assert by_role.launch("--no-wait").code == 0
    assert [op for op in by_role.wire.operations if OPERATIONS[op].writes] == ["PutRolePolicy"]
    assert "other" in str(pull(account))
    assert "hello" not in str(pull(account))


def test_a_server_that_is_there_gets_the_role(er: Er, account: Account) -> None:
    """Its spec had no need of one when it was made."""
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0
    assert account.roles() == []
    er.spec.write_text(BY_ROLE)
    assert er.launch("--no-wait").code == 0
    (server,) = account.instances()
    assert server["IamInstanceProfile"]["Arn"].endswith(f"/{NAME}")


def test_a_profile_of_ones_own_is_taken_and_nothing_is_made(by_role: Er, account: Account) -> None:
    mine = account.profile("er-mine")
    done = by_role.launch("--no-wait", "--profile-arn", mine)
    assert done.code == 0, done.err
    assert "the role of --profile-arn has to allow the server its images" in done.err
    assert account.roles() == ["er-mine"]
    assert account.instances()[0]["IamInstanceProfile"]["Arn"] == mine


def test_a_dry_run_makes_nothing_and_shows_it(by_role: Er, account: Account) -> None:
    """IAM knows no dry run: what it would make is not asked about."""
    done = by_role.launch("--dry-run", "--json")
    assert done.code == 0, done.err
    assert "would make role: may pull team/hello" in done.err
    assert "would make instance profile" in done.err
    assert account.everything() == []
    assert not [call for call in by_role.wire.calls if call.service == "iam" and OPERATIONS[call.operation].writes]


def test_ec2_hears_of_a_new_profile_late(by_role: Er, account: Account) -> None:
    """As it does, for some ten seconds; another instance profile that it does not know is an error at once."""
    refused: list[int] = []

    def late(call: Call, _: object) -> Answer | None:
        if call.operation != "RunInstances" or len(refused) == 3:
            return None
        refused.append(call.number)
        text = f"Value ({NAME}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        return refusal(call, 400, "InvalidParameterValue", text)

    by_role.wire.fault = late
    done = by_role.launch("--no-wait")
    assert done.code == 0, done.err
    assert len(refused) == 3
    assert len(account.instances()) == 1
    assert by_role("destroy", "web1", "--yes").code == 0
    refused.clear()
    wrong = by_role.launch("--no-wait", "--profile-arn", "arn:aws:iam::123456789012:instance-profile/er-none")
    assert wrong.code == 1
    assert "is the ARN of --profile-arn right?" in wrong.err
    assert len(refused) == 1
    assert account.everything() == []


def test_a_role_that_is_somebody_elses_is_left_alone(by_role: Er, account: Account) -> None:
    account.iam.create_role(RoleName=NAME, AssumeRolePolicyDocument="{}")
    done = by_role.launch("--no-wait")
    assert done.code == 1
    assert "something of that name is there and is not er's" in done.err
    assert account.roles() == [NAME]
    assert not account.instances()
    assert by_role("destroy", "web1", "--yes").code == 0
    assert account.roles() == [NAME]


def test_who_may_not_look_for_roles_can_still_destroy(er: Er, account: Account) -> None:
    """With a policy from before there were any."""
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0

    def denied(call: Call, _: object) -> Answer | None:
        return refusal(call, 403, "AccessDenied", "not authorized") if call.service == "iam" else None

    er.wire.fault = denied
    done = er("destroy", "web1", "--yes")
    assert done.code == 0, done.err
    assert "these credentials may not do iam:GetRole: if web1 has a role of er's, it is not seen, and stays" in done.err
    assert account.everything() == []


def test_an_image_without_the_helper_is_said(by_role: Er, account: Account) -> None:
    account.bake()
    done = by_role.launch("--dry-run")
    assert "the image lacks amazon-ecr-credential-helper (asks Amazon ECR for passwords" in done.err
    baked = account.bake()
    label = {"Key": "er:packages", "Value": "amazon-ecr-credential-helper"}
    account.ec2.create_tags(Resources=[baked], Tags=[label])
    done = by_role.launch("--dry-run", "--image", baked)
    assert "the image lacks" not in done.err


def test_a_name_has_room_and_is_of_one_region() -> None:
    """IAM takes 64 characters, and knows no regions."""
    assert re.fullmatch(r"er-web1-[0-9a-f]{8}", NAME)
    assert len(name_of("x" * 63, REGION)) <= 64
    assert name_of("web1", "eu-west-1") != NAME


_WAYS = ("server error", "done, then server error", "done, answer lost", "network gone", "denied")


def _cases(calls: list[Call]) -> list[tuple[Call, str]]:
    """In a sweep each call of IAM with all ways to fail; else every other one that writes, each with another way."""
    found = [call for call in calls if call.service == "iam"]
    if not WHOLE:
        writing = [call for call in found if OPERATIONS[call.operation].writes]
        return [(call, _WAYS[(number + 1) % len(_WAYS)]) for number, call in enumerate(writing[::2])]
    pairs = [(call, way) for call in found for way in _WAYS]
    return [(call, way) for call, way in pairs if OPERATIONS[call.operation].writes or not BY_NAME[way].writes_only]


def test_a_call_to_iam_that_fails_at_a_launch(by_role: Er, account: Account) -> None:
    """Whatever is left, the same command again makes it whole."""
    words = ("launch", str(by_role.spec), "--no-wait")
    for call, way in _cases(test_faults.sequence(by_role, *words)):
        account.reset()
        arm(by_role, BY_NAME[way], call)
        done = by_role(*words)
        disarm(by_role)
        where = f"{call.number} {call.operation}, {way}: {done.err}"
        assert len(account.instances()) == (done.code == 0), where
        assert done.code == 0 or "hint: " in done.err, where
        again = by_role(*words)
        assert (again.code, account.roles(), len(account.instances())) == (0, [NAME], 1), where + again.err
        assert [role["RoleName"] for role in account.profiles()[0]["Roles"]] == [NAME], where
        assert "team/hello" in str(pull(account)), where


def test_a_call_to_iam_that_fails_at_a_destroy(by_role: Er, account: Account) -> None:
    """The same command again takes away the rest."""
    words = ("launch", str(by_role.spec), "--no-wait")
    assert by_role(*words).code == 0
    by_role.wire.calls.clear()
    for call, way in _cases(test_faults.sequence(by_role, "destroy", "web1", "--yes")):
        account.reset()
        assert by_role(*words).code == 0
        arm(by_role, BY_NAME[way], call)
        done = by_role("destroy", "web1", "--yes")
        disarm(by_role)
        where = f"{call.number} {call.operation}, {way}: {done.err}"
        assert not account.everything() or done.code == 1 or "is not seen, and stays" in done.err, where
        again = by_role("destroy", "web1", "--yes")
        assert (again.code, account.everything()) == (0, []), where + again.err
