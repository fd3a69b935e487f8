"""Steps, messages, hints and leftovers of every target, in the words of its plugin, as both generations write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder.packer import failures, leftovers, steps
from builder.packer.leftovers import RESOURCES, Tracker
from builder.packer.run import BuildState
from builder.packer.steps import StepTracker
from builder.packer.targets import BY_NAME
from tests.packer import transcript

if TYPE_CHECKING:
    from builder.packer.failures import BakeError
    from builder.packer.leftovers import Leftover
    from tests.packer.transcript import Generation, Transcript

CLOUDS = [target for target in transcript.TARGETS if target not in ("qemu", "null")]
both = pytest.mark.parametrize("generation", transcript.GENERATIONS)
LOG = Path("/logs/x.log")


class Watched:
    """A transcript, as a build watches it."""

    def __init__(self, target: str, rows: list[str]) -> None:
        phases = StepTracker(transcript.MARK, transcript.SCRIPTS)
        self.target = target
        self.course = BuildState(phases, Tracker(RESOURCES.get(target, ()), transcript.NAME), target)
        self.steps = ["start"]
        for row in rows:
            self.feed(row)

    def feed(self, row: str) -> None:
        for event in steps.parse(row):
            if step := self.course.feed(event):
                self.steps.append(step)

    def left(self, *, done: bool = False, ended: bool = True) -> tuple[Leftover, ...]:
        return self.course.may_have_stayed(done=done, ended=ended)

    def error(self) -> BakeError:
        return failures.build_failed(self.course.step_tracker, 12.4, 1, LOG, left=self.left(), target=self.target)


def watched(made: Transcript) -> Watched:
    return Watched(made.target, made.rows)


def test_every_target_has_a_transcript() -> None:
    assert set(transcript.TARGETS) == {*BY_NAME, "null"}
    assert set(RESOURCES) == set(CLOUDS)


@both
@pytest.mark.parametrize("target", transcript.TARGETS)
def test_the_exact_list_of_steps(target: str, generation: Generation) -> None:
    """Whatever they print: each begins with its script, the upload with our payload, the closing after the last."""
    found = watched(transcript.whole(target, generation))
    wait, *rest = transcript.SCRIPTS
    closing = [] if target == "null" else ["export"]
    assert found.steps == ["start", "boot", wait, "upload", *rest, *closing]
    assert found.course.step_tracker.closing == (target != "null")
    assert found.left(done=True) == ()


@both
@pytest.mark.parametrize("target", transcript.TARGETS)
def test_a_script_that_fails_is_told_by_its_own_word(target: str, generation: Generation) -> None:
    found = watched(transcript.script_fails(target, generation))
    error = found.error()
    assert found.steps[-1] == error.step == "30-packages"
    first, *rest = error.message.splitlines()
    assert first == "baking failed in step 30-packages after 12 s: the packages could not be installed"
    assert rest[-1] == "  | a warning"
    assert not any("Deleting" in line and "output directory" not in line for line in rest)
    assert error.left == ()


@both
@pytest.mark.parametrize("target", transcript.TARGETS)
def test_a_machine_that_vanishes_in_a_step(target: str, generation: Generation) -> None:
    found = watched(transcript.vanished(target, generation))
    error = found.error()
    assert error.step == "30-packages"
    assert error.message.splitlines()[-1] == "  | Setting up podman"
    assert "Script disconnected unexpectedly" in error.message
    assert error.left == ()


@both
@pytest.mark.parametrize("what", ["refused", "capacity"])
@pytest.mark.parametrize("target", CLOUDS)
def test_a_refusal_is_told_once_with_a_way_out(target: str, what: str, generation: Generation) -> None:
    made = transcript.refused(target, generation, what)
    error = watched(made).error()
    reason = made.words[what]["error"]
    assert error.step == "start"
    assert error.message.count(reason) == 1, error.message
    assert error.message.startswith(f"baking failed in step start after 12 s: {reason}")
    assert (error.hint or "").startswith({"refused": "the provider refused the login", "capacity": "no room"}[what])
    for noise in ("error-count", "Wait completed", "no artifacts", "PACKER CRASH", "goroutine", "errored after"):
        assert noise not in error.message, noise
    assert error.left == ()


def _says() -> list[Any]:
    found = []
    for target in CLOUDS:
        found += [pytest.param(target, way, text, id=f"{target}-{way}") for way, text in load_says(target)]
    return found


def load_says(target: str) -> list[tuple[str, str]]:
    return list(transcript.load(target)["says"].items())


@pytest.mark.parametrize(("target", "way", "text"), _says())
def test_what_a_plugin_says_has_its_hint(target: str, way: str, text: str) -> None:
    assert (failures.find_hint([text], target) or "").startswith(way)


@both
@pytest.mark.parametrize("target", CLOUDS)
def test_what_cannot_be_taken_away_is_named(target: str, generation: Generation) -> None:
    """In a good build as well: it ends well, and something goes on costing."""
    made = transcript.stuck(target, generation)
    case = made.words["stuck"]
    found = watched(made)
    left = found.left(done=not made.fails)
    told = list(leftovers.lines(left))
    assert any(case["left"] in line for line in told), told
    # Where it is the reason of a failed build it is said there, and not once more.
    said = found.error().message if made.fails else "\n".join(told)
    assert said.count(case["error"]) == 1, said
    assert leftovers.costly(left) == case.get("costs", True)


@both
@pytest.mark.parametrize("target", CLOUDS)
def test_an_end_at_once_names_all_that_was_made(target: str, generation: Generation) -> None:
    """Packer is killed after each row in turn: what was begun and not seen taken away is told, and nothing else."""
    rows = transcript.whole(target, generation).rows
    begun: set[str] = set()
    for upto in range(1, len(rows)):
        found = Watched(target, rows[:upto])
        nouns = {one.noun for one in found.left(ended=False)}
        begun |= nouns
    assert {thing.noun for thing in RESOURCES[target]} - {"volume", "storage", "floating IP"} <= begun
    found = Watched(target, rows[:1])
    assert {one.noun for one in found.left(ended=False)} <= {"server", "SSH key"}


@both
@pytest.mark.parametrize("target", CLOUDS)
def test_an_interrupt_while_the_image_is_made_leaves_it(target: str, generation: Generation) -> None:
    made = transcript.Transcript(target, generation)
    made.headlines("opening")
    made.steps()
    made.headlines("closing")
    found = watched(made)
    found.course.step_tracker.interrupt()
    rest = transcript.Transcript(target, generation)
    rest.say("! Cancelling build after receiving terminated")
    rest.cleanup()
    for row in rest.rows:
        found.feed(row)
    results = {thing.noun for thing in RESOURCES[target] if thing.result}
    assert results <= {one.noun for one in found.left()}
    assert all(transcript.NAME in one.name for one in found.left() if one.noun in results)


@both
def test_an_interrupt_in_a_step_leaves_nothing_and_says_nothing(generation: Generation) -> None:
    made = transcript.Transcript("hetzner", generation)
    made.headlines("opening")
    made.steps("30-packages")
    found = watched(made)
    found.course.step_tracker.interrupt()
    rest = transcript.Transcript("hetzner", generation)
    rest.say("! Cancelling build after receiving terminated")
    rest.cleanup()
    for row in rest.rows:
        found.feed(row)
    assert found.left() == ()


_PAGE = Path(__file__).parents[2] / "docs" / "packer-failures.md"
_HEAD = """# What a failed bake says

