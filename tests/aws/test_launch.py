"""`er launch`, `er servers`, `er destroy` against moto's server: what the account has afterwards, and what is said."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config

from builder.aws import api
from builder.aws.permissions import OPERATIONS
from tests.aws import er_command
from tests.aws.moto_account import environment
from tests.aws.wire import Answer, Call, refusal
from tests.cli.test_outputs import own_devices
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

BLOB = er_command.KEY.split()[1]
# The fingerprint of that key, as ssh-keygen -l prints it.
PRINT = "SHA256:" + er_command.fingerprint(BLOB)
BOOT = f"""
-----BEGIN SSH HOST KEY KEYS-----
ssh-ed25519 {BLOB} root@web1
-----END SSH HOST KEY KEYS-----
easyrunner: ssh 256 {PRINT} root@web1 (ED25519)
"""
READY = f"{BOOT}easyrunner: ready name=web1 stacks=0 boot=9s\n"


def tags(thing: dict[str, list[dict[str, str]]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", [])}


def test_all_of_a_server_is_made_and_taken_away(er: Er, account: Account) -> None:
    done = er.launch("--no-wait", "--eip")
    assert done.code == 0, done.err
    (server,), (group,), (address,) = account.instances(), account.groups(), account.addresses()
    assert server["MetadataOptions"]["HttpTokens"] == "required"
    assert server["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    assert server["PublicIpAddress"] == address["PublicIp"]
    assert server["KeyName"] in account.key_pairs()
    assert [g["GroupId"] for g in server["NetworkInterfaces"][0]["Groups"]] == [group["GroupId"]]
    volume = account.ec2.describe_volumes()["Volumes"][0]
    assert (volume["VolumeType"], volume["Encrypted"], volume["Size"]) == ("gp3", True, 20)
    for thing in (server, group, address, volume):
        assert tags(thing)["er:project"] == "easyrunner"
        assert tags(thing)["er:server"] == "web1"
    assert account.records() == {f"A {name}.example.com.": [address["PublicIp"]] for name in ("hello", "blog")}
    assert "er destroy web1 --region eu-central-1" in done.err
    listed = json.loads(er("servers", "--json").out)
    assert [(one["name"], one["id"], one["state"]) for one in listed] == [("web1", server["InstanceId"], "running")]
    assert server["InstanceId"] in er("servers").out
    gone = er("destroy", "web1", "--yes")
    assert gone.code == 0, gone.err
    assert account.everything() == []
    assert er("servers").out == ""


def test_a_second_run_finds_what_is_there(er: Er, account: Account) -> None:
    assert er.launch("--no-wait", "--eip").code == 0
    before = account.everything()
    er.wire.calls.clear()
    assert er.launch("--no-wait", "--eip").code == 0
    assert account.everything() == before
    assert [op for op in er.wire.operations if OPERATIONS[op].writes] == []


def test_two_servers_beside_each_other(er: Er, account: Account) -> None:
    assert er.launch("--no-wait").code == 0
    er.spec.write_text(er_command.QUIET.replace("web1", "web2"))
    assert er.launch("--no-wait").code == 0
    assert len(account.instances()) == len(account.groups()) == 2
    assert er("destroy", "web1", "--yes").code == 0
    assert [tags(one)["er:server"] for one in account.instances()] == ["web2"]
    assert [group["GroupName"] for group in account.groups()] == ["er-web2"]


def test_the_firewall_follows_the_spec(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0
    account.ec2.authorize_security_group_ingress(
        GroupId=account.groups()[0]["GroupId"], IpProtocol="tcp", FromPort=25, ToPort=25, CidrIp="0.0.0.0/0"
    )
    er.spec.write_text(er_command.QUIET + "ssh: {allow_from: [203.0.113.7/32]}\n")
    assert er.launch("--no-wait").code == 0
    found = {
        (rule["IpProtocol"], rule["FromPort"], network)
        for rule in account.groups()[0]["IpPermissions"]
        for network in (
            *[r["CidrIp"] for r in rule.get("IpRanges", [])],
            *[r["CidrIpv6"] for r in rule.get("Ipv6Ranges", [])],
        )
    }
    world = {(*pair, net) for pair in (("tcp", 80), ("tcp", 443), ("udp", 443)) for net in ("0.0.0.0/0", "::/0")}
    assert found == world | {("tcp", 22, "203.0.113.7/32")}


def test_several_alike_and_one_more(er: Er, account: Account) -> None:
    refused = er.launch("--no-wait", "--count", "2")
    assert refused.code == 1
    assert "every server would order its own certificates" in refused.err
    assert "`fleet: {min: …, max: …}`" in refused.err
    assert er.launch("--dry-run", "--count", "2").code == 1
    assert er.wire.calls == []
    account.bake()
    er.spec.write_text(f"{er_command.SPEC}tls: {{ca: internal}}\n")
    assert er.launch("--no-wait", "--count", "2", "--eip").code == 0
    assert len(account.instances()) == len(account.addresses()) == 2
    assert all(len(values) == 2 for values in account.records().values())
    assert er.launch("--no-wait", "--count", "3", "--eip").code == 0
    assert len(account.instances()) == len(account.addresses()) == 3
    assert {address["InstanceId"] for address in account.addresses()} == {i["InstanceId"] for i in account.instances()}
    assert er("destroy", "web1", "--yes").code == 0
    assert not account.instances()


def test_spot_protection_and_a_named_subnet(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    subnet = account.ec2.describe_subnets()["Subnets"][1]["SubnetId"]
    done = er.launch("--no-wait", "--spot", "--protect", "--subnet", subnet, "--type", "t3.micro", "--disk", "30")
    assert done.code == 0, done.err
    (server,) = account.instances()
    assert (server["SubnetId"], server["InstanceType"]) == (subnet, "t3.micro")
    assert account.ec2.describe_volumes()["Volumes"][0]["Size"] == 30


def test_a_protected_server_keeps_its_records(er: Er, account: Account) -> None:
    assert er.launch("--no-wait", "--protect").code == 0
    er.wire.calls.clear()
    refused = er("destroy", "web1", "--yes")
    assert refused.code == 1
    assert "is protected from termination: nothing was removed" in refused.err
    assert "er destroy web1 --region eu-central-1 --unprotect" in refused.err
    assert [op for op in er.wire.operations if OPERATIONS[op].writes] == []
    assert len(account.instances()) == 1
    assert len(account.records()) == 2
    assert er("destroy", "web1", "--yes", "--unprotect").code == 0
    assert account.everything() == []


def test_an_account_without_a_default_vpc(er: Er, account: Account) -> None:
    """The network is named; it has a way out, and IPv6."""
    vpc = account.ec2.create_vpc(CidrBlock="10.9.0.0/16", AmazonProvidedIpv6CidrBlock=True)["Vpc"]
    block = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].replace("/56", "/64")
    subnet = account.ec2.create_subnet(VpcId=vpc["VpcId"], CidrBlock="10.9.1.0/24", Ipv6CidrBlock=block)["Subnet"]
    er.spec.write_text(er_command.QUIET)
    unreachable = er.launch("--no-wait", "--vpc", vpc["VpcId"])
    assert "no route to an internet gateway" in unreachable.err
    gateway = account.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    account.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc["VpcId"])
    where = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    table = account.ec2.describe_route_tables(Filters=where)["RouteTables"][0]["RouteTableId"]
    account.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
    half = er.launch("--no-wait", "--vpc", vpc["VpcId"], "--ipv6")
    assert half.code == 1
    assert f"{subnet['SubnetId']} has no route for ::/0 to an internet gateway" in half.err
    assert "create-route --destination-ipv6-cidr-block ::/0" in half.err
    assert not account.groups()
    account.ec2.create_route(RouteTableId=table, DestinationIpv6CidrBlock="::/0", GatewayId=gateway)
    done = er.launch("--no-wait", "--vpc", vpc["VpcId"], "--ipv6")
    assert done.code == 0, done.err
    (server,) = account.instances()
    assert server["SubnetId"] == subnet["SubnetId"]
    assert server["MetadataOptions"]["HttpProtocolIpv6"] == "enabled"


def test_a_baked_image_is_preferred_and_a_stock_one_can_be_asked_for(er: Er, account: Account) -> None:
    baked = account.bake()
    account.bake(base="ubuntu-24.04")
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0
    assert account.instances()[0]["ImageId"] == baked
    gone = er("destroy", "web1", "--yes")
    assert "2 baked images" in gone.err
    assert er.launch("--no-wait", "--image", "stock").code == 0
    # The younger of Debian's two.
    assert account.instances()[0]["ImageId"] == "ami-10"


def test_an_image_that_another_er_baked_is_not_taken_by_itself(er: Er, account: Account) -> None:
    """Its part of a host and the user-data of this er would not make one whole."""
    other = account.bake(baked="0123456789abcdef")
    untagged = account.bake(baked="")
    er.spec.write_text(er_command.QUIET)
    shown = er.launch("--dry-run")
    assert f"baked by another er, and so not taken: {other} {untagged}" in shown.err
    assert "`er build-image --target aws` bakes one that fits" in shown.err
    refused = er.launch("--no-wait", "--image", "baked")
    assert refused.code == 1
    assert "no baked image of debian-13 for amd64 in eu-central-1, but for what another er has baked" in refused.err
    assert er.launch("--no-wait").code == 0
    assert account.instances()[0]["ImageId"] == "ami-10"
    assert er("destroy", "web1", "--yes").code == 0
    named = er.launch("--dry-run", "--image", other)
    assert f"{other} was baked by another er" in named.err
    fitting = account.bake()
    account.bake(baked="0123456789abcdef")
    assert fitting in er.launch("--dry-run").err


def test_without_capacity_another_zone_is_tried(er: Er, account: Account) -> None:
    def full(*zones: str) -> None:
        subnets = {one["SubnetId"]: one["AvailabilityZone"] for one in account.ec2.describe_subnets()["Subnets"]}

        def fault(call: Call, _: object) -> Answer | None:
            zone = subnets.get(dict(call.parameters).get("NetworkInterface.1.SubnetId", ""))
            said = f"We do not have sufficient t3.small capacity in {zone}"
            full = call.operation == "RunInstances" and zone in zones
            return refusal(call, 500, "InsufficientInstanceCapacity", said) if full else None

        er.wire.fault = fault

    er.spec.write_text(er_command.QUIET)
    full("eu-central-1a", "eu-central-1b", "eu-central-1c")
    done = er.launch("--no-wait")
    assert done.code == 1
    assert "AWS has no such server free now: We do not have sufficient t3.small capacity in eu-central-1c" in done.err
    assert account.everything() == []
    full("eu-central-1a")
    done = er.launch("--no-wait")
    assert done.code == 0, done.err
    assert "eu-central-1a: AWS has no such server free now" in done.err
    assert "trying another zone" in done.err
    assert account.instances()[0]["Placement"]["AvailabilityZone"] == "eu-central-1b"
    assert er("destroy", "web1", "--yes").code == 0
    # A subnet that is named is the one.
    named = next(one for one in account.ec2.describe_subnets()["Subnets"] if one["AvailabilityZone"].endswith("a"))
    assert er.launch("--no-wait", "--subnet", named["SubnetId"]).code == 1
    assert account.everything() == []


def test_an_archive_cannot_travel_on_a_stock_image(er: Er, account: Account) -> None:
    (er.directory / "app.tar").write_bytes(b"not looked into here")
    er.spec.write_text(er.spec.read_text().replace("docker.io/library/caddy:2.11", "oci-archive:app.tar", 1))
    done = er.launch("--no-wait")
    assert done.code == 1
    assert "cannot travel in user-data" in done.err
    assert not account.groups()


# Two launches at the same time.


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for another launch does not ask again before that is done."""
    monkeypatch.setattr(api, "CONFIG", api.CONFIG.merge(Config(read_timeout=2 * _LAUNCH)))


