"""A machine held to so much memory, as a small server is."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.polling import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

# The lab gives a host a control group v2 of its own, in which a machine with v1 has no controllers: there v1 counts.
_V1: Final = Path("/sys/fs/cgroup/memory")


@contextmanager
def memory(name: str, size: int) -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """A group that may hold `size` bytes in all, page cache included; what is given is entered to start things in it.

    Where nothing can hold it, nothing does. What was started in it has to end before it.
    """
    if not (_V1 / "cgroup.procs").exists():
        yield lambda: _inside(None, None)
        return
    before = _V1 / _own().lstrip("/")
    group = before / f"er-bench-{os.getpid()}-{name}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(size))
        yield lambda: _inside(group, before)
    finally:
        until(lambda: not (group / "cgroup.procs").read_text(), timeout=20, what=f"{group} to be empty")
        group.rmdir()


@contextmanager
def _inside(group: Path | None, before: Path | None) -> Iterator[None]:
    """This process, and so what it starts, is in the group meanwhile."""
    if group is None or before is None:
        yield
        return
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text(str(os.getpid()))


def _own() -> str:
    """The path of this process's group."""
    lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
    return next(path for _, controllers, path in lines if "memory" in controllers.split(","))
