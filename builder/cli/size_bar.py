"""How full something is, as a line of text."""

from __future__ import annotations

_WIDTH = 20


def size_bar(used: int, limit: int | None) -> str:
    """`[#####---------------] 4,096 of 16,384 bytes, 25 %`; without a limit only the size."""
    if limit is None:
        return f"{used:,} bytes, no limit"
    filled = min(-(-used * _WIDTH // limit), _WIDTH)
    return f"[{'#' * filled:-<{_WIDTH}}] {used:,} of {limit:,} bytes, {used / limit:.0%}"
