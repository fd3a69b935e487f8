"""Changes under load, and changes cut off at many points: docs/apply.md is the table of `make sweeps`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.polling import NotInTimeError, until
from builder.server import apply
from tests.machine.clients import Load
from tests.server.apply_bench import STEPS, Bench, Step, paths
from tests.server.apply_page import Asked, Changed, Cut, Page
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.server.conftest import Client

# In a run of the tests test_apply.py has changes, cuts and load one by one.
pytestmark = [pytest.mark.machine, of_a_sweep]

OTHERS = (("shop.example.com", 4), ("notes.example.com", 6))
OWN = "hello.example.com"
# The last one is for the connection cut off: files of several kinds, of which none is a stack's coming or going.
_TWO = (
    ("neu.example.com]", "neu.example.com, new.example.com]"),
    ("{GREETING: hi}", "{GREETING: there}"),
    ("7778]", "7779]"),
    ("192.0.2.7", "192.0.2.8"),
)
POINTS = tuple(f"{number}/12" for number in range(12))
PHASES = ("started", "changing files", "telling services", "waiting for the stacks", "waiting for you")


@pytest.fixture(scope="module")
def bench(alone: Client) -> Iterator[Bench]:
    """The spec's own images are named by paths that the steps know."""
    page = Page(len(STEPS), len(POINTS) + len(PHASES))
    yield Bench(alone, page, alone.spec.read_text())
    page.write()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_change_loses_no_request_of_another_stack(bench: Bench, step: Step) -> None:
    old, new = paths(bench.text, step)
    assert old in bench.text
    text = bench.text.replace(old, new)
    loads = [Load(bench.web.host, name, family=family) for name, family in OTHERS]
    own = Load(bench.web.host, OWN)
    began = time.monotonic()
    ended = _carried_out(bench, text, step)
    seconds = time.monotonic() - began
    others, its = [one for load in loads for one in load.end()], own.end()
    bench.page.changed.append(Changed(step.name, ended, seconds, Asked.of(others), Asked.of(its)))
    assert ended == step.ends
    assert [status for status, _ in others if status != "200"] == []
    if step.ends == "done":
        bench.text = text
        assert [status for status, _ in its if status != "200"] == []
    assert apply.differences(bench.remote, bench.built(bench.text)) == ()


def _carried_out(bench: Bench, text: str, step: Step) -> str:
    """As a person does it; the one that shuts the client out is not confirmed for three seconds, not ninety."""
    if "ssh:" in step.new:
        plan = bench.plan(text, 3).read_bytes()
        return str([state["phase"] for state in apply.carry_out(bench.remote, plan)][-1])
    done = bench.web.er(
        "apply", bench.spec(text), "--yes", "--timeout", "10" if step.ends != "done" else "120", "--json"
    )
    assert done.stdout, done.stderr
    return str(json.loads(done.stdout)["phase"])


@dataclass
class Two:
    """Two states of the host, what is in force in each, how long the way between them takes, and where it is."""

    bench: Bench
    texts: tuple[str, str]
    running: tuple[dict[str, str], dict[str, str]]
    seconds: float
    now: int

    DOMAINS = ("hello.example.com", "neu.example.com", "new.example.com")

    @cached_property
    def trees(self) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """Content by path."""
        old, new = (self.bench.built(text).files for text in self.texts)
        return {file.path: file.content for file in old}, {file.path: file.content for file in new}


@pytest.fixture(scope="module")
def two(bench: Bench) -> Two:
    """Both states reached in peace, so that it is known how they look."""
    other = bench.text
    for old, new in _TWO:
        assert old in other
        other = other.replace(old, new)
    texts, seconds = (bench.text, other), 0.0
    running: dict[int, dict[str, str]] = {}
    for number in (1, 0):
        plan = bench.plan(texts[number], 20)
        began = time.monotonic()
        assert bench.client(plan).wait(90) == 0
        seconds = time.monotonic() - began
        assert bench.state() == "done"
        served = Two.DOMAINS[: 2 + number]
        until(partial(_serve, bench, served), timeout=30, what="the sites")
        running[number] = bench.running(Two.DOMAINS)
    assert running[0] != running[1]
    found = Two(bench, texts, (running[0], running[1]), seconds, 0)
    first, second = found.trees
    bench.page.files = len(first.keys() | second.keys())
    bench.page.differing = sum(first.get(path) != second[path] for path in second)
    assert bench.page.differing >= 4
    return found


def _serve(bench: Bench, domains: tuple[str, ...]) -> bool:
    return all(bench.web.host.curl(f"https://{one}/", timeout=5).stdout.startswith("HTTP/2 200") for one in domains)


def _kill(client: subprocess.Popen[bytes]) -> None:
    if client.poll() is None:
        os.killpg(client.pid, signal.SIGKILL)
    client.wait(10)


@pytest.mark.parametrize("point", [*POINTS, *PHASES])
def test_a_cut_connection_leaves_one_tree_or_the_other(two: Two, point: str) -> None:
    bench, before = two.bench, two.now
    client = bench.client(bench.plan(two.texts[1 - before], 3))
    if point in PHASES:
        reached = PHASES[PHASES.index(point) :]
        until(lambda: bench.state() in reached, timeout=60, longest=0.005, what=point)
    else:
        with suppress(subprocess.TimeoutExpired):
            client.wait(two.seconds * POINTS.index(point) / len(POINTS))
    phase = bench.state() if bench.working() else "—"
    _kill(client)
    until(lambda: not bench.working(), timeout=90, what="the end of the change")
    found = _found(two)
    side = [sum(found.get(path) == tree.get(path) for path in found.keys() | tree.keys()) for tree in two.trees]
    every = found.keys() | two.trees[0].keys() | two.trees[1].keys()
    neither = sum(all(found.get(path) != tree.get(path) for tree in two.trees) for path in every)
    bench.page.cuts.append(Cut(point, phase, bench.state(), side[before], side[1 - before], neither))
    assert neither == 0
    assert bench.state() in facts.APPLY_ENDS - {"failed"}
    two.now = next(number for number, tree in enumerate(two.trees) if tree == found)
    wanted = two.running[two.now]
    with suppress(NotInTimeError):
        until(lambda: bench.running(Two.DOMAINS) == wanted, timeout=40, what="what is in force")
    assert bench.running(Two.DOMAINS) == wanted


def _found(two: Two) -> dict[str, bytes]:
    """Every file of ours on the host, asked for by both trees' paths."""
    found: dict[str, bytes] = dict(two.trees[0])
    for one in apply.differences(two.bench.remote, two.bench.built(two.texts[0])):
        found.pop(one.path, None)
        if one.old is not None:
            found[one.path] = one.old[1]
    return found
