"""What goes wrong for people: one clear line and a hint each, and nothing made."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import botocore.config
import pytest

from builder.aws import api
from tests.aws import er_command
from tests.aws.wire import Answer, Call, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account


def refusing(operation: str, code: str, message: str, status: int = 400) -> Callable[[Call, object], Answer | None]:
    return lambda call, _: refusal(call, status, code, message) if call.operation == operation else None


def failure(er: Er, *words: str) -> tuple[str, str]:
    """The one error and the one hint of a launch that fails."""
    done = er.launch("--no-wait", *words)
    assert (done.code, done.out) == (1, "")
    lines = done.err.splitlines()
    (error,) = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    (hint,) = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    assert "Traceback" not in done.err
    return error, hint


def test_a_region_that_is_none(er: Er) -> None:
    error, hint = failure(er, "--region", "eu-centrall-1")
    assert error == "`eu-centrall-1` is not a region of AWS"
    assert hint == "did you mean eu-central-1?"
    assert er.wire.calls == []


def test_no_region(er: Er, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_REGION")
    error, hint = failure(er)
    assert error == "no AWS region"
    assert "--region" in hint


def test_no_credentials(er: Er, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    er_command.session.cache_clear()
    error, hint = failure(er)
    er_command.session.cache_clear()
    assert error == "no AWS credentials"
    assert "aws configure" in hint
    assert er.wire.calls == []


def test_a_profile_that_is_none(er: Er, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    er_command.session.cache_clear()
    error, hint = failure(er)
    er_command.session.cache_clear()
    assert "elsewhere" in error
    assert "list-profiles" in hint


@pytest.mark.parametrize(
    ("operation", "code", "message", "error", "hint"),
    [
        (
            "GetCallerIdentity",
            "ExpiredToken",
            "The security token included in the request is expired",
            "the AWS credentials have expired",
            "aws sso login",
        ),
        (
            "DescribeInstanceTypes",
            "AuthFailure",
            "AWS was not able to validate the provided access credentials",
            "AWS does not accept these credentials in eu-central-1",
            "off by default",
        ),
        (
            "RunInstances",
            "VcpuLimitExceeded",
            "You have requested more vCPU capacity than your current vCPU limit of 0 allows",
            "the account's quota of servers in eu-central-1 is reached",
            "Service Quotas",
        ),
        (
            "RunInstances",
            "InsufficientInstanceCapacity",
            "We currently do not have sufficient t3.small capacity in the Availability Zone you requested",
            "AWS has no such server free now",
            "another --type",
        ),
        (
            "CreateSecurityGroup",
            "UnauthorizedOperation",
            "You are not authorized. User: arn:aws:iam::1:user/x is not authorized to perform: ec2:CreateSecurityGroup",
            "these credentials may not do ec2:CreateSecurityGroup",
            "docs/aws.md",
        ),
        (
            "RunInstances",
            "UnauthorizedOperation",
            "User: arn:aws:iam::1:user/x is not authorized to perform: ec2:CreateTags on resource: *",
            "these credentials may not do ec2:CreateTags",
            "docs/aws.md",
        ),
        (
            "ImportKeyPair",
            "UnauthorizedOperation",
            "You are not authorized to perform this operation.",
            "these credentials may not do ec2:ImportKeyPair",
            "docs/aws.md",
        ),
        (
            "RunInstances",
            "IdempotentParameterMismatch",
            "The parameters do not match",
            "another launch of this server has made it",
            "run the same command again",
        ),
        (
            "RunInstances",
            "SomethingNew",
            "Nobody has seen this before",
            "RunInstances failed: Nobody has seen this before (SomethingNew)",
            None,
        ),
    ],
)
def test_what_the_api_refuses(
    er: Er, account: Account, operation: str, code: str, message: str, error: str, hint: str | None
) -> None:
    er.wire.fault = refusing(operation, code, message)
    done = er.launch("--no-wait")
    assert done.code == 1
    assert f"error: {error}" in done.err
    assert hint is None or hint in done.err.partition("hint: ")[2]
    assert not account.instances()
    assert not account.groups()
    assert not account.key_pairs()


def test_no_default_vpc(er: Er, account: Account) -> None:
    for subnet in account.ec2.describe_subnets()["Subnets"]:
        account.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    gateway = account.ec2.describe_internet_gateways()["InternetGateways"][0]["InternetGatewayId"]
    account.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=account.vpc)
    account.ec2.delete_vpc(VpcId=account.vpc)
    error, hint = failure(er)
    assert error == "the account has no default VPC in eu-central-1"
    assert "--subnet subnet-…" in hint
    assert "create-default-vpc" in hint


def test_a_type_that_is_none(er: Er) -> None:
    error, hint = failure(er, "--type", "t3.tiny")
    assert error.startswith("there is no such instance type in eu-central-1")
    assert "t3.small" in hint


def test_a_type_with_another_processor(er: Er) -> None:
    assert failure(er, "--type", "t4g.small") == (
        "t4g.small has no amd64 processor, the spec says arch: amd64",
        "take a type for amd64, as t3.small, or change `arch` in the spec",
    )


def test_an_image_for_another_processor(er: Er) -> None:
    assert failure(er, "--image", "ami-11") == (
        "ami-11 is an image for arm64, the spec says arch: amd64",
        "take an image for amd64, or write `arch: arm64` in the spec",
    )


def test_an_image_that_is_none(er: Er) -> None:
    error, hint = failure(er, "--image", "ami-12345678")
    assert "ami-12345678" in error
    assert "--image" in hint


def test_no_baked_image(er: Er) -> None:
    error, hint = failure(er, "--image", "baked")
    assert error == "no baked image of debian-13 for amd64 in eu-central-1"
    assert "er build-image --target aws" in hint


def test_a_subnet_that_nobody_reaches(er: Er, account: Account) -> None:
    table = account.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [account.vpc]}])["RouteTables"][0]
    account.ec2.delete_route(RouteTableId=table["RouteTableId"], DestinationCidrBlock="0.0.0.0/0")
    error, hint = failure(er)
    assert "has no route to an internet gateway" in error
    assert "--subnet" in hint


def test_a_domain_without_a_zone(er: Er) -> None:
    er.spec.write_text(er.spec.read_text().replace("blog.example.com", "blog.example.org"))
    error, hint = failure(er)
    assert error == "no hosted zone of this account holds blog.example.org"
    assert "dns: route53" in hint


def test_nobody_answers(er: Er, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    er_command.session.cache_clear()
    error, hint = failure(er)
    er_command.session.cache_clear()
    assert error.startswith("AWS cannot be reached")
    assert "is there a network" in hint


def test_a_server_that_aws_ends_again(er: Er, account: Account) -> None:
    """The instance is gone before it ran: what was made for it goes too, and AWS's reason is told."""

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        if call.operation != "DescribeInstances" or "RunInstances" not in er.wire.operations:
            return None
        why = b"<stateReason><code>x</code><message>Volume limit exceeded</message></stateReason>"
        body = do().body.replace(b"<name>running</name>", b"<name>terminated</name>")
        start, end = body.find(b"<stateReason>"), body.find(b"</stateReason>") + len(b"</stateReason>")
        return Answer(200, body[:start] + why + body[end:] if start >= 0 else body)

    er.wire.fault = fault
    done = er.launch("--no-wait")
    assert done.code == 1
    assert "Volume limit exceeded" in done.err
    assert not account.groups()
    assert not account.key_pairs()