# Seconds that a launch may take in a process of its own, beside all other tests.
_LAUNCH = 120


def _another_launch(er: Er, account: Account, operation: str, then: Callable[[Call], Answer | None]) -> None:
    """Before AWS gets the first call of this operation, somebody else's launch of the same server is done.

    It builds the little that a baked image needs, with which it is quicker.
    """
    account.bake()
    first: list[int] = []

    def fault(call: Call, _: object) -> Answer | None:
        if call.operation != operation or (first and call.number != first[0]):
            return None
        if not first:
            first.append(call.number)
            with er.process("launch", er.spec, "--no-wait", "--eip") as other:
                said = other.communicate(timeout=_LAUNCH)
            assert other.returncode == 0, said
            return then(call)
        return None

    er.wire.fault = fault


def _over_quota(call: Call) -> Answer:
    return refusal(call, 400, "VcpuLimitExceeded", "You have requested more vCPU capacity than your limit allows")


@pytest.mark.usefixtures("_patient")
def test_a_launch_that_fails_takes_away_only_what_it_has_made(er: Er, account: Account) -> None:
    """The other launch has taken up its group and key pair, and made the server."""
    _another_launch(er, account, "RunInstances", _over_quota)
    done = er.launch("--no-wait", "--eip")
    assert done.code == 1
    assert "quota of servers" in done.err
    (server,), (address,) = account.instances(), account.addresses()
    assert address["InstanceId"] == server["InstanceId"]
    assert len(account.groups()) == len(account.key_pairs()) == 1
    assert len(account.records()) == 2


