"""Every call of a fleet's launch, roll and destroy fails in turn: what the account has then, and after a re-run.

A run of the tests tries a few points; `make sweeps` tries all, and writes docs/aws-faults.md. `ER_SWEEPS=rest` tries
those that the page has nothing of: a cell is written as soon as it is known.
"""

from __future__ import annotations

import fcntl
import os
import random
import sys
import threading
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from botocore.config import Config

from builder.aws import api
from tests.aws import test_faults
from tests.aws.fleet_account import inventory
from tests.aws.test_faults import BY_NAME, KILL, PAGE, arm, disarm
from tests.aws.test_fleet import BROKEN, QUIET, SPEC, bad, images
from tests.aws.wire import Answer
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.aws.er_command import Er
    from tests.aws.moto_account import Account
    from tests.aws.test_faults import Do
    from tests.aws.wire import Call

_REST: Final = os.environ.get("ER_SWEEPS") == "rest"
# Seconds that `er` waits for an answer where none comes; else it is half a minute.
_PATIENCE: Final = 2.0
SILENCE: Final = test_faults.Kind("done, then time-out", lambda _, do: test_faults.after(do, Answer(-1, b"")))
KINDS: Final = {**BY_NAME, SILENCE.name: SILENCE}
Cells = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Story:
    """A command that is to be cut, and what was there `before`, which says the command's words.

    `seen` has the state of the account in words, of which `ended` is the one that the command leads to. `tried` are the
    points of each run of the tests: the operation, which of its calls, and the way. What is called with the words of
    `but` as well is in another's table.
    """

    name: str
    spec: str
    before: Callable[[Er, Account], tuple[str, ...]]
    seen: Callable[[Er, Account, tuple[str, ...]], str]
    ended: str
    tried: tuple[tuple[str, int, str], ...]
    but: tuple[str, ...] = ()


def anew(er: Er, account: Account) -> str:
    """An empty account with one image, which this is."""
    account.reset()
    er.wire.autoscaling.reset()
    return account.bake()


def _nothing(er: Er, account: Account) -> tuple[str, ...]:
    anew(er, account)
    return "launch", str(er.spec), "--no-wait"


def _nothing_and_patience(er: Er, account: Account) -> tuple[str, ...]:
    return _nothing(er, account)[:2]


def _a_fleet(er: Er, account: Account) -> tuple[str, ...]:
    assert er(*_nothing(er, account)).code == 0
    return "destroy", "web1", "--yes"


def _a_fleet_and_a_newer_image(er: Er, account: Account) -> tuple[str, ...]:
    assert er.launch("--image", anew(er, account)).code == 0
    return "launch", str(er.spec), "--image", account.bake()


def state(er: Er, account: Account, _: tuple[str, ...]) -> str:
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
    wanted = (("policy", found.policies), ("records", account.aliases() or er.spec.read_text() == QUIET))
    missing = [what for what, there in wanted if not there]
    return f"fleet without {' and '.join(missing)}" if missing else "whole"


def what_is_left(er: Er, account: Account, _: tuple[str, ...]) -> str:
    """After a destroy."""
    left = {
        "hosts": er.wire.autoscaling.groups,
        "balancer": account.elb.describe_load_balancers()["LoadBalancers"],
        "records": account.aliases(),
        "free parts": [one for one in account.everything() if one not in account.instances()],
    }
    return ", ".join(name for name, found in left.items() if found) or "nothing"


def which_serve(er: Er, account: Account, words: tuple[str, ...]) -> str:
    """The images of the hosts in service."""
    serving, new = images(er, account), words[-1]
    assert len(serving) >= 2, serving
    return {0: "the old ones", len(serving): "the new ones"}.get(serving.count(new), "both")


