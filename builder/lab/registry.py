"""Which machines exist: one locked directory each, so that what a dead run left is known and taken away.

The kernel drops the lock of a process that dies, however it dies.
"""

from __future__ import annotations

import fcntl
import shutil
from typing import TYPE_CHECKING, Self

from builder.lab import namespaces, network, power
from builder.lab.network import Plan
from builder.localhost import cache

if TYPE_CHECKING:
    from io import TextIOWrapper
    from pathlib import Path


class Slot:
    """The directory of one machine, held until `release` or the end of this process."""

    def __init__(self, plan: Plan, lock: TextIOWrapper) -> None:
        self.plan = plan
        self.directory = _machines() / plan.id
        self._lock = lock

    @classmethod
    def take(cls) -> tuple[Self, network.World]:
        """A free slot with its bridge, after taking away what dead runs left."""
        with cache.locked(_machines() / ".lock"):
            _sweep()
            made = network.World.make()
            lock = _lock_file(made.plan).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            slot = cls(made.plan, lock)
            slot.directory.mkdir()
            return slot, made

    def release(self) -> None:
        """Remove every trace; whatever still runs in this slot is ended."""
        _remove(self.plan)
        _lock_file(self.plan).unlink(missing_ok=True)
        self._lock.close()


def sweep() -> tuple[str, ...]:
    """Take away machines whose owner is dead; returns their names."""
    with cache.locked(_machines() / ".lock"):
        return _sweep()


def _sweep() -> tuple[str, ...]:
    return tuple(path.stem for path in sorted(_machines().glob("er-*.lock")) if _sweep_one(path))


def _sweep_one(path: Path) -> bool:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        _remove(Plan(int(path.stem.removeprefix("er-"))))
        path.unlink()
        return True


def _remove(plan: Plan) -> None:
    namespaces.end_group(plan.id)
    network.sweep(plan)
    for path in (_machines() / plan.id, *power.leftovers(plan.id)):
        if path.is_dir():
            shutil.rmtree(path)


def _machines() -> Path:
    return cache.root() / "machines"


def _lock_file(plan: Plan) -> Path:
    return _machines() / f"{plan.id}.lock"