@pytest.mark.usefixtures("_patient")
def test_two_launches_at_the_same_time_make_one_server(er: Er, account: Account) -> None:
    _another_launch(er, account, "RunInstances", lambda _: None)
    done = er.launch("--no-wait", "--eip")
    assert done.code == 0, done.err
    assert "another launch of this server has made it" in done.err
    assert len(account.instances()) == len(account.addresses()) == 1


# The dry run.


def test_a_dry_run_makes_nothing_and_asks_ec2(er: Er, account: Account) -> None:
    er.wire.prices = [
        '{"terms": {"OnDemand": {"x": {"priceDimensions": {"y": {"unit": "Hrs", "pricePerUnit": {"USD": "0.02"}}}}}}}'
    ]
    done = er.launch("--dry-run", "--eip", "--json")
    assert done.code == 0, done.err
    asked = [call.operation for call in er.wire.calls if call.dry]
    assert asked == ["CreateSecurityGroup", "ImportKeyPair", "RunInstances", "AllocateAddress"]
    assert all(call.dry or not OPERATIONS[call.operation].writes for call in er.wire.calls)
    found = json.loads(done.out)
    assert [part["missing"] for part in found["parts"]] == [1, 1, 1, 1, 1, 1]
    assert found["usd_per_hour"] == 0.02
    assert "about $0.0200 an hour" in done.err
    assert account.everything() == []
    assert er.launch("--no-wait", "--eip").code == 0
    er.wire.calls.clear()
    again = json.loads(er.launch("--dry-run", "--eip", "--json").out)
    assert [part["missing"] for part in again["parts"] if part["part"] != "DNS record"] == [0, 0, 0, 0]
    assert not [call for call in er.wire.calls if call.dry]