def test_an_answer_that_does_not_come(er: Er, account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS does it and says nothing: after the time-out er looks, finds the server, and makes no second one."""
    monkeypatch.setattr(api, "CONFIG", api.CONFIG.merge(botocore.config.Config(read_timeout=5)))
    er_command.session.cache_clear()
    late = threading.Event()

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        if call.operation == "RunInstances" and er.wire.operations.count("RunInstances") == 1:
            answer = do()
            late.wait(60)
            return answer
        if "RunInstances" in er.wire.operations:
            late.set()
        return None

    er.wire.fault = fault
    done = er.launch("--no-wait")
    er_command.session.cache_clear()
    assert done.code == 0, done.err
    assert "the connection to AWS broke off at RunInstances; trying again" in done.err
    assert len(account.instances()) == 1


def test_a_look_that_is_behind_does_not_double_the_server(er: Er) -> None:
    """EC2 lists what it made a while later. The second request then has the token of the first."""

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        if call.operation == "RunInstances" and er.wire.operations.count("RunInstances") == 1:
            return refusal(call, 500, "InternalError", "after it was done")
        return None

    er.wire.fault = fault
    assert er.launch("--no-wait").code == 0
    first, second = (call.token for call in er.wire.calls if call.operation == "RunInstances")
    assert first == second
    assert first is not None
