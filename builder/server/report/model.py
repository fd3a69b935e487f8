"""A row of the report, a section of rows, and the whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from builder.problem_report import printable

# Kept, broken, could not be tried, or only counted: nothing is promised.
State = Literal["good", "bad", "untried", "note"]


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was examined. `place` names the box of the picture it belongs to, and `mark` is said there.

    `stack` is whose it is; empty for what is the host's.
    """

    what: str
    promised: str
    seen: str
    state: State
    stack: str = ""
    place: str = ""
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """Rows of one kind. `name` is its anchor."""

    name: str
    title: str
    rows: tuple[Row, ...]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the page shows; `bans` is by day, `picture` an SVG or empty."""

    host: str
    stack: str
    at: int  # seconds since 1970
    is_rehearsal: bool
    sections: tuple[Section, ...]
    bans: tuple[tuple[str, int], ...] = ()
    bans_since: str = ""
    picture: str = field(default="", repr=False)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row, in the order of the page."""
        return tuple(row for section in self.sections for row in section.rows)

    @property
    def wrong(self) -> tuple[Row, ...]:
        """The rows that are not as promised."""
        return tuple(row for row in self.rows if row.state == "bad")

    def value(self) -> dict[str, Any]:
        """The same as a value that can be JSON."""
        return {
            "host": clean(self.host),
            "stack": self.stack,
            "at": self.at,
            "rehearsal": self.is_rehearsal,
            "ok": not self.wrong,
            "sections": [
                {"name": one.name, "title": one.title, "rows": [_value(row) for row in one.rows]}
                for one in self.sections
            ],
            "bans_by_day": dict(self.bans),
        }


def _value(row: Row) -> dict[str, str]:
    texts = {"what": row.what, "promised": row.promised, "seen": row.seen}
    return {**{name: clean(text) for name, text in texts.items()}, "state": row.state, "stack": row.stack}


def judged(good: object) -> State:
    """Kept, or broken."""
    return "good" if good else "bad"


_MOST: Final = 400
_LOGIN: Final = re.compile(r"//[^/\s@]*@")


def clean(text: str, most: int = _MOST) -> str:
    """A foreign text as it may be shown: printable, without a login in a URL, cut where it is long."""
    shown = _LOGIN.sub("//", printable(" ".join(text.split())))
    return shown if len(shown) <= most else f"{shown[: most - 1]}…"
