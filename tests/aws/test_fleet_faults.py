"""Every call of a fleet's launch, roll and destroy fails in turn: what the account has then, and after a re-run.

A run of the tests tries a few of the ways, which change from call to call; `make sweeps` tries all and writes
docs/aws-faults.md anew.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.aws import test_faults
from tests.aws.test_faults import BY_NAME, KILL, arm, compare, disarm
from tests.aws.test_fleet import BROKEN, QUIET, SPEC, bad, images
from tests.sweeps import WHOLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account
    from tests.aws.wire import Call

_SHARE = 1 if WHOLE else 134
LAUNCH_WORDS = ("--no-wait",)


@pytest.fixture
def fleet(er: Er) -> Er:
    er.spec.write_text(SPEC)
    return er


def anew(er: Er, account: Account) -> str:
    """An empty account with one image, which this is."""
    account.reset()
    er.wire.autoscaling.reset()
    return account.bake()


def ways(calls: Iterable[Call]) -> Iterator[tuple[Call, str]]:
    """Each call with a way to fail, of this run."""
    points = [(call, way) for call in calls for way in test_faults.ways(call, 1)]
    yield from points[::_SHARE]


def state(er: Er, account: Account) -> str:
    """The account in words."""
    found = er.wire.autoscaling.groups.get("er-web1")
    balancers = account.elb.describe_load_balancers()["LoadBalancers"]
    targets = account.elb.describe_target_groups()["TargetGroups"]
    systems = account.efs.describe_file_systems()["FileSystems"]
    templates = account.ec2.describe_launch_templates()["LaunchTemplates"]
    assert max(len(balancers), len(systems), len(templates), len(targets) // 2, len(account.roles())) <= 1, "doubled"
    if found is None:
        assert account.instances() == [], "hosts of no group"
        assert account.aliases() == {} or balancers, "a record that leads nowhere"
        if balancers:
            return "a balancer without hosts"
        return "free parts" if account.everything() else "nothing"
    members = {one.instance for one in found.members}
    assert {one["InstanceId"] for one in account.instances()} == members, "a host of no group"
    missing = [what for what, there in (("policy", found.policies), ("records", account.aliases())) if not there]
    return f"fleet without {' and '.join(missing)}" if missing else "whole"


def _check(er: Er, call: Call, way: str, words: tuple[str, ...]) -> str:
    """Let one call of a run fail; what it said, empty when it was killed or has done all."""
    if way == KILL:
        test_faults.kill(er, call, words)
        return ""
    arm(er, BY_NAME[way], call)
    done = er(*words)
    disarm(er)
    if not done.code:
        return ""
    where = f"{call.number} {call.operation}, {way}: {done.err}"
    assert done.err.count("error: ") == 1, where
    assert "hint: " in done.err, where
    assert way != "denied" or f"may not do {test_faults.action(call)}" in done.err, where
    return done.err


@contextmanager
def noted(faults: list[str], call: Call, way: str) -> Iterator[None]:
    """A point whose fault does not keep the others from being tried."""
    try:
        yield
    except AssertionError as error:
        faults.append(f"{call.number} {call.operation}, {way}: {error}")


def _cells(rows: dict[str, dict[str, str]], call: Call) -> dict[str, str]:
    return rows.setdefault(f"{call.number} {call.operation}", {})


def test_launch_leaves_a_whole_fleet_or_nothing_that_costs_and_converges(fleet: Er, account: Account) -> None:
    words = ("launch", str(fleet.spec), *LAUNCH_WORDS)
    rows: dict[str, dict[str, str]] = {}
    faults: list[str] = []
    anew(fleet, account)
    calls = test_faults.sequence(fleet, *words)
    for call in calls:
        _cells(rows, call)
    for call, way in ways(calls):
        anew(fleet, account)
        with noted(faults, call, way):
            said = _check(fleet, call, way, words)
            after = _cells(rows, call)[way] = state(fleet, account)
            assert not said or after == "nothing" or "er destroy web1 --region eu-central-1" in said, (after, said)
            assert said or way == KILL or after == "whole", after
            again = fleet(*words)
            assert (again.code, state(fleet, account)) == (0, "whole"), (after, said, again.err)
        compare("fleet launch", rows)
    assert faults == []


def test_destroy_of_a_fleet_converges_to_nothing(fleet: Er, account: Account) -> None:
    words = ("destroy", "web1", "--yes")
    rows: dict[str, dict[str, str]] = {}
    faults: list[str] = []
    anew(fleet, account)
    assert fleet.launch(*LAUNCH_WORDS).code == 0
    fleet.wire.calls.clear()
    calls = test_faults.sequence(fleet, *words)
    for call in calls:
        _cells(rows, call)
    for call, way in ways(calls):
        anew(fleet, account)
        assert fleet.launch(*LAUNCH_WORDS).code == 0
        with noted(faults, call, way):
            said = _check(fleet, call, way, words)
            after = _cells(rows, call)[way] = what_is_left(fleet, account)
            assert said or way == KILL or after == "nothing", after
            again = fleet(*words)
            assert (again.code, what_is_left(fleet, account)) == (0, "nothing"), (after, said, again.err)
        compare("fleet destroy", rows)
    assert faults == []


def what_is_left(er: Er, account: Account) -> str:
    """After a destroy."""
    left = {
        "hosts": er.wire.autoscaling.groups,
        "balancer": account.elb.describe_load_balancers()["LoadBalancers"],
        "records": account.aliases(),
        "free parts": [one for one in account.everything() if one not in account.instances()],
    }
    return ", ".join(name for name, found in left.items() if found) or "nothing"


def first_of_each(calls: Iterable[Call]) -> list[Call]:
    """The first call of each operation: what is asked for again and again fails no other way."""
    found: dict[str, Call] = {}
    for call in calls:
        found.setdefault(call.operation, call)
    return list(found.values())


def test_a_roll_ends_with_one_image_on_every_host(fleet: Er, account: Account) -> None:
    """Whatever fails: hosts of before or new ones serve, and the same command ends with the new ones."""
    fleet.spec.write_text(QUIET)
    rows: dict[str, dict[str, str]] = {}
    faults: list[str] = []

    def before() -> tuple[str, tuple[str, ...]]:
        old = anew(fleet, account)
        assert fleet.launch("--image", old).code == 0
        fleet.wire.calls.clear()
        return old, ("launch", str(fleet.spec), "--image", account.bake())

    calls = first_of_each(test_faults.sequence(fleet, *before()[1]))
    for call in calls:
        _cells(rows, call)
    for call, way in ways(calls):
        old, words = before()
        with noted(faults, call, way):
            said = _check(fleet, call, way, words)
            serving = images(fleet, account)
            _cells(rows, call)[way] = _image_words(serving, old, words[-1])
            assert len(serving) >= 2, (serving, said)
            again = fleet(*words)
            assert (again.code, images(fleet, account)) == (0, [words[-1]] * 2), (serving, said, again.err)
            assert len(account.instances()) == 2
        compare("fleet roll", rows)
    assert faults == []


def _image_words(serving: list[str], old: str, new: str) -> str:
    words = {frozenset({old}): "the old ones", frozenset({new}): "the new ones", frozenset({old, new}): "both"}
    return words[frozenset(serving)]


@pytest.mark.parametrize("way", [*BY_NAME, KILL] if WHOLE else [KILL])
def test_a_roll_back_that_fails_is_gone_on_with(fleet: Er, account: Account, way: str) -> None:
    """The call that rolls back a bad image fails: the same command ends with the hosts of before all the same."""
    fleet.spec.write_text(QUIET)
    old = anew(fleet, account)
    assert fleet.launch("--image", old).code == 0
    image = account.bake()
    fleet.wire.autoscaling.first_boot = bad(account, image)
    fleet.wire.console = lambda: BROKEN
    words = ("launch", str(fleet.spec), "--image", image)
    fleet.wire.calls.clear()
    assert fleet(*words).code == 1
    (call,) = [one for one in fleet.wire.calls if one.operation == "RollbackInstanceRefresh"]
    # The template has that version already now, so the number of the call is another one.
    fleet.wire.calls.clear()
    assert fleet(*words).code == 1
    (call,) = [one for one in fleet.wire.calls if one.operation == "RollbackInstanceRefresh"]
    _check(fleet, call, way, words)
    again = fleet(*words)
    assert (again.code, images(fleet, account)) == (1, [old, old]), again.err
    assert "2 hosts of version 1 serve on" in again.err
