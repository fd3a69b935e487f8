"""What a stack was refused by its limits since its user's manager was started, and whether it was stopped for room."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common

if TYPE_CHECKING:
    from builder.server.remote.common import Value

_CGROUPS: Final = Path("/sys/fs/cgroup")
_ROOM: Final = Path(facts.RUN, "room")


def of(stack: str) -> Value:
    """`killed` for want of memory, `forks` refused; `filled` is the bytes it held when stopped for room, None when not.

    The counts are the kernel's, of the whole stack, so they outlive a restart of its services.
    """
    group = _group(common.stack_user(stack))
    filled = common.number(str(_ROOM / stack))
    return {
        "killed": count(_read(group / "memory.events"), "oom_kill"),
        "forks": forks(group),
        "filled": None if filled is None else filled * 1024,
    }


def _group(user: str) -> Path:
    unit = f"user@{common.uid(user)}.service"
    return _CGROUPS / common.show(unit, "ControlGroup").get("ControlGroup", "").lstrip("/")


def forks(group: Path) -> int:
    """Before Linux 6.11 a refusal counts only where the limit stands, since then in every group above as well."""
    events = [count(_read(path), "max") for path in (group / "pids.events", *group.glob("*/*/pids.events"))]
    return max(events[0], sum(events[1:]))


def count(text: str, name: str) -> int:
    """A number of one of the kernel's `NAME NUMBER` files, 0 where it is not told."""
    found = dict(line.split(maxsplit=1) for line in text.splitlines())
    return int(found.get(name, 0))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
