"""`er launch --replace`: what moves from one server to the next, each call of it failing, and the way back."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from builder.aws.permissions import OPERATIONS
from tests.aws import er_command
from tests.aws.test_faults import BY_NAME, CLOSED, FORKS, KILL, Kind, arm, disarm
from tests.aws.test_launch import BOOT, PRINT, READY, tags
from tests.aws.wire import Answer, Call, refusal
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account

SPEC = er_command.QUIET + "data: {disk: auto}\n"
WAITS = f"{BOOT}easyrunner: data: no disk for auto: none is attached\n"
LAUNCH = ("--no-wait", "--eip")


def data_volume(account: Account) -> dict[str, Any]:
    [found] = [one for one in account.ec2.describe_volumes()["Volumes"] if tags(one).get("er:part") == "data"]
    return dict(found)


def holder(account: Account) -> str | None:
    """The instance that has the data volume."""
    return next((one["InstanceId"] for one in data_volume(account)["Attachments"]), None)


def by_part(account: Account) -> dict[str, dict[str, Any]]:
    found = {tags(one)["er:part"]: one for one in account.instances()}
    assert len(found) == len(account.instances())
    return found


@pytest.fixture(autouse=True)
def baked(account: Account) -> None:
    """With a disk for data the user-data of a stock image is over EC2's limit."""
    account.bake()


@pytest.fixture
def replaceable(er: Er, account: Account) -> Er:
    """A server with data and an address; whoever has the volume gets ready, who has not waits for it."""
    _begin(er, account)
    return er


def _begin(er: Er, account: Account) -> None:
    er.wire.reset()
    er.wire.console_of = lambda instance: READY if holder(account) == instance else WAITS
    er.spec.write_text(SPEC)
    done = er.launch(*LAUNCH)
    assert done.code == 0, done.err
    er.wire.calls.clear()


def test_a_server_with_data_has_a_volume_that_stays(er: Er, account: Account) -> None:
    er.spec.write_text(SPEC)
    assert er.launch("--no-wait", "--data-disk", "30").code == 0
    (server,) = account.instances()
    volume = data_volume(account)
    assert (volume["Size"], volume["VolumeType"], volume["Encrypted"]) == (30, "gp3", True)
    assert volume["AvailabilityZone"] == server["Placement"]["AvailabilityZone"]
    assert holder(account) == server["InstanceId"]
    er.wire.calls.clear()
    assert er.launch("--no-wait").code == 0
    assert [op for op in er.wire.operations if OPERATIONS[op].writes] == []
    gone = er("destroy", "web1", "--yes")
    assert gone.code == 0, gone.err
    assert f"stays: data volume {volume['VolumeId']} 30 GiB in eu-central-1a" in gone.err
    assert account.instances() == []
    assert data_volume(account)["State"] == "available"
    # The next one takes it up.
    assert er.launch("--no-wait").code == 0
    assert holder(account) == account.instances()[0]["InstanceId"]
    assert data_volume(account)["VolumeId"] == volume["VolumeId"]
    assert er("destroy", "web1", "--yes", "--data").code == 0
    assert account.ec2.describe_volumes()["Volumes"] == []


def test_a_server_is_made_where_its_data_is(er: Er, account: Account) -> None:
    er.spec.write_text(SPEC)
    subnets = {one["AvailabilityZone"]: one["SubnetId"] for one in account.ec2.describe_subnets()["Subnets"]}
    assert er.launch("--no-wait", "--subnet", subnets["eu-central-1b"]).code == 0
    assert er("destroy", "web1", "--yes").code == 0
    elsewhere = er.launch("--no-wait", "--subnet", subnets["eu-central-1a"])
    assert elsewhere.code == 1
    assert "in eu-central-1b, and a server can be made only in eu-central-1a" in elsewhere.err
    assert er.launch("--no-wait").code == 0
    assert account.instances()[0]["Placement"]["AvailabilityZone"] == "eu-central-1b"


def test_a_launch_that_fails_takes_the_new_volume_away_again(er: Er, account: Account) -> None:
    er.spec.write_text(SPEC)
    er.wire.fault = lambda call, _: (
        refusal(call, 400, "AddressLimitExceeded", "no more") if call.operation == "AllocateAddress" else None
    )
    assert er.launch(*LAUNCH).code == 1
    assert account.everything() == []
    assert account.ec2.describe_volumes()["Volumes"] == []


