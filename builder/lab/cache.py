"""Where the lab keeps what is worth keeping, and how two runs share it."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def root() -> Path:
    """`ER_CACHE`, or the user's cache directory, or the system's for root."""
    if override := os.environ.get("ER_CACHE"):
        return Path(override).absolute()
    if os.geteuid() == 0:
        return Path("/var/cache/easyrunner")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "easyrunner"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file; waits for whoever holds it. The kernel lets go of it when a process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def made(target: Path, make: Callable[[Path], None]) -> Path:
    """The directory `target`, made by `make` when missing: built aside and renamed, by one run at a time."""
    if target.is_dir():
        return target
    with locked(target.with_name(f"{target.name}.lock")):
        if not target.is_dir():
            aside = target.with_name(f"{target.name}.part")
            if aside.exists():
                shutil.rmtree(aside)
            make(aside)
            aside.rename(target)
    return target
