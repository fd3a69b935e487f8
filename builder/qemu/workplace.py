"""A directory for one machine's files, locked while it is used: what a dead run left is taken away by the next."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from builder.localhost import cache

if TYPE_CHECKING:
    from io import TextIOWrapper

_LOCK = "lock"


class Workplace:
    """Held until `release`, or the end of this process."""

    def __init__(self, directory: Path, lock: TextIOWrapper) -> None:
        self.directory = directory
        self._lock = lock

    @classmethod
    def take(cls) -> Self:
        """A fresh directory, after sweeping those of dead runs."""
        top = cache.root() / "vms"
        with cache.locked(top / ".lock"):
            for old in top.glob("vm-*"):
                _sweep(old)
            directory = Path(tempfile.mkdtemp(prefix="vm-", dir=top))
            lock = (directory / _LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(directory, lock)

    def release(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.directory)
        self._lock.close()


def _sweep(directory: Path) -> None:
    lock = directory / _LOCK
    if lock.exists():
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
    shutil.rmtree(directory)