def test_a_dry_run_tells_every_permission_that_lacks(er: Er) -> None:
    def fault(call: Call, _: object) -> Answer | None:
        denied = call.dry and call.operation in ("RunInstances", "AllocateAddress")
        return refusal(call, 403, "UnauthorizedOperation", "You are not authorized") if denied else None

    er.wire.fault = fault
    done = er.launch("--dry-run", "--eip")
    assert done.code == 1
    assert "may not do ec2:RunInstances" in done.err
    assert "may not do ec2:AllocateAddress" in done.err
    assert re.search(r"refused +server", done.err)


# Proof.


def test_host_keys_come_from_the_console(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: READY
    done = er.launch("--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["servers"][0]["host_keys"] == [PRINT]
    address = account.instances()[0]["PublicIpAddress"]
    assert er.known_hosts.read_text() == f"{address} ssh-ed25519 {BLOB} er:web1\n"
    assert er("destroy", "web1", "--yes").code == 0
    assert er.known_hosts.read_text() == ""


def _known_hosts(er: Er, *words: str, cwd: Path) -> str:
    """A run among devices of its own, so that a fault spoils none of this machine's; what it said."""
    env = {**er.environment, "NO_PROXY": "*"}
    argv = own_devices(er_command.PROGRAM, *words)
    done = subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (1 if "error: " in done.stderr else 0), done.stderr
    return done.stderr


_NO_FILES = ("-", "/dev/stdout", "pipe", ".", "new/")


@pytest.mark.machine
def test_host_keys_go_where_they_are_told(er: Er, account: Account, tmp_path: Path) -> None:
    """The same for launch and destroy: a link's target is replaced, a device written to, a pipe refused at once."""
    account.bake()
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: READY
    (tmp_path / "real").write_text("other.example.com ssh-ed25519 AAAA\n")
    (tmp_path / "real").chmod(0o604)
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    launch, destroy = ("launch", str(er.spec)), ("destroy", "web1", "--yes")
    for words, some in ((launch, ("/dev/stdout", "pipe", "new/")), (destroy, ("pipe",))):
        for target in sample(_NO_FILES, some):
            said = _known_hosts(er, *words, "--known-hosts", target, cwd=tmp_path)
            assert f"error: {target}: " in said
            assert "hint: " in said
    assert account.everything() == []
    _known_hosts(er, *launch, "--known-hosts", "link", cwd=tmp_path)
    assert BLOB in (tmp_path / "real").read_text()
    assert ((tmp_path / "link").is_symlink(), (tmp_path / "real").stat().st_mode & 0o777) == (True, 0o604)
    _known_hosts(er, *destroy, "--known-hosts", "link", cwd=tmp_path)
    assert (tmp_path / "real").read_text() == "other.example.com ssh-ed25519 AAAA\n"
    _known_hosts(er, *launch, "--known-hosts", "/dev/null", cwd=tmp_path)
    _known_hosts(er, *destroy, "--known-hosts", "/dev/null", cwd=tmp_path)
    assert account.instances() == []


def test_another_key_than_the_one_on_the_console_is_refused(er: Er, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody answers SSH in the server's place."""
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: READY.replace("BEGIN SSH HOST KEY", "no such block")
    script = er.directory / "ssh-keyscan"
    script.write_text(
        "#!/bin/sh\necho 192.0.2.1 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIH//////////////////////////////////////////\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{er.directory}:/usr/bin:/bin")
    done = er.launch()
    assert done.code == 1
    assert "is not this server" in done.err
    assert not er.known_hosts.exists()


def test_first_boot_that_failed_is_told_at_once(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: BOOT + "easyrunner: not ready: name=web1 missing: blog/web\n"
    done = er.launch()
    assert done.code == 1
    assert "first boot has failed: not ready: name=web1 missing: blog/web" in done.err
    assert "web1 stays" in done.err
    assert len(account.instances()) == 1


def test_a_console_that_says_nothing_in_time(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: "[    0.0] Linux version 6.12\n"
    done = er.launch("--timeout", "1")
    assert done.code == 1
    assert "in vain for the server's first boot" in done.err
    assert "Linux version 6.12" in done.err
    assert "web1 stays" in done.err
    er.wire.console = lambda: READY
    assert er.launch().code == 0
    assert len(account.instances()) == 1


_CONSOLES = ("[    0.0] Linux\n", "easyrunner: not ready: name=web1 missing: a/b\n")


@pytest.mark.parametrize("console", sample(_CONSOLES, _CONSOLES[:1]))
def test_an_older_server_is_asked_itself(er: Er, monkeypatch: pytest.MonkeyPatch, console: str) -> None:
    """EC2 keeps the end of the console alone; and what was missing at that boot may have come since."""
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: READY
    assert er.launch().code == 0
    er.wire.console = lambda: console
    script = er.directory / "ssh"
    script.write_text(f'#!/bin/sh\necho "$*" >{er.directory}/asked\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{er.directory}:/usr/bin:/bin")
    done = er.launch("--json", "--timeout", "1")
    assert done.code == 0, done.err
    assert json.loads(done.out)["servers"][0]["host_keys"] == [PRINT]
    asked = (er.directory / "asked").read_text()
    assert "StrictHostKeyChecking=yes" in asked
    assert asked.endswith("test -e /var/lib/easyrunner/complete\n")
    # It is not trusted without a key that was known before, nor when it does not say so.
    (er.directory / "asked").unlink()
    known = er.known_hosts.read_text()
    er.known_hosts.write_text("")
    unknown = er.launch("--timeout", "1")
    assert unknown.code == 1
    assert not (er.directory / "asked").exists()
    er.known_hosts.write_text(known)
    script.write_text("#!/bin/sh\nexit 1\n")
    assert er.launch("--timeout", "1").code == 1


def test_what_to_do_about_an_older_server_whose_key_nobody_knows(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0
    er.wire.console = lambda: "[    0.0] Linux version 6.12\n"
    done = er.launch("--timeout", "1")
    assert done.code == 1
    assert "EC2 keeps the last 64 KiB of a console" in done.err
    assert f"`ssh-keyscan {account.instances()[0]['PublicIpAddress']}`" in done.err


def test_a_hypervisor_without_the_newest_console(er: Er) -> None:
    er.spec.write_text(er_command.QUIET)
    er.wire.console = lambda: READY
    refused: list[int] = []

    def fault(call: Call, _: object) -> Answer | None:
        if call.operation != "GetConsoleOutput" or refused:
            return None
        refused.append(call.number)
        return refusal(call, 400, "UnsupportedOperation", "This instance type does not support retrieving the latest")

    er.wire.fault = fault
    assert er.launch().code == 0
    assert refused


# Interruptions.


def _interrupted(er: Er, operation: str, *words: str) -> tuple[int, str]:
    """SIGINT to a process of er while it waits for the answer to this call."""
    process = er.process("launch", er.spec, *words)

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        if call.operation == operation and call.number == er.wire.operations.index(operation) + 1:
            answer = do()
            process.send_signal(signal.SIGINT)
            return answer
        return None

    er.wire.fault = fault
    _, err = process.communicate(timeout=120)
    er.wire.fault = None
    return process.returncode, err


_MAKE = ("CreateSecurityGroup", "ImportKeyPair", "RunInstances", "AllocateAddress")


@pytest.mark.parametrize("operation", sample(_MAKE, ("RunInstances",)))
def test_ctrl_c_while_something_is_made_takes_it_away_again(er: Er, account: Account, operation: str) -> None:
    account.bake()
    code, err = _interrupted(er, operation, "--no-wait", "--eip")
    assert code == 130, err
    assert "interrupted" in err
    assert account.everything() == []


def test_ctrl_c_while_waiting_leaves_the_server(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    account.bake()
    code, err = _interrupted(er, "GetConsoleOutput")
    assert code == 130, err
    assert "web1 stays" in err
    assert "er destroy web1 --region eu-central-1" in err
    assert len(account.instances()) == 1


# Destroying.


def test_destroy_asks_first(er: Er, account: Account) -> None:
    assert er.launch("--no-wait").code == 0
    done = er("destroy", "web1")
    assert done.code == 1
    assert "--yes" in done.err
    assert len(account.instances()) == 1
    shown = er("destroy", "web1", "--dry-run", "--json")
    assert json.loads(shown.out)["removed"] is False
    assert len(account.instances()) == 1


def test_destroy_of_nothing_is_no_failure(er: Er) -> None:
    """It was looked for everywhere."""
    done = er("destroy", "web9", "--yes")
    assert done.code == 0
    assert "nothing of web9 in eu-central-1" in done.err
    assert re.search(r"nor in \d\d other regions of the account", done.err)


def test_destroy_in_the_wrong_region_names_the_right_one(er: Er, account: Account) -> None:
    assert er.launch("--no-wait").code == 0
    for words in (("--yes",), ("--dry-run",)):
        done = er("destroy", "web1", "--region", "eu-west-1", *words)
        assert done.code == 1
        assert "error: web1 is not in eu-west-1, but in eu-central-1" in done.err
        assert "hint: er destroy web1 --region eu-central-1" in done.err
    assert len(account.instances()) == 1


def test_destroy_tells_which_regions_it_could_not_ask(er: Er) -> None:
    """As where an organisation allows some regions only. Who may not list them is not told that all is well."""

    def one_region(call: Call, _: object) -> Answer | None:
        closed = call.operation == "DescribeInstances" and call.region == "ap-south-1"
        return refusal(call, 403, "UnauthorizedOperation", "You are not authorized") if closed else None

    def no_list(call: Call, _: object) -> Answer | None:
        return refusal(call, 403, "UnauthorizedOperation", "no") if call.operation == "DescribeRegions" else None

    er.wire.fault = one_region
    done = er("destroy", "web9", "--yes")
    assert done.code == 0
    assert "not asked: ap-south-1 (these credentials may not do ec2:DescribeInstances)" in done.err
    er.wire.fault = no_list
    done = er("destroy", "web9", "--yes")
    assert done.code == 1
    assert "these credentials may not do ec2:DescribeRegions" in done.err


def set_record(account: Account, kind: str, value: str, name: str = "blog.example.com.") -> None:
    """Somebody's record, as it is set in the console."""
    record = {"Name": name, "Type": kind, "TTL": 60, "ResourceRecords": [{"Value": value}]}
    changes = [{"Action": "UPSERT", "ResourceRecordSet": record}]
    account.route53.change_resource_record_sets(HostedZoneId=account.zone, ChangeBatch={"Changes": changes})


def test_records_that_lead_elsewhere_stay(er: Er, account: Account) -> None:
    assert er.launch("--no-wait").code == 0
    set_record(account, "A", "192.0.2.99")
    shown = er("destroy", "web1", "--dry-run")
    assert re.search(r"DNS record hello\.example\.com A [0-9.]+ in the zone", shown.err)
    assert "blog.example.com" not in shown.err
    assert er("destroy", "web1", "--yes").code == 0
    assert account.records() == {"A blog.example.com.": ["192.0.2.99"]}


# Records of others.


@pytest.mark.parametrize(("kind", "value"), [("A", "192.0.2.99"), ("AAAA", "2001:db8::99")])
def test_a_domain_that_leads_elsewhere_is_not_taken_over_by_itself(
    er: Er, account: Account, kind: str, value: str
) -> None:
    """The old host's, perhaps. The other family would lead half of the visitors there."""
    set_record(account, kind, value)
    before = account.records()
    for words in (("--no-wait",), ("--dry-run",)):
        refused = er.launch(*words)
        assert refused.code == 1
        assert f"in Route 53 there is blog.example.com {kind} {value}: it does not lead to this server" in refused.err
        assert "--overwrite-dns" in refused.err
    assert account.everything() == [*before]
    done = er.launch("--no-wait", "--overwrite-dns")
    assert done.code == 0, done.err
    assert f"replaced: blog.example.com {kind} {value}" in done.err
    (address,) = account.addresses()
    assert account.records() == {f"A {name}.example.com.": [address["PublicIp"]] for name in ("hello", "blog")}


def test_another_name_in_the_place_of_addresses_is_left_alone(er: Er, account: Account) -> None:
    set_record(account, "CNAME", "cdn.example.net.")
    for words in ((), ("--overwrite-dns",)):
        refused = er.launch("--no-wait", *words)
        assert refused.code == 1
        assert "in Route 53 there is blog.example.com CNAME cdn.example.net." in refused.err
    assert account.instances() == []


def test_a_record_that_changes_during_the_launch_is_not_overwritten(er: Er, account: Account) -> None:
    """Route 53 is told what is to be replaced: nothing, here."""

    def fault(call: Call, _: object) -> Answer | None:
        if call.operation == "ChangeResourceRecordSets":
            er.wire.fault = None
            set_record(account, "A", "192.0.2.99")
        return None

    er.wire.fault = fault
    done = er.launch("--no-wait")
    assert done.code == 1
    assert "a DNS record has changed meanwhile" in done.err
    assert "in Route 53 there is blog.example.com A 192.0.2.99: it does not lead to this server" in done.err
    assert "web1 stays" in done.err
    assert account.records()["A blog.example.com."] == ["192.0.2.99"]


def test_domains_get_an_address_that_stays_and_a_server_keeps_its_own(er: Er, account: Account) -> None:
    without = er.launch("--no-wait", "--no-eip")
    assert without.code == 0
    assert "without an Elastic IP DNS leads to somebody else's server once this one was stopped" in without.err
    assert account.addresses() == []
    again = er.launch("--no-wait")
    assert again.code == 0
    assert "without an Elastic IP" in again.err
    assert account.addresses() == []
    (server,) = account.instances()
    asked = er.launch("--no-wait", "--eip")
    assert asked.code == 0, asked.err
    (address,) = account.addresses()
    assert address["InstanceId"] == server["InstanceId"]
    assert account.records() == {f"A {name}.example.com.": [address["PublicIp"]] for name in ("hello", "blog")}


# A server that is not what is asked for.


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--type", "t3.large"), "type t3.small, not t3.large"),
        (("--disk", "40"), "disk 20 GiB, not 40"),
        (("--image", "ami-00"), "image ami-10, not ami-00"),
        (("--spot",), "on demand, not spot"),
        (("--protect",), "not protected"),
        (("--profile-arn", "arn:aws:iam::123456789012:instance-profile/er-x"), "profile none, not arn:aws:iam::"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_an_option_that_the_server_has_not_is_refused(
    er: Er, account: Account, words: tuple[str, ...], said: str
) -> None:
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0
    er.wire.calls.clear()
    for how in ("--no-wait", "--dry-run"):
        refused = er.launch(how, *words)
        assert refused.code == 1, refused.err
        assert "error: web1 is there and is not what is asked for: " in refused.err
        assert said in refused.err
        assert "`er destroy web1 --region eu-central-1` and another launch make it anew" in refused.err
    assert [op for op in er.wire.operations if OPERATIONS[op].writes] == []
    assert er.launch("--no-wait").code == 0
    assert len(account.instances()) == 1


def test_the_same_options_again_are_no_contradiction(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    words = ("--no-wait", "--spot", "--protect", "--type", "t3.micro", "--disk", "30", "--eip", "--image", "ami-00")
    assert er.launch(*words).code == 0
    again = er.launch(*words)
    assert again.code == 0, again.err
    assert len(account.instances()) == 1


def test_a_type_that_changes_in_the_spec_is_refused_and_another_network(er: Er, account: Account) -> None:
    er.spec.write_text(er_command.QUIET)
    assert er.launch("--no-wait").code == 0
    (server,) = account.instances()
    others = [one["SubnetId"] for one in account.ec2.describe_subnets()["Subnets"]]
    other = next(one for one in others if one != server["SubnetId"])
    refused = er.launch("--no-wait", "--subnet", other)
    assert f"subnet {server['SubnetId']}, not {other}" in refused.err
    er.spec.write_text(er_command.QUIET + "aws: {type: t3.large}\n")
    refused = er.launch("--no-wait")
    assert refused.code == 1
    assert "type t3.small, not t3.large" in refused.err


def test_a_spec_that_has_changed_is_told(er: Er, account: Account) -> None:
    account.bake()
    assert er.launch("--no-wait").code == 0
    same = er.launch("--no-wait")
    assert "another spec" not in same.err
    er.spec.write_text(er_command.SPEC.replace("caddy:2.11", "caddy:2.12", 1))
    for words in (("--no-wait",), ("--dry-run",)):
        changed = er.launch(*words)
        assert changed.code == 0
        assert (
            "was made from another spec or by another er: stack hello differs. A launch changes no running"
            in changed.err
        )
        assert f"`er server apply er@{account.addresses()[0]['PublicIp']} SPEC` does it" in changed.err
    (server,) = account.instances()
    account.ec2.delete_tags(Resources=[server["InstanceId"]], Tags=[{"Key": "er:spec"}])
    assert "does not say which spec it was made from" in er.launch("--no-wait").err


# Imports and the first words.


def test_no_other_command_loads_boto3() -> None:
    program = (
        "import sys, builder.cli.app; sys.exit(any(m.split('.')[0] in ('boto3', 'botocore') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_first_words_come_before_boto3(er: Er, account: Account) -> None:
    """What is loaded before them, and not how fast this machine is just now, is what er decides."""
    program = (
        "import sys\n"
        "from builder.cli import output\n"
        "output.note = lambda text: sys.exit(3 if 'boto3' in sys.modules or 'botocore' in sys.modules else 4)\n"
        "from builder.cli.app import app\n"
        f"app(['launch', {str(er.spec)!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], env=environment(er.wire.url, er.directory), check=False)
    assert done.returncode == 4
    assert er.wire.calls == []
