"""The cache directory: base trees, disks and images, each made once, by one run at a time."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
    """Hold a lock file; waits for the process that holds it. The kernel releases it when a process dies."""
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


def current(target: Path, edition: str, make: Callable[[Path], None]) -> Path:
    """The directory `target` for an edition of its source, made by `make` when missing.

    With an unknown, empty `edition` the newest that exists.
    """
    return made(target.with_name(f"{target.name}-{edition or _newest(target)}"), make)


# In place of an edition, which is a time, where none is known.
_UNKNOWN: Final = "0"


def _newest(target: Path) -> str:
    """The last edition that exists."""
    known = re.compile(rf"{re.escape(target.name)}-(\d{{8}}T\d{{6}})")
    names = (path.name for path in target.parent.glob(f"{target.name}-*") if path.is_dir())
    return max((match[1] for name in names if (match := known.fullmatch(name))), default=_UNKNOWN)