def test_data_and_address_move_to_a_new_server(replaceable: Er, account: Account) -> None:
    er = replaceable
    (old,), volume, (address,) = account.instances(), data_volume(account), account.addresses()
    shown = er.launch("--replace", "--dry-run")
    assert shown.code == 0, shown.err
    assert f"would replace  {old['InstanceId']} by a new server" in shown.err
    assert [op for op in er.wire.operations if OPERATIONS[op].writes] == []
    done = er.launch("--replace", "--type", "t3.medium", "--json")
    assert done.code == 0, done.err
    parts = by_part(account)
    assert {*parts} == {"server", "predecessor"}
    new = parts["server"]
    assert (parts["predecessor"]["InstanceId"], parts["predecessor"]["State"]["Name"]) == (old["InstanceId"], "stopped")
    assert new["InstanceType"] == "t3.medium"
    assert new["Placement"] == old["Placement"]
    assert holder(account) == new["InstanceId"]
    assert data_volume(account)["VolumeId"] == volume["VolumeId"]
    assert [one["InstanceId"] for one in account.addresses()] == [new["InstanceId"]]
    assert account.addresses()[0]["PublicIp"] == address["PublicIp"]
    every = account.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    [snapshot] = [one for one in every if tags(one).get("er:part") == "snapshot"]
    assert snapshot["VolumeId"] == volume["VolumeId"]
    found = json.loads(done.out)
    assert (found["replaced"], found["snapshot"]) == (old["InstanceId"], snapshot["SnapshotId"])
    assert 0 <= found["seconds_without_service"] < 60
    assert f"the host key of {address['PublicIp']} is new: {PRINT}" in done.err
    assert address["PublicIp"] in er.known_hosts.read_text()
    # The same again would make a third one.
    refused = er.launch("--replace")
    assert refused.code == 1
    assert f"web1 was replaced, and {old['InstanceId']} is kept: nothing is left to do" in refused.err
    # The old one goes when that is asked for, and the server is one again.
    assert "(predecessor)" in er("servers").out
    assert er("destroy", "web1", "--old", "--yes").code == 0
    assert [one["InstanceId"] for one in account.instances()] == [new["InstanceId"]]
    assert er.launch(*LAUNCH).code == 0
    assert er("destroy", "web1", "--yes", "--data").code == 0
    assert account.everything() == []
    assert account.ec2.describe_volumes()["Volumes"] == []


def test_the_volume_moves_once_the_old_server_has_let_go_of_it(replaceable: Er) -> None:
    """Nothing of the old one is touched before the new one waits for its disk."""
    assert replaceable.launch("--replace").code == 0
    done = [call.operation for call in replaceable.wire.calls if OPERATIONS[call.operation].writes and not call.dry]
    assert done == [
        "RunInstances",
        "StopInstances",
        "CreateSnapshot",
        "DetachVolume",
        "AttachVolume",
        "AssociateAddress",
        "CreateTags",
        "CreateTags",
    ]


@pytest.mark.parametrize(
    ("spec", "words", "said"),
    [
        (er_command.QUIET, ("--eip",), "has no volume for its data that could move"),
        (SPEC, (), "has no Elastic IP that could move"),
        (SPEC, ("--eip", "--spot"), "is a Spot server"),
        (SPEC, None, "there is no server web1 here"),
    ],
    ids=["no data", "no address", "spot", "nothing"],
)
def test_what_cannot_be_replaced(er: Er, account: Account, spec: str, words: tuple[str, ...] | None, said: str) -> None:
    er.spec.write_text(spec)
    if words is not None:
        assert er.launch("--no-wait", *words).code == 0
    before = account.everything()
    refused = er.launch("--replace")
    assert refused.code == 1
    assert said in refused.err
    assert account.everything() == before


def test_who_may_not_do_every_step_is_told_before_the_first(replaceable: Er, account: Account) -> None:
    replaceable.wire.fault = lambda call, _: (
        refusal(call, 403, "UnauthorizedOperation", "no") if call.operation == "DetachVolume" else None
    )
    done = replaceable.launch("--replace")
    assert done.code == 1
    assert "these credentials may not do ec2:DetachVolume" in done.err
    assert len(account.instances()) == 1


def _serves(er: Er, account: Account, old: str) -> None:
    """The old one as before, alone."""
    (server,) = account.instances()
    assert (server["InstanceId"], server["State"]["Name"], tags(server)["er:part"]) == (old, "running", "server")
    assert holder(account) == old
    assert [one["InstanceId"] for one in account.addresses()] == [old]
    assert er.launch(*LAUNCH).code == 0


def test_a_new_server_that_never_gets_so_far_leaves_the_old_one_alone(replaceable: Er, account: Account) -> None:
    old = account.instances()[0]["InstanceId"]
    replaceable.wire.console_of = lambda instance: READY if instance == old else "[    0.0] Kernel panic\n"
    done = replaceable.launch("--replace", "--timeout", "1")
    assert done.code == 1
    assert "in vain for the new server to want its disk; web1 is back on" in done.err
    assert "Kernel panic" in done.err
    assert "StopInstances" not in [call.operation for call in replaceable.wire.calls if not call.dry]
    _serves(replaceable, account, old)


def test_a_new_server_that_does_not_come_up_with_the_data_gives_it_back(replaceable: Er, account: Account) -> None:
    old = account.instances()[0]["InstanceId"]
    broken = WAITS + "easyrunner: not ready: name=web1 missing: blog/web\n"
    replaceable.wire.console_of = lambda instance: (
        (READY if instance == old else broken) if holder(account) == instance else WAITS
    )
    done = replaceable.launch("--replace")
    assert done.code == 1
    assert f"first boot has failed: not ready: name=web1 missing: blog/web; web1 is back on {old}" in done.err
    _serves(replaceable, account, old)


