"""Texts that are alike, and the values in which they differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from builder import facts

# Placeholders stand in the private use area: no text of a cloud-config has such characters, as they do not print.
_COLUMN: Final = 0xE000
_UID: Final = 1
_FIRST_SUBID, _LAST_SUBID = "\uf8f0", "\uf8f1"
_MARK: Final = re.compile("[\ue000-\uf8ff]")
_EXPRESSIONS: Final = {
    _FIRST_SUBID: f"(r.{_UID}-{facts.UID_BASE})*{facts.SUBID_SIZE}",
    _LAST_SUBID: f"(r.{_UID}-{facts.UID_BASE - 1})*{facts.SUBID_SIZE}-1",
}
# What Jinja would take for its own, a brace before a placeholder included.
_BRACE: Final = re.compile("\\{(?=[{%#\ue000-\uf8ff])")
# Columns that say who a service is: stack, uid, service, port, image, domain. After them come values of any kind, and
# short ones of those are found everywhere by chance.
IDENTITY: Final = 6
_SHORTEST: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """What tells a service from another: the values of its identity, and more."""

    values: tuple[str | int, ...]

    @property
    def stack(self) -> str:
        """The stack's name."""
        return str(self.values[0])

    @property
    def service(self) -> str:
        """The service's name."""
        return str(self.values[2])

    def skeleton(self, text: str) -> str:
        """The text with placeholders where whole words are values of this row; longer ones are looked for first."""
        marks = self._marks()
        words = "|".join(re.escape(word) for word in sorted(marks, key=lambda word: (-len(word), word)))
        return re.sub(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", lambda found: marks[found[0]], text)

    def expand(self, skeleton: str) -> str:
        """The text that this row makes of a skeleton; a placeholder beyond its columns stays."""
        texts = self._texts()
        return _MARK.sub(lambda found: texts.get(found[0], found[0]), skeleton)

    def _texts(self) -> dict[str, str]:
        first = (int(self.values[1]) - facts.UID_BASE) * facts.SUBID_SIZE
        columns = {chr(_COLUMN + number): str(value) for number, value in enumerate(self.values)}
        return {**columns, _FIRST_SUBID: str(first), _LAST_SUBID: str(first + facts.SUBID_SIZE - 1)}

    def _marks(self) -> dict[str, str]:
        """Value -> placeholder. Of two equal values the first column counts."""
        found: dict[str, str] = {}
        for mark, text in self._texts().items():
            if text and (ord(mark) < _COLUMN + IDENTITY or len(text) >= _SHORTEST):
                found.setdefault(text, mark)
        return found


def columns(skeleton: str) -> int:
    """How many columns of a row a skeleton needs."""
    numbers = [_UID if mark in _EXPRESSIONS else ord(mark) - _COLUMN for mark in _MARK.findall(skeleton)]
    return max(numbers, default=-1) + 1


def jinja(skeleton: str) -> str:
    """A skeleton as part of a Jinja template, in a loop over rows `r`; text without placeholders stands for itself."""
    escaped = _BRACE.sub("{{'{'}}", skeleton)
    return _MARK.sub(lambda found: f"{{{{{_expression(found[0])}}}}}", escaped)


def _expression(mark: str) -> str:
    return _EXPRESSIONS.get(mark) or f"r.{ord(mark) - _COLUMN}"
