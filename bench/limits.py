"""A machine held to so much memory, as a small server is."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# The lab gives a host a control group v2 of its own, in which a machine with v1 has no controllers: there v1 counts.
_V1: Final = Path("/sys/fs/cgroup/memory")


@contextmanager
def memory(size: int) -> Iterator[bool]:
    """What is started meanwhile may hold `size` bytes in all, page cache included; False where nothing can hold it.

    The group stays until the last of what was started has ended.
    """
    if not (_V1 / "cgroup.procs").exists():
        yield False
        return
    before = _V1 / _own().lstrip("/")
    group = before / f"er-bench-{os.getpid()}-{size}"
    group.mkdir(exist_ok=True)
    (group / "memory.limit_in_bytes").write_text(str(size))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield True
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))


def peak(size: int) -> float:
    """The most that such a group ever held at once, MiB, page cache included."""
    group = _V1 / _own().lstrip("/") / f"er-bench-{os.getpid()}-{size}"
    return int((group / "memory.max_usage_in_bytes").read_text()) / 1024**2


def _own() -> str:
    """The path of this process's group."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return next(path for _, controllers, path in lines if "memory" in controllers.split(","))
