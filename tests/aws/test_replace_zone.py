"""`er launch --replace --other-zone`: the data gets into another zone as a copy, and the old volume is the way back."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from builder.aws.permissions import OPERATIONS
from builder.aws.resources import data_volume
from builder.polling import until
from tests.aws import test_replace
from tests.aws.test_faults import BY_NAME, KILL, disarm
from tests.aws.test_launch import READY, tags
from tests.aws.test_replace import LAUNCH, WAITS
from tests.aws.wire import Answer, Call, refusal
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

HERE, THERE = "eu-central-1a", "eu-central-1b"
BROKEN = f"{WAITS}easyrunner: not ready: name=web1 missing: blog/web\n"
PARTS = {"data", "data-copy", "former-data"}


def volumes(account: Account) -> dict[str, dict[str, Any]]:
    """Those for data, by er:part."""
    found = [one for one in account.ec2.describe_volumes()["Volumes"] if tags(one).get("er:part") in PARTS]
    by_part = {tags(one)["er:part"]: one for one in found}
    assert len(by_part) == len(found)
    return by_part


def holder(volume: dict[str, Any]) -> str | None:
    return next((one["InstanceId"] for one in volume["Attachments"]), None)


def has_data(account: Account, instance: str) -> bool:
    return any(holder(one) == instance for one in volumes(account).values())


def snapshots(account: Account) -> list[dict[str, Any]]:
    found = account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    return [one for one in found if tags(one).get("er:part") == "snapshot"]


def subnet(account: Account, zone: str) -> str:
    found = {one["AvailabilityZone"]: one["SubnetId"] for one in account.ec2.describe_subnets()["Subnets"]}
    return str(found[zone])


def full(er: Er, account: Account) -> None:
    """No server is free in the zone of the data."""
    there = subnet(account, HERE)

    def fault(call: Call, _: object) -> Answer | None:
        full = call.operation == "RunInstances" and ("NetworkInterface.1.SubnetId", there) in call.parameters
        said = f"We do not have sufficient t3.small capacity in {HERE}"
        return refusal(call, 500, "InsufficientInstanceCapacity", said) if full else None

    er.wire.fault = fault


@pytest.fixture
def replaceable(er: Er, account: Account) -> Er:
    begin(er, account)
    return er


def begin(er: Er, account: Account) -> None:
    """A server with data in one zone; who has a volume for data gets ready."""
    account.bake()
    er.wire.reset()
    er.wire.console_of = lambda instance: READY if has_data(account, instance) else WAITS
    er.spec.write_text(test_replace.SPEC)
    done = er.launch(*LAUNCH, "--data-disk", "30", "--subnet", subnet(account, HERE))
    assert done.code == 0, done.err
    er.wire.calls.clear()


def writes(er: Er) -> list[str]:
    return [call.operation for call in er.wire.calls if OPERATIONS[call.operation].writes and not call.dry]


def serves(account: Account, old: str, volume: str) -> None:
    """The old one as before, with its own volume, and no copy that anybody could take for the data."""
    (server,) = account.instances()
    assert (server["InstanceId"], server["State"]["Name"], tags(server)["er:part"]) == (old, "running", "server")
    assert volumes(account)["data"]["VolumeId"] == volume
    assert holder(volumes(account)["data"]) == old
    assert [one["InstanceId"] for one in account.addresses()] == [old]


def test_without_capacity_the_data_is_copied_when_that_is_asked(replaceable: Er, account: Account) -> None:
    er, (old,), before = replaceable, account.instances(), volumes(account)["data"]
    account.ec2.modify_volume(VolumeId=before["VolumeId"], Iops=4000)
    full(er, account)
    refused = er.launch("--replace")
    assert refused.code == 1
    assert f"t3.small capacity in {HERE}; the data is in {HERE}" in refused.err
    assert "`er launch --replace --other-zone` makes the server in another zone" in refused.err
    serves(account, old["InstanceId"], before["VolumeId"])
    shown = er.launch("--replace", "--other-zone", "--dry-run")
    assert f"would copy     without capacity in {HERE}: {before['VolumeId']} to {THERE} or eu-central-1c" in shown.err
    er.wire.calls.clear()
    done = er.launch("--replace", "--other-zone", "--json")
    assert done.code == 0, done.err
    # The first snapshot while the old one serves, and the address once the new one is ready.
    assert writes(er) == [
        *("RunInstances", "RunInstances"),
        "CreateSnapshot",
        "StopInstances",
        *("CreateSnapshot", "CreateVolume", "AttachVolume"),
        "AssociateAddress",
        *("CreateTags",) * 4,
    ]
    assert "50 % stored" in done.err
    found, parts, said = volumes(account), test_replace.by_part(account), json.loads(done.out)
    new, copy = parts["server"], found["data"]
    assert (parts["predecessor"]["InstanceId"], parts["predecessor"]["State"]["Name"]) == (old["InstanceId"], "stopped")
    assert new["Placement"]["AvailabilityZone"] == copy["AvailabilityZone"] == THERE
    assert (copy["Size"], copy["VolumeType"], copy["Iops"], copy["Encrypted"]) == (30, "gp3", 4000, True)
    assert holder(copy) == new["InstanceId"]
    assert (found["former-data"]["VolumeId"], holder(found["former-data"])) == (before["VolumeId"], old["InstanceId"])
    assert [one["InstanceId"] for one in account.addresses()] == [new["InstanceId"]]
    # What the copy is made of is the snapshot after the stop.
    _, last = sorted(snapshots(account), key=lambda one: "er:taker" in tags(one))
    assert copy["SnapshotId"] == last["SnapshotId"] == said["snapshot"]
    assert (said["data_volume"], said["copied_from"]) == (copy["VolumeId"], before["VolumeId"])
    assert f"{copy['VolumeId']}, a copy of {before['VolumeId']}, which stays as it was" in done.err
    # The old volume goes with the old server, and no other one.
    assert er("destroy", "web1", "--old", "--yes").code == 0
    assert {part: one["VolumeId"] for part, one in volumes(account).items()} == {"data": copy["VolumeId"]}
    assert snapshots(account) == []
    assert er.launch(*LAUNCH).code == 0
    assert [one["InstanceId"] for one in account.instances()] == [new["InstanceId"]]
    # From now on it is like any other one, and so is the next replacement.
    moved = er.launch("--replace")
    assert moved.code == 0, moved.err
    assert volumes(account)["data"]["VolumeId"] == copy["VolumeId"]
    assert er("destroy", "web1", "--yes", "--data").code == 0
    assert account.everything() == []
    assert account.ec2.describe_volumes()["Volumes"] == []


def test_where_there_is_capacity_nothing_is_copied(replaceable: Er, account: Account) -> None:
    before = volumes(account)["data"]["VolumeId"]
    done = replaceable.launch("--replace", "--other-zone")
    assert done.code == 0, done.err
    assert {part: one["VolumeId"] for part, one in volumes(account).items()} == {"data": before}


def test_the_zone_may_be_named_by_its_subnet(replaceable: Er, account: Account) -> None:
    elsewhere = ("--replace", "--subnet", subnet(account, THERE))
    refused = replaceable.launch(*elsewhere)
    assert refused.code == 1
    assert "er launch --replace --other-zone" in refused.err
    assert replaceable.launch(*elsewhere, "--other-zone").code == 0
    assert volumes(account)["data"]["AvailabilityZone"] == THERE


def test_the_option_is_for_a_replacement(replaceable: Er) -> None:
    assert "--other-zone is for --replace" in replaceable.launch("--other-zone").err


def test_who_may_not_make_a_volume_is_told_before_the_first_step(replaceable: Er, account: Account) -> None:
    replaceable.wire.fault = lambda call, _: (
        refusal(call, 403, "UnauthorizedOperation", "no") if call.operation == "CreateVolume" else None
    )
    done = replaceable.launch("--replace", "--other-zone")
    assert done.code == 1
    assert "these credentials may not do ec2:CreateVolume" in done.err
    assert len(account.instances()) == 1


def test_a_new_server_that_does_not_come_up_with_the_copy_has_had_no_visitor(replaceable: Er, account: Account) -> None:
    er, old, volume = replaceable, account.instances()[0]["InstanceId"], volumes(account)["data"]["VolumeId"]
    er.wire.console_of = lambda instance: (
        (READY if instance == old else BROKEN) if has_data(account, instance) else WAITS
    )
    done = er.launch("--replace", "--other-zone", "--subnet", subnet(account, THERE))
    assert done.code == 1
    assert f"first boot has failed: not ready: name=web1 missing: blog/web; web1 is back on {old}" in done.err
    assert "AssociateAddress" not in writes(er)
    serves(account, old, volume)
    assert {*volumes(account)} == {"data"}
    assert er.launch(*LAUNCH).code == 0


def test_what_visitors_have_written_on_the_copy_is_not_deleted(replaceable: Er, account: Account) -> None:
    """The new one fails once it has the address: what was written there is nowhere else."""
    er, old, volume = replaceable, account.instances()[0]["InstanceId"], volumes(account)["data"]["VolumeId"]

    def console(instance: str) -> str:
        visited = instance != old and account.addresses()[0].get("InstanceId") == instance
        return BROKEN if visited else READY if has_data(account, instance) else WAITS

    er.wire.console_of = console
    done = er.launch("--replace", "--other-zone", "--subnet", subnet(account, THERE))
    assert done.code == 1
    serves(account, old, volume)
    kept = volumes(account)["former-data"]
    assert kept["AvailabilityZone"] == THERE
    assert f"is on {kept['VolumeId']} alone, which is kept" in done.err
    assert f"{kept['VolumeId']} 30 GiB in {THERE} (former)" in er("destroy", "web1", "--dry-run").err
    assert er("destroy", "web1", "--old", "--yes").code == 0
    assert {*volumes(account)} == {"data"}
    assert er.launch(*LAUNCH).code == 0


_NOT_STORED = [("pending", "waited 1 s in vain for the snapshot"), ("error", "AWS could not take the snapshot")]


@pytest.mark.parametrize(("state", "said"), sample(_NOT_STORED, _NOT_STORED[1:]))
def test_a_snapshot_that_is_not_stored_leaves_the_old_server(
    replaceable: Er, account: Account, state: str, said: str
) -> None:
    """The one after the stop; the time without service ends with --timeout."""
    er, old, volume = replaceable, account.instances()[0]["InstanceId"], volumes(account)["data"]["VolumeId"]

    def fault(call: Call, do: Any) -> Answer | None:
        if call.operation != "DescribeSnapshots" or "StopInstances" not in writes(er):
            return None
        answer: Answer = do()
        return Answer(answer.status, answer.body.replace(b"completed", state.encode()), answer.headers)

    er.wire.fault = fault
    done = er.launch("--replace", "--other-zone", "--subnet", subnet(account, THERE), "--timeout", "1")
    assert done.code == 1
    assert said in done.err
    assert f"web1 is back on {old}" in done.err
    er.wire.fault = None
    serves(account, old, volume)
    assert {*volumes(account)} == {"data"}


@of_a_sweep
def test_a_replacement_that_was_nearly_done_goes_back_all_the_same(replaceable: Er, account: Account) -> None:
    """All but the last of the tags were changed, and then the new one serves no more."""
    er, old, volume = replaceable, account.instances()[0]["InstanceId"], volumes(account)["data"]["VolumeId"]
    words = ("launch", str(er.spec), "--replace", "--other-zone", "--subnet", subnet(account, THERE))
    assert er(*words, "--dry-run").code == 0
    test_replace.kill(er, "CreateTags", words, after=3)
    assert {*volumes(account)} == {"data", "former-data"}
    assert {*test_replace.by_part(account)} == {"successor", "predecessor"}
    er.wire.console_of = lambda instance: READY if instance == old else BROKEN
    done = er(*words)
    assert done.code == 1
    assert f"web1 is back on {old}" in done.err
    serves(account, old, volume)
    assert {*volumes(account)} == {"data", "former-data"}


@pytest.mark.parametrize("stopped_again", sample([False, True], [True]))
def test_what_the_old_one_has_written_since_the_snapshot_is_not_left_behind(
    replaceable: Er, account: Account, stopped_again: bool
) -> None:
    """er was killed when the copy was there, and somebody started the old one by hand."""
    er, old, volume = replaceable, account.instances()[0]["InstanceId"], volumes(account)["data"]["VolumeId"]
    words = ("launch", str(er.spec), "--replace", "--other-zone", "--subnet", subnet(account, THERE))
    test_replace.kill(er, "AttachVolume", words)
    (first,) = [one["SnapshotId"] for one in snapshots(account) if "er:taker" in tags(one)]
    until_the_next_second()
    account.ec2.start_instances(InstanceIds=[old])
    if stopped_again:
        account.ec2.stop_instances(InstanceIds=[old])
    done = er(*words)
    assert done.code == 1
    assert f"{old} has run since its data was copied, and has newer data; web1 is back on {old}" in done.err
    serves(account, old, volume)
    assert {*volumes(account)} == {"data"}
    assert er(*words).code == 0
    assert volumes(account)["data"]["SnapshotId"] != first


def until_the_next_second() -> None:
    """EC2 tells a stop by the second."""
    now = int(time.time())
    until(lambda: int(time.time()) > now, timeout=10, what="the next second")


# Every call.

_WRITES = (
    "1 RunInstances",
    "1 CreateSnapshot",
    "1 StopInstances",
    "2 CreateSnapshot",
    "1 CreateVolume",
    "1 AttachVolume",
    "1 AssociateAddress",
    *(f"{number} CreateTags" for number in (1, 2, 3, 4)),
)
_WAYS = ("server error", "done, then server error", "done, answer lost", "network gone", "denied", KILL)
_POINTS = sample(
    [(call, way) for call in _WRITES for way in _WAYS],
    (("1 CreateVolume", "done, answer lost"),),
)


def serving(account: Account) -> str | None:
    """The instance that runs and has volume and address."""
    address = account.addresses()[0].get("InstanceId")
    running = [one["InstanceId"] for one in account.instances() if one["State"]["Name"] == "running"]
    return next((one for one in running if one == address and has_data(account, one)), None)


@pytest.mark.parametrize(("name", "way"), _POINTS)
def test_a_call_that_fails_leaves_one_server_and_the_same_command_goes_on(
    replaceable: Er, account: Account, name: str, way: str
) -> None:
    er, old = replaceable, account.instances()[0]["InstanceId"]
    which, operation = name.split()
    words = ("launch", str(er.spec), "--replace", "--other-zone", "--subnet", subnet(account, THERE))
    if way == KILL:
        test_replace.kill(er, operation, words, after=int(which))
    else:
        test_replace.fail(er, BY_NAME[way], operation, int(which))
        done = er(*words)
        disarm(er)
        if way != "network gone":
            assert serving(account), done.err
            assert serving(account) != old or done.code == 1, done.err
    for _ in range(3):
        again = er(*words)
        if again.code == 0 or "was replaced, and" in again.err:
            break
        assert "was given up" in again.err, again.err
        assert serving(account) == old
    assert serving(account) not in {old, None}, again.err
    assert {*test_replace.by_part(account)} == {"server", "predecessor"}
    found = volumes(account)
    assert (found["data"]["AvailabilityZone"], found["former-data"]["AvailabilityZone"]) == (THERE, HERE)
    assert {*found} == {"data", "former-data"}
    assert er("destroy", "web1", "--old", "--yes").code == 0
    assert {*volumes(account)} == {"data"}


# Pure.


def _volume(name: str, part: str, holder: str = "", taker: str = "") -> dict[str, Any]:
    listed = {"er:part": part} | ({"er:taker": taker} if taker else {})
    return {
        "VolumeId": name,
        "Tags": [{"Key": key, "Value": value} for key, value in listed.items()],
        "Attachments": [{"InstanceId": holder}] if holder else [],
    }


@pytest.mark.parametrize(
    ("found", "new"),
    [
        ([_volume("own", "data", "old")], None),
        ([_volume("own", "data", "old", taker="old"), _volume("x", "former-data")], "new"),
        ([_volume("x", "data-copy", "new", "new"), _volume("own", "data", "old")], "new"),
        ([_volume("x", "data-copy", "new", "new"), _volume("own", "former-data", "old")], "new"),
        (
            [_volume("x", "data", "new", "new"), _volume("y", "former-data"), _volume("own", "former-data", "old")],
            "new",
        ),
        ([_volume("x", "former-data", "new", "new"), _volume("own", "former-data", "old")], "new"),
        ([_volume("own", "data")], "new"),
    ],
    ids=["before", "copied once before", "copied", "the first tag", "the second tag", "on the way back", "on its way"],
)
def test_the_volume_that_a_replacement_began_with(found: list[dict[str, Any]], new: str | None) -> None:
    assert [one["VolumeId"] for one in data_volume.of_pair(found, "old", new)] == ["own"]
