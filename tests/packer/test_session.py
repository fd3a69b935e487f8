"""A program that is read line by line, and what is left of it."""

from __future__ import annotations

import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from builder import process
from builder.packer import run
from builder.packer.build_log import Log
from builder.process import Session

if TYPE_CHECKING:
    from pathlib import Path

_CHILD = "import subprocess, sys; subprocess.Popen(['sleep', '1000']); print('up', flush=True)"


def test_lines_of_both_streams_and_the_exit_code() -> None:
    with Session(["sh", "-c", "echo one; echo two >&2; printf three; exit 7"]) as found:
        assert list(found.lines()) == ["one", "two", "three"]
        assert found.code == 7


def test_what_a_program_leaves_running_is_ended_with_it() -> None:
    """Its child holds the pipe open, and is not waited for."""
    since = time.monotonic()
    with Session([sys.executable, "-c", _CHILD]) as found:
        assert list(found.lines()) == ["up"]
        assert process.members(found.pid) == ()
    assert time.monotonic() - since < 30


def test_leaving_the_block_ends_all_of_it() -> None:
    with Session(["sh", "-c", "sleep 1000 & echo up; wait"]) as found:
        assert next(found.lines()) == "up"
        assert len(process.members(found.pid)) == 2
    assert process.members(found.pid) == ()


def test_reading_goes_on_after_an_exception() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with Session(["sh", "-c", "trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done"]) as found:
        assert next(found.lines()) == "up"
        with pytest.raises(KeyboardInterrupt):
            list(found.lines(tick=stop))
        found.signal(signal.SIGTERM)
        assert list(found.lines()) == ["bye"]
        assert found.code == 3


def test_reading_ends_in_time() -> None:
    with Session(["sh", "-c", "echo up; sleep 1000"]) as found:
        assert list(found.lines(timeout=0.5)) == ["up"]
        assert found.code is None


def test_a_program_that_will_not_end_is_asked_twice_and_then_killed(tmp_path: Path) -> None:
    stubborn = "trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done"
    with Log(tmp_path / "log") as log, Session(["sh", "-c", stubborn]) as found:
        assert next(found.lines()) == "up"
        run.end_build(found, log, (0.5, 0.5))
        assert found.code == -signal.SIGKILL
        assert process.members(found.pid) == ()
    assert (tmp_path / "log").read_text().count("asked") == 2
