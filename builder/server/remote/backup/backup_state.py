"""How the last backups and drills went, by stack: what `status` and `doctor` read. It outlives a cut of power."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts, files

if TYPE_CHECKING:
    from builder.server.remote.common import Value

_DIRECTORY: Final = Path(facts.BACKUPS)
_STATE: Final = _DIRECTORY / "state.json"


def read() -> Value:
    """`stacks`: by name the last backup; `drill`: by name the last drill; `run`: the last run; `repository`.

    Of a backup: `at` and `good_at` (the last that was good) in seconds since 1970, `snapshot`, `bytes`, `added`,
    `seconds`, `error`. Of the repository: `to`, and its `id`.
    """
    try:
        found = json.loads(_STATE.read_bytes())
    except (FileNotFoundError, ValueError):
        found = {}
    return {"stacks": {}, "drill": {}, "run": {}, "repository": {}, **found}


def update(section: str, name: str, **values: Any) -> None:
    """Put these values into what a section says of a stack, as in `update("drill", "blog", error="")`."""
    with _Locked():
        state = read()
        state[section] = {**state[section], name: {**state[section].get(name, {}), **values}}
        _write(state)


def replace(section: str, value: Value) -> None:
    """Put this value in place of a whole section."""
    with _Locked():
        _write({**read(), section: value})


def _write(state: Value) -> None:
    files.replace(_STATE, json.dumps(state, indent=1).encode(), 0o600, owner=(0, 0))


class _Locked:
    """One writer at a time."""

    def __enter__(self) -> None:
        _DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        self._lock = os.open(_DIRECTORY / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)