STORIES: Final = (
    Story(
        "fleet launch", SPEC, _nothing, state, "whole",
        (("CreateMountTarget", 2, "done, then network gone"),),
    ),
    Story(
        "fleet wait", QUIET, _nothing_and_patience, state, "whole",
        (("DescribeScalingActivities", 1, "denied"),), but=("--no-wait",),
    ),
    Story(
        "fleet roll", QUIET, _a_fleet_and_a_newer_image, which_serve, "the new ones",
        (("StartInstanceRefresh", 1, KILL),),
    ),
    Story(
        "fleet destroy", SPEC, _a_fleet, what_is_left, "nothing",
        (("DeleteTargetGroup", 1, "denied"),),
    ),
)  # fmt: skip
# A wait and a destroy go on as a single server's (test_faults.py).
_IN_EACH_RUN: Final = (STORIES[0], STORIES[2])


@contextmanager
def rewound(er: Er, account: Account) -> Iterator[None]:
    """After the block AWS is as it was before."""
    with account.rewound(), er.wire.autoscaling.rewound():
        yield


def places(er: Er, *words: str) -> list[tuple[Call, tuple[object, ...]]]:
    """The calls of an undisturbed run, each with what is asked and the lines of er that ask it."""
    found: list[tuple[Call, tuple[object, ...]]] = []
    asking = threading.get_ident()

    def note(call: Call, _: Do) -> None:
        frame, lines = sys._current_frames()[asking], []
        while frame.f_back is not None:
            if "/builder/aws/" in frame.f_code.co_filename:
                lines.append((frame.f_code.co_filename, frame.f_lineno))
            frame = frame.f_back
        found.append((call, (call.operation, tuple(lines))))

    er.wire.calls.clear()
    er.wire.fault = note
    done = er(*words)
    disarm(er)
    assert done.code == 0, done.err
    return found


def first_of_each(er: Er, account: Account, story: Story, words: tuple[str, ...]) -> list[Call]:
    """Without those that ask the same anew from the same place, as what waits does: they fail no other way."""
    elsewhere: set[tuple[object, ...]] = set()
    if story.but:
        with rewound(er, account):
            elsewhere = {place for _, place in places(er, *words, *story.but)}
    found: dict[tuple[object, ...], Call] = {}
    for call, place in places(er, *words):
        if place not in elsewhere:
            found.setdefault((*place, call.parameters, call.body), call)
    return list(found.values())


def ways(call: Call) -> list[str]:
    """The names of all ways in which a call fails."""
    *names, kill = test_faults.ways(call, 1)
    return [*names, SILENCE.name, kill]


@contextmanager
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """er waits for seconds only."""
    with monkeypatch.context() as patch:
        patch.setattr(api, "CONFIG", api.CONFIG.merge(Config(read_timeout=_PATIENCE)))
        yield


def _fail(er: Er, call: Call, way: str, words: tuple[str, ...]) -> str:
    """Let one call of a run fail; what it said, empty when it was killed or has done all."""
    if way == KILL:
        test_faults.kill(er, call, words)
        return ""
    arm(er, KINDS[way], call)
    done = er(*words)
    disarm(er)
    if not done.code:
        return ""
    assert done.err.count("error: ") == 1, done.err
    assert "hint: " in done.err, done.err
    assert way != "denied" or f"may not do {test_faults.action(call)}" in done.err, done.err
    return done.err


def _converges(er: Er, account: Account, words: tuple[str, ...], whole: dict[str, object]) -> None:
    """The same command again ends where an undisturbed one does: with the same parts, each as often."""
    again = er(*words)
    assert again.code == 0, again.err
    assert inventory(er, account) == whole


def _known(name: str) -> Cells:
    """What the page has."""
    return test_faults.read_table(PAGE.read_text(), name)