def test_another_launch_meanwhile_is_refused(replaceable: Er, account: Account) -> None:
    _killed(replaceable, account, "StopInstances")
    assert {*by_part(account)} == {"server", "successor"}
    for words in (("--no-wait",), ("--dry-run",)):
        refused = replaceable.launch(*words)
        assert refused.code == 1
        assert "web1 is being replaced" in refused.err
        assert "er launch --replace goes on" in refused.err
    assert replaceable("destroy", "web1", "--yes", "--data").code == 0
    assert account.everything() == []


# Every call.


def _killed(er: Er, account: Account, operation: str | int) -> None:
    """kill -9 once AWS has done this call: the first of an operation, or one by its number."""
    kill(er, operation, ("launch", str(er.spec), "--replace"))
    del account


def kill(er: Er, operation: str | int, words: tuple[str, ...], after: int = 1) -> None:
    """The same for any command; `after` counts the calls of an operation."""
    ready = threading.Event()
    seen: list[Call] = []
    victim = FORKS.Process(target=er_command.victim, args=(words, er.environment))

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        seen.extend([call] if not call.dry and operation in (call.operation, call.number) else [])
        if len(seen) == after and not ready.is_set():
            do()
            os.kill(victim.pid or 0, signal.SIGKILL)
            ready.set()
            return CLOSED
        return None

    er.wire.calls.clear()
    er.wire.fault = fault
    victim.start()
    assert ready.wait(240)
    victim.join(60)
    er.wire.fault = None


def fail(er: Er, kind: Kind, operation: str, which: int) -> None:
    """From now on this one of the calls of an operation fails."""
    at: list[Call] = []

    def fault(call: Call, do: Callable[[], Answer]) -> Answer | None:
        at.extend([call] if len(at) < which and call.operation == operation and not call.dry else [])
        if len(at) < which:
            return None
        if kind.lasts == "all":
            return kind.answer(call, do) if call is at[-1] else CLOSED
        again = kind.lasts == "operation" and call.operation == operation
        return kind.answer(call, do) if again or call is at[-1] else None

    er.wire.calls.clear()
    er.wire.fault = fault


def _state(account: Account) -> str:
    """Who serves: one server, which runs and has volume and address; or nobody, for now."""
    assert len(account.addresses()) == 1
    found = by_part(account)
    running = [part for part, one in found.items() if one["State"]["Name"] == "running"]
    for part in running:
        own = (holder(account), account.addresses()[0].get("InstanceId"))
        if own == (found[part]["InstanceId"],) * 2:
            return "new" if part == "successor" or "predecessor" in found else "old"
    return "nobody"


_WAYS = ("server error", "done, then server error", "done, answer lost", "network gone", "denied", KILL)


def _writing(calls: list[Call]) -> list[Call]:
    return [call for call in calls if OPERATIONS[call.operation].writes and not call.dry]


def _cases(calls: list[Call]) -> list[tuple[Call, str]]:
    """Every third call that writes with one way to fail, each with another; in a sweep every call in all."""
    if not WHOLE:
        return [(call, _WAYS[(2 * number + 1) % 6]) for number, call in enumerate(_writing(calls)[::3])]
    pairs = [(call, way) for call in calls for way in _WAYS]
    return [pair for pair in pairs if OPERATIONS[pair[0].operation].writes or pair[1] != "done, answer lost"]


def _expected(call: Call, way: str, done: er_command.Done) -> str:
    """Who serves after a run that could speak to AWS all the time."""
    if done.code == 0:
        return "new"
    assert "hint: " in done.err
    if call.operation == "CreateTags":
        assert "the new server serves, and is not marked as the server yet" in done.err
        return "new"
    # What is refused on the way there is refused on the way back, had EC2 not said so when it was asked before.
    stuck = way == "denied" and call.operation == "AttachVolume"
    assert ("the same command goes on with the way back" in done.err) == stuck
    return "nobody" if stuck else "old"


def test_a_call_that_fails_leaves_one_server_and_the_same_command_goes_on(replaceable: Er, account: Account) -> None:
    """As far as AWS can be reached somebody serves; with the next run the new one does."""
    er, words = replaceable, ("launch", str(replaceable.spec), "--replace")
    done = er(*words)
    assert done.code == 0, done.err
    for call, way in _cases(list(er.wire.calls)):
        account.reset()
        account.bake()
        _begin(er, account)
        if way == KILL:
            _killed(er, account, call.number)
        else:
            arm(er, BY_NAME[way], call)
            done = er(*words)
            disarm(er)
        where = f"{call.number} {call.operation}, {way}: {_state(account)}\n{done.err}"
        if way not in {KILL, "network gone"}:
            assert _state(account) == _expected(call, way, done), where
        again = er(*words)
        if "was given up" in again.err:
            assert _state(account) == "old", where + again.err
            again = er(*words)
        # All was done, and nobody was told any more.
        done_before = "was replaced, and" in again.err
        assert (again.code, _state(account)) == (int(done_before), "new"), where + again.err
        assert {*by_part(account)} == {"server", "predecessor"}, where
