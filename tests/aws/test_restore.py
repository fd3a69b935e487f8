"""`er launch --restore`: a new server whose data comes from the backup; what it waits for is named."""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from builder import facts
from tests.aws import er_command
from tests.aws.test_launch import BLOB, BOOT, READY, tags

if TYPE_CHECKING:
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

BACKUP = "backup: {to: 's3:https://s3.example.com/bucket/web1'}\n"
SPEC = er_command.QUIET + BACKUP
NAMES = ("restic-password", "s3-access-key", "s3-secret-key")
KEYS = BOOT.split("easyrunner:")[0]
WAITS = KEYS + "".join(f"easyrunner: waits for its data: er server secret set HOST --host {name}\n" for name in NAMES)


@pytest.fixture(autouse=True)
def baked(account: Account) -> None:
    """With a backup the user-data of a stock image is over EC2's limit."""
    account.bake()


@pytest.fixture
def restoring(er: Er) -> Er:
    er.spec.write_text(SPEC)
    return er


def test_the_secrets_that_it_waits_for_are_named_once_and_its_key_is_known_by_then(
    restoring: Er, account: Account
) -> None:
    """As soon as the console names them: who sets one logs in with the host key that is known."""
    er, consoles, known = restoring, iter([KEYS, WAITS, WAITS, READY]), list[bool]()

    def console() -> str:
        known.append(er.known_hosts.exists() and BLOB in er.known_hosts.read_text())
        return next(consoles)

    er.wire.console = console
    done = er.launch("--restore")
    assert done.code == 0, done.err
    assert known == [False, False, True, True]
    (server,) = account.instances()
    for name in NAMES:
        way = f"er server secret set er@{server['PublicIpAddress']} --host {name}"
        said = f"its data waits for the host's secret {name}: {way}"
        assert done.err.count(said) == 1, done.err
    user_data = account.ec2.describe_instance_attribute(InstanceId=server["InstanceId"], Attribute="userData")
    content = base64.b64decode(user_data["UserData"]["Value"])
    content = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    assert facts.FIRST_RESTORE in content.decode()


def test_who_does_not_wait_is_told_what_to_set(restoring: Er) -> None:
    done = restoring.launch("--restore", "--no-wait")
    assert done.code == 0, done.err
    assert [name for name in NAMES if f"--host {name}" in done.err] == list(NAMES)
    assert "waits for" not in restoring.launch("--no-wait").err


def test_the_same_command_takes_it_up_and_a_launch_without_it_finds_nothing_changed(
    restoring: Er, account: Account
) -> None:
    er = restoring
    er.wire.console = lambda: WAITS
    late = er.launch("--restore", "--timeout", "1")
    assert late.code == 1
    assert "the same command takes it up again" in late.err
    assert "waits for its data: er server secret set HOST --host restic-password" in late.err
    (server,) = account.instances()
    assert tags(server)["er:restore"] == "yes"
    er.wire.console = lambda: READY
    for words in (("--restore",), ()):
        again = er.launch(*words)
        assert again.code == 0, again.err
        assert "another spec" not in again.err
    assert [one["InstanceId"] for one in account.instances()] == [server["InstanceId"]]


def test_a_server_that_is_there_is_not_restored_over(restoring: Er, account: Account) -> None:
    assert restoring.launch("--no-wait").code == 0
    before = account.everything()
    for words in ((), ("--dry-run",)):
        refused = restoring.launch("--restore", *words)
        assert refused.code == 1
        assert "is there" in refused.err
        assert "--restore is for a new server" in refused.err
        assert "er server restore er@" in refused.err
    assert account.everything() == before


def test_a_bucket_of_aws_is_opened_by_the_role(er: Er, account: Account) -> None:
    """Then the password of the repository is all that the host waits for."""
    er.spec.write_text(er_command.QUIET + "backup: {to: 's3://bucket/web1'}\n")
    done = er.launch("--restore", "--no-wait")
    assert done.code == 0, done.err
    (role,) = account.roles()
    policies = account.iam.list_role_policies(RoleName=role)["PolicyNames"]
    found = account.iam.get_role_policy(RoleName=role, PolicyName=policies[0])["PolicyDocument"]
    document = json.loads(unquote(found)) if isinstance(found, str) else found
    assert "arn:aws:s3:::bucket/web1/*" in [one["Resource"] for one in document["Statement"]]
    assert done.err.count("its data waits for the host's secret") == 1
    assert "--host restic-password" in done.err


@pytest.mark.parametrize(
    ("spec", "words", "code", "said"),
    [
        (er_command.QUIET, (), 1, "the spec has no backup, so there is nothing to restore from"),
        (SPEC, ("--count", "2"), 1, "the backup is of one server"),
        (SPEC, ("--replace",), 2, "--restore gets it from the backup"),
    ],
    ids=["no backup", "several", "replace"],
)
def test_what_cannot_be_restored(
    er: Er, account: Account, spec: str, words: tuple[str, ...], code: int, said: str
) -> None:
    er.spec.write_text(spec)
    refused = er.launch("--restore", *words)
    assert refused.code == code
    assert said in refused.err
    assert account.everything() == []
