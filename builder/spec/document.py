"""A spec that is being checked: its values, whatever their shape, and the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.messages import Text
    from builder.problems import Mark, Report
    from builder.yamlfile.source import Loc, Source


class Document:
    """Gives values without trusting their types, so that one broken part hides no problem of another."""

    def __init__(self, source: Source, report: Report) -> None:
        self.source = source
        self.report = report
        self._faulty = {problem.where for problem in report if problem.severity == "error"}

    @property
    def base(self) -> Path:
        """The directory that the spec's paths start from."""
        return self.source.path.parent

    def get(self, loc: Loc) -> Any:
        """The value at a place, None where there is none."""
        value = self.source.data
        for step in loc:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def text(self, loc: Loc) -> str | None:
        """The value at a place if it is text."""
        value = self.get(loc)
        return value if isinstance(value, str) else None

    def items(self, loc: Loc) -> Iterator[Loc]:
        """The places of a list's items; none when it is no list."""
        value = self.get(loc)
        for index in range(len(value) if isinstance(value, list) else 0):
            yield (*loc, index)

    def keys(self, loc: Loc) -> Iterator[str]:
        """The keys of a mapping; none when it is no mapping."""
        value = self.get(loc)
        yield from value if isinstance(value, dict) else ()

    def mark(self, loc: Loc, *, key: bool = False) -> Mark:
        """The place in the file."""
        return self.source.mark(loc, key=key)

    def put(self, text: Text, loc: Loc, *, on_key: bool = False, **values: object) -> None:
        """Report a problem at a place. One error for one value: the first says it best."""
        where = dotted(loc)
        if where in self._faulty:
            return
        if text.severity == "error":
            self._faulty.add(where)
        text.put(self.report, where, self.mark(loc, key=on_key), **values)
