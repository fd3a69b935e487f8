"""Bans by day as a plot: a bar a day, its number on it; SVG with a title and a description, text as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT = 720, 170
_LEFT, _RIGHT, _TOP, _BASE = 36, 712, 22, 138
# Of bars, from one to the next, what is left free.
_FREE: Final = 0.25
# Every so many days have their date below.
_DATED: Final = 7


def plot(days: Sequence[tuple[str, int]]) -> str:
    """The plot of each day's number; the same days give the same text."""
    most = max((count for _, count in days), default=0)
    step = (_RIGHT - _LEFT) / max(len(days), 1)
    bars = "".join(_bar(number, day, count, most, step) for number, (day, count) in enumerate(days))
    dates = "".join(
        f'<text class="p-text" x="{_LEFT + step * number:.1f}" y="{_BASE + 20}">{escape(day[5:])}</text>\n'
        for number, (day, _) in enumerate(days)
        if (len(days) - 1 - number) % _DATED == 0 and number < len(days) - 1
    )
    return (
        f'<svg class="p" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="bans-title bans-text">\n'
        f'<title id="bans-title">Bans by day</title>\n<desc id="bans-text">{escape(description(days))}</desc>\n'
        f'<path class="p-line" d="M{_LEFT} {_BASE}H{_RIGHT}M{_LEFT} {_TOP}H{_RIGHT}"/>\n'
        f'<text class="p-text p-end" x="{_LEFT - 6}" y="{_BASE + 4}">0</text>\n'
        + (f'<text class="p-text p-end" x="{_LEFT - 6}" y="{_TOP + 4}">{most}</text>\n' if most else "")
        + f"{bars}{dates}"
        f'<text class="p-text p-end" x="{_RIGHT}" y="{_BASE + 20}">{escape(days[-1][0][5:] if days else "")}</text>\n'
        "</svg>\n"
    )


def _bar(number: int, day: str, count: int, most: int, step: float) -> str:
    if not count:
        return ""
    high = (_BASE - _TOP) * count / most
    place = f'x="{_LEFT + step * (number + _FREE / 2):.1f}" y="{_BASE - high:.1f}"'
    size = f'width="{step * (1 - _FREE):.1f}" height="{high:.1f}"'
    return f'<rect class="p-bar" {place} {size}><title>{escape(day)}: {count}</title></rect>\n'


def description(days: Sequence[tuple[str, int]]) -> str:
    """The plot in a sentence."""
    total = sum(count for _, count in days)
    if not total:
        return f"No address was banned in the last {len(days)} days."
    day, most = max(days, key=lambda one: one[1])
    bans = "1 ban" if total == 1 else f"{total:,} bans"
    return f"{bans} in the last {len(days)} days; most on {day}: {most:,}."
