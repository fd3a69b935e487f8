"""How far an `er server move` is on this host, and when er was heard of last: what both sides of it share."""

from __future__ import annotations

import fcntl
import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import held
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value

# Seconds of CLOCK_BOOTTIME, gone with a boot: when er was heard of last, and until when the new host goes on without.
WORD: Final = Path(facts.RUN, "move-word")
UNTIL: Final = Path(facts.RUN, "move-until")
# What the unit has begun is of this boot.
BEGUN: Final = Path(facts.RUN, "move-begun")


def clock() -> float:
    """Of this boot, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def exclusive() -> Iterator[Value]:
    """The state, which nobody else changes in the block."""
    held.DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (held.DIRECTORY / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield held.state()


def asked() -> Value:
    """What stdin says."""
    found: Value = json.load(sys.stdin.buffer)
    return found


def hear(path: Path = WORD, value: float | None = None) -> None:
    """er has said something just now, or that this goes until then."""
    files.replace(path, str(clock() if value is None else value).encode(), 0o600)


def age_of_word() -> float | None:
    """Seconds since er was heard of; None where it never was since the boot."""
    try:
        return clock() - float(WORD.read_text())
    except (FileNotFoundError, ValueError):
        return None


def is_over() -> bool:
    """Whether the new host was to go on until a time that has come."""
    return clock() > float(UNTIL.read_text())


def advance(before: str, phase: str, **more: object) -> None:
    """The next phase, unless somebody has decided otherwise."""
    with exclusive() as state:
        if state["phase"] == before:
            held.set_state({**state, **more, "phase": phase})


def until(phases: set[str], seconds: float) -> Value:
    """The state once its phase is one of these. Raises RemoteError, also where `failed` is said."""
    deadline = time.monotonic() + seconds
    while (state := held.state()).get("phase", "") not in phases:
        if "failed" in state:
            raise RemoteError(state["failed"], state.get("hint"))
        if time.monotonic() > deadline:
            raise RemoteError(f"this server is still {state.get('phase')} after {seconds:.0f} s")
        time.sleep(0.1)
    return state


def move_state(phase: str = "", seconds: str = "0") -> Value:
    """The state once its phase is another one, or when the time is up."""
    deadline = time.monotonic() + float(seconds)
    while (state := held.state()).get("phase", "") == phase and time.monotonic() < deadline:
        time.sleep(0.1)
    return state
