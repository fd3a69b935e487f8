"""What a picture is made of: boxes, lines and texts at their places, in CSS pixels; and how wide a text is.

Widths are those of DejaVu Sans, the widest of the fonts that a reader may have: in another font a text is shorter.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

# Advance widths of the characters from space to ~, in hundredths of the font size.
_REGULAR: Final = (
    32, 40, 46, 84, 64, 95, 78, 27, 39, 39, 50, 84, 32, 36, 32, 34, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 34, 34, 84,
    84, 84, 53, 100, 68, 69, 70, 77, 63, 58, 77, 75, 29, 29, 66, 56, 86, 75, 79, 60, 79, 69, 63, 61, 73, 68, 99, 69,
    61, 69, 39, 34, 39, 84, 50, 50, 61, 63, 55, 63, 62, 35, 63, 63, 28, 28, 58, 28, 97, 63, 61, 63, 63, 41, 52, 39, 63,
    59, 82, 59, 59, 52, 64, 34, 64, 84,
)  # fmt: skip
_BOLD: Final = (
    35, 46, 52, 84, 70, 100, 87, 31, 46, 46, 52, 84, 38, 42, 38, 37, 70, 70, 70, 70, 70, 70, 70, 70, 70, 70, 40, 40, 84,
    84, 84, 58, 100, 77, 76, 73, 83, 68, 68, 82, 84, 37, 37, 77, 64, 100, 84, 85, 73, 85, 77, 72, 68, 81, 77, 110, 77,
    72, 73, 46, 37, 46, 84, 50, 50, 67, 72, 59, 72, 68, 44, 72, 71, 34, 34, 67, 34, 104, 71, 69, 72, 72, 49, 60, 48, 71,
    65, 92, 65, 65, 58, 71, 37, 71, 84,
)  # fmt: skip
_MONOSPACE: Final = 61
_CUT: Final = "…"


@dataclass(frozen=True, slots=True)
class Look:
    """How a text looks: size and line height in pixels, and the role that gives its colour."""

    size: float
    line: float
    colour: str = "ink"
    bold: bool = False
    monospace: bool = False
    above: float = 0  # pixels left free above it

    @property
    def height(self) -> float:
        """How far down the next text begins."""
        return self.line + self.above

    @property
    def drop(self) -> float:
        """From the lower edge of a line up to its baseline."""
        return (self.line - self.size) / 2 + 0.2 * self.size


LOOKS: Final = {
    "host": Look(18, 24, bold=True),
    "head": Look(14, 18, bold=True),
    "name": Look(12.5, 17, bold=True),
    "plain": Look(11.5, 15),
    "term": Look(11.5, 15, above=6),
    "note": Look(11, 15, "muted"),
    "code": Look(10.5, 14.5, "muted", monospace=True),
    "site": Look(11.5, 15, "site"),
    "socket": Look(10.5, 14.5, monospace=True),
    "good": Look(11, 15, "good"),
    "bad": Look(11, 15, "bad", bold=True),
}


@dataclass(frozen=True, slots=True)
class Box:
    """A rounded rectangle; `look` is the role that gives its colours."""

    x: float
    y: float
    width: float
    height: float
    look: str

    @property
    def right(self) -> float:
        """The x of its right edge."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower edge."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """The y half way down."""
        return self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text on its baseline, `room` pixels wide at most; `whole` is what it was before it was cut."""

    x: float
    y: float
    words: str
    look: str
    room: float
    right: bool = False  # x is where it ends
    whole: str = ""

    @property
    def box(self) -> Box:
        """The room that it takes."""
        wide, size = width(self.words, self.look), LOOKS[self.look].size
        return Box(self.x - wide if self.right else self.x, self.y - 0.8 * size, wide, size, "text")


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, each straight above or beside the next; `arrow` at its end."""

    points: tuple[tuple[float, float], ...]
    look: str
    arrow: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """A sign around a point: where something joins a line, or what a text is about; `look` says which."""

    x: float
    y: float
    look: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A whole picture; what stands later is drawn over what stands earlier."""

    width: float
    height: float
    title: str
    description: str
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    texts: tuple[Text, ...]


def width(words: str, look: str) -> float:
    """How many pixels a text takes at most."""
    form = LOOKS[look]
    return sum(_advance(char, form) for char in words) * form.size / 100


def _advance(char: str, form: Look) -> int:
    if unicodedata.combining(char):
        return 0
    if unicodedata.east_asian_width(char) in "WF":
        return 2 * _MONOSPACE if form.monospace else 110
    if form.monospace:
        return _MONOSPACE
    place = ord(char) - ord(" ")
    table = _BOLD if form.bold else _REGULAR
    return table[place] if place < len(table) else 110


# A word that is wider than a line goes on in the next one after these.
_PIECE: Final = re.compile(r"[^./@_,-]*[./@_,-]+|[^./@_,-]+")


def wrapped(words: str, look: str, room: float, most: int = 1) -> list[str]:
    """The text in lines that fit, `most` of them; the last one is cut where that is not enough."""
    lines = [""]
    for piece in _pieces(words, look, room):
        if width((lines[-1] + piece).rstrip(), look) <= room:
            lines[-1] += piece
        else:
            lines.append(piece)
    kept = [line.strip() for line in lines[:most]]
    if len(lines) > most:
        kept[-1] = _cut("".join(lines[most - 1 :]), look, room)
    return kept


def _pieces(words: str, look: str, room: float) -> Iterator[str]:
    """What stays together in a line: words; parts of one that is too wide; letters of a part that is."""
    for word in re.findall(r"\S+\s*|\s+", words):
        for part in [word] if _fits(word, look, room) else _PIECE.findall(word):
            yield from [part] if _fits(part, look, room) else part


def _fits(words: str, look: str, room: float) -> bool:
    return width(words.rstrip(), look) <= room


def _cut(words: str, look: str, room: float) -> str:
    taken, kept = width(_CUT, look), ""
    for char in words:
        taken += width(char, look)
        if taken > room:
            break
        kept += char
    return kept.rstrip() + _CUT