Made by `UPDATE=1 pytest tests/unit/test_packer_transcripts.py` of `tests/packer/transcripts`: what each target's plugin
says, and what `er build-image` makes of it, under Packer 1.6.6 and under 1.16. The exit code of an interrupt is 130,
whatever is left.

| target | what | Packer | message | hint | exit code | what may have stayed |
|---|---|---|---|---|---|---|
"""


_FAILURES = {
    "refused": "refused login",
    "capacity": "no capacity",
    "script": "failing script",
    "stuck": "failed clean-up",
}


def _row(target: str, what: str, generation: Generation) -> tuple[str, ...]:
    """Message, hint, exit code and leftovers of a failure."""
    if what == "stuck":
        made = transcript.stuck(target, generation)
        if not made.fails:
            left = watched(made).left(done=True)
            hint = f"er build-image --clean {target} shows and removes what stayed"
            return "none: the image is good", hint, str(int(leftovers.costly(left))), _names(left)
    elif what == "script":
        made = transcript.script_fails(target, generation)
    else:
        made = transcript.refused(target, generation, what)
    error = watched(made).error()
    hint = (error.hint or "").removesuffix(f"the whole log: {LOG}").removesuffix("; ")
    return error.message.splitlines()[0], hint, "1", _names(error.left)


def _names(left: tuple[Leftover, ...]) -> str:
    return ", ".join(f"{one.noun} {one.name}".strip() or one.why for one in left) or "nothing"


def _rows() -> str:
    lines = []
    for target in CLOUDS:
        # Some have no builder inside 1.6.6.
        generations = transcript.GENERATIONS[BY_NAME[target].packer != "1.6.6" :]
        for what, name in _FAILURES.items():
            cells = {generation: _row(target, what, generation) for generation in generations}
            same = len(set(cells.values())) < len(cells)
            for generation, row in list(cells.items())[: 1 if same else None]:
                said = " | ".join(cell.replace("|", r"\|").replace(transcript.NAME, "NAME") for cell in row)
                lines.append(f"| {target} | {name} | {'both' if same else generation} | {said} |\n")
    return "".join(lines)


def test_the_page_of_failures() -> None:
    made = _HEAD + _rows()
    if os.environ.get("UPDATE"):
        _PAGE.write_text(made)
    assert _PAGE.read_text() == made
