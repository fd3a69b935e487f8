"""The recording of `er try` in the README is of the texts that it prints today; `make recording` makes it anew."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from bench import recording
from bench.recording import Line
from builder.cli import trial as command
from builder.diagram.drawing import FILLS, TEXT_COLOURS
from builder.lab import trial
from builder.lab.events import Ended, Started
from tests.unit.test_diagram import ROOT, SVG, contrast

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def texts(picture: str) -> list[str]:
    return ["".join(one.itertext()) for one in ET.fromstring(picture).iter(f"{SVG}text")]


def told(lines: list[str]) -> str:
    """What they say without numbers, breaks and the column of labels."""
    return re.sub(r"[\d.]*\d", "#", " ".join(" ".join(lines).split()))


def events() -> Iterator[trial.Event]:
    """A run of `er try` with the steps that the engine has, as far as it prints anything."""
    engine = inspect.getsource(trial)
    answer = trial.Answer(trial.Site("hello", "hello.example.com"), 200, 6.7)
    for name in re.findall(r'clock\.step\("([\w -]+)"', engine):
        yield Started(name)
        yield Ended(name, 1.0)
    yield answer
    yield from (Ended(name, 0.0) for name in re.findall(r'clock\.end\("([\w -]+)"', engine))
    directory = Path("/var/cache/easyrunner/machines/er-1")
    shell = "nsenter --target 1 --all --wd=/ bash --login"
    machine: Any = None
    yield trial.Ready(
        "er-1", "10.213.1.2", "fd00::1", directory / "ca.crt", shell, directory / "console", (answer,), (), machine
    )


def test_the_recording_is_what_er_try_prints_now(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial, "run", lambda _: events())
    plan: Any = None
    command._try(plan, None, keep=False, as_json=False)
    printed = capsys.readouterr().err.splitlines()
    first, *shown = texts((ROOT / "docs/try.svg").read_text())
    assert first == "$ er try examples/hello.yaml"
    assert told(shown) == told(printed), "the recording is older than the texts: make recording"
    assert "](docs/try.svg)" in (ROOT / "README.md").read_text()


def test_each_line_comes_when_it_came_and_is_there_without_motion() -> None:
    drawn = recording.draw([Line(0.52, "  boot 1 s"), Line(2.0, ""), Line(2.04, "<&>")])
    assert texts(drawn) == ["$ er try examples/hello.yaml", "  boot 1 s", "<&>"]
    assert ".at5 { animation-delay: 0.5s; }" in drawn
    assert 'class="later at20"' in drawn
    moving = drawn.partition("@media (prefers-reduced-motion: no-preference)")[0]
    assert "animation:" not in moving
    assert "opacity" not in re.sub(r"@keyframes.*", "", moving)
    assert "<script" not in drawn
    assert "http" not in drawn.replace('xmlns="http://www.w3.org/2000/svg"', "")


def test_a_long_line_goes_on_below() -> None:
    rows = texts(recording.draw([Line(0.0, "  site      " + "word " * 40)]))[1:]
    assert len(rows) == 3
    assert all(len(row) <= 100 for row in rows)
    assert {row[:12] for row in rows[1:]} == {" " * 12}


def test_the_recording_can_be_read_in_both_schemes() -> None:
    for scheme in (0, 1):
        assert contrast(TEXT_COLOURS["ink"][scheme], FILLS["frame"][scheme]) >= 7
