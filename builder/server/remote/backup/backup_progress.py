"""How far a backup that runs is, as a file that says so while it runs, and at its end how it ended."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import common

if TYPE_CHECKING:
    from builder.server.remote.common import Value

UNIT: Final = "easyrunner-backup.service"
_FILE: Final = Path(facts.RUN, "backup", "progress.json")


def say(phase: str, **values: Any) -> None:
    """This is where it is now."""
    _FILE.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = _FILE.with_suffix(".part")
    part.write_text(json.dumps({"phase": phase, **values}))
    part.replace(_FILE)


def read() -> Value:
    """What was said last; the phase is `none` where nothing was."""
    try:
        found: Value = json.loads(_FILE.read_bytes())
    except (OSError, ValueError):
        return {"phase": "none"}
    return found


# Seconds that a run may take to end once it has said how, with what is done after it.
_ENDS: Final = 60.0


def joins() -> bool:
    """Whether one is under way. One that has said its end is not: its unit is waited for, or no other would start."""
    deadline = time.monotonic() + _ENDS
    while runs := _is_running():
        if read()["phase"] not in facts.APPLY_ENDS or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    return runs


def _is_running() -> bool:
    """Whether it runs, or waits for the end of the boot."""
    found = common.show(UNIT, "ActiveState", "Job")
    return found.get("ActiveState") in {"active", "activating", "deactivating"} or found.get("Job", "") not in {"", "0"}


def backup_wait(phase: str, seconds: str) -> Value:
    """The state once its phase is another one, or when the time is up; it ends in `done` or `failed`, with `stacks`."""
    deadline = time.monotonic() + min(float(seconds), 60)
    while (state := read())["phase"] == phase and time.monotonic() < deadline:
        if phase not in facts.APPLY_ENDS and not _is_running() and _age() > _BEGINS:
            last = read()
            return last if last["phase"] != phase else {"phase": "failed", "error": f"its unit is gone: {UNIT}"}
        time.sleep(0.2)
    return state


# Seconds within which systemd starts the unit.
_BEGINS: Final = 10.0


def _age() -> float:
    """Seconds since the phase changed; without any that is long ago."""
    return time.time() - _FILE.stat().st_mtime if _FILE.exists() else _BEGINS + 1