def _write(name: str, rows: Cells) -> None:
    """Or compare, where this run writes nothing. Others may be at the same page."""
    directory = os.open(PAGE.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        test_faults.compare(name, rows, (*KINDS, KILL))
    finally:
        os.close(directory)


def _points(story: Story, calls: list[Call]) -> Iterator[tuple[Call, str]]:
    every = [(call, way) for call in calls for way in ways(call)]
    if _REST:
        # Several at once may do them.
        for call, way in random.sample(every, len(every)):
            if not _known(story.name).get(_row(call), {}).get(way):
                yield call, way
        return
    of_operation = {
        (name, number): call
        for name in {call.operation for call in calls}
        for number, call in enumerate((call for call in calls if call.operation == name), 1)
    }
    yield from sample(every, [(of_operation[operation, number], way) for operation, number, way in story.tried])


def _row(call: Call) -> str:
    return f"{call.number} {call.operation}"


@pytest.mark.parametrize("story", sample(STORIES, _IN_EACH_RUN), ids=lambda story: story.name)
def test_whatever_call_fails_the_same_command_again_has_the_same_end(
    er: Er, account: Account, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    er.spec.write_text(story.spec)
    # Once for AWS itself, which reads what it knows of instance types and the like when it is first asked.
    assert er(*story.before(er, account)).code == 0
    words = story.before(er, account)
    with rewound(er, account):
        calls = first_of_each(er, account, story, words)
        assert story.seen(er, account, words) == story.ended
        whole = inventory(er, account)
    rows: Cells = {_row(call): {} for call in calls}
    faults: list[str] = []
    for call, way in _points(story, calls):
        with rewound(er, account), _noted(faults, call, way):
            with impatient(monkeypatch) if way == SILENCE.name else nullcontext():
                said = _fail(er, call, way, words)
            after = story.seen(er, account, words)
            _is_told(story, way, said, after)
            _converges(er, account, words, whole)
            rows[_row(call)][way] = after
        _write(story.name, rows)
    assert faults == []


def _is_told(story: Story, way: str, said: str, after: str) -> None:
    """Who has not ended where it should says so, and how what costs is removed; after kill -9 nobody speaks."""
    if way == KILL:
        return
    assert said or after == story.ended, after
    if said and story.seen is state and after != "nothing":
        assert "er destroy web1 --region eu-central-1" in said, (after, said)


@contextmanager
def _noted(faults: list[str], call: Call, way: str) -> Iterator[None]:
    """A point whose fault does not keep the others from being tried."""
    try:
        yield
    except AssertionError as error:
        faults.append(f"{_row(call)}, {way}: {error}")
        print(faults[-1], flush=True)


def test_what_a_failed_launch_could_not_take_away_again_a_destroy_finds(er: Er, account: Account) -> None:
    """Two faults: the last part cannot be made, and one before it not be taken away."""
    er.spec.write_text(QUIET)
    words = _nothing(er, account)
    denied = {"CreateAutoScalingGroup", "DeleteTargetGroup"}
    er.wire.fault = lambda call, do: BY_NAME["denied"].answer(call, do) if call.operation in denied else None
    done = er(*words)
    disarm(er)
    assert "may not do autoscaling:CreateAutoScalingGroup" in done.err
    assert "there may be left of it: target group" in done.err
    assert er("destroy", "web1", "--yes").code == 0
    assert account.everything() == []


@of_a_sweep
@pytest.mark.parametrize("way", [*BY_NAME, KILL])
def test_a_roll_back_that_fails_is_gone_on_with(er: Er, account: Account, way: str) -> None:
    """The call that rolls back a bad image fails: the same command ends with the hosts of before all the same."""
    er.spec.write_text(QUIET)
    old = anew(er, account)
    assert er.launch("--image", old).code == 0
    image = account.bake()
    er.wire.autoscaling.first_boot = bad(account, image)
    er.wire.console = lambda: BROKEN
    words = ("launch", str(er.spec), "--image", image)
    with rewound(er, account):
        er.wire.calls.clear()
        assert er(*words).code == 1
        (call,) = [one for one in er.wire.calls if one.operation == "RollbackInstanceRefresh"]
    _fail(er, call, way, words)
    again = er(*words)
    assert (again.code, images(er, account)) == (1, [old, old]), again.err
    assert "2 hosts of version 1 serve on" in again.err
