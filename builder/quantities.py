"""Times and sizes as people read them."""

from __future__ import annotations

from typing import Final

_TIMES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SIZES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def duration(seconds: int) -> str:
    """The two largest units: 90 is 1 min 30 s."""
    parts: list[str] = []
    for size, unit in _TIMES:
        if seconds >= size and len(parts) < 2:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"


def size(count: int | None) -> str:
    """Bytes in binary units; nothing when unknown."""
    if count is None:
        return ""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"
    return f"{count} B"
