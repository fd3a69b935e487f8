"""The same cloud-config with what its stacks have in common written once, as a Jinja template.

cloud-init renders user-data that begins with `## template: jinja` before it reads it, so nothing on the host has to
know. Deflate alone spends several bytes on every place where two stacks differ; here they differ in a row of a table.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.userdata.cloudconfig import PARTS, entry_text, head_and_tail

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.host import File, Host
    from builder.spec import Spec
    from builder.stack.model import Service
    from builder.userdata.cloudconfig import On


_HEADER: Final = "## template: jinja\n"


def shared(spec: Spec, host: Host, on: On) -> bytes:
    """The template, in ASCII. Rendered it is the cloud-config, with the files of the stacks after the others."""
    head, tail = head_and_tail(spec, ascii_only=True)
    files = host.only(*PARTS[on])
    rows = [Row((stack.name, stack.uid, *_values(service))) for stack in spec.stacks for service in stack.services]
    own = [entry_text(file, ascii_only=True) for file in files if not file.stack]
    patterns = _patterns([file for file in files if file.stack], rows)
    alone = [rows[numbers[0]].expand(pattern) for pattern, numbers in patterns.items() if len(numbers) == 1]
    many = {pattern: numbers for pattern, numbers in patterns.items() if len(numbers) > 1}
    text = "".join([_HEADER, _table(rows, many), _jinja("".join([head, *own, *alone])), *_loops(many, len(rows)), tail])
    return text.encode("ascii")


def _values(service: Service) -> tuple[str | int, ...]:
    domain = service.domains[0] if service.domains else ""
    return service.name, service.port, service.image, domain, *(value for _, value in service.environment)


def _patterns(files: Sequence[File], rows: Sequence[Row]) -> dict[str, list[int]]:
    """The stacks' files with placeholders for the values of rows: for each pattern the rows that make a file of it."""
    patterns: dict[str, list[int]] = {}
    services: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        services.setdefault(row.stack, []).append(number)
    for file in files:
        number = _service(file.path, services[file.stack], rows)
        pattern = _pattern(entry_text(file, ascii_only=True), rows[number], patterns)
        patterns.setdefault(pattern, []).append(number)
    return patterns


def _service(path: str, numbers: Sequence[int], rows: Sequence[Row]) -> int:
    """Which of a stack's rows a file belongs to, by its path; a file of the whole stack to the first."""
    end = path.rsplit("/", 2)[-1]
    named = [number for number in numbers if rows[number].service in end]
    return max(named, key=lambda number: len(rows[number].service), default=numbers[0])


def _pattern(text: str, row: Row, known: Mapping[str, Sequence[int]]) -> str:
    """The text with placeholders for the row's values, or a known pattern that the row expands to the same text.

    The latter differs where a value stands in the text by chance.
    """
    pattern = row.pattern(text)
    if pattern in known:
        return pattern
    return next((one for one in known if row.expand(one) == text), pattern)


def _table(rows: Sequence[Row], patterns: Mapping[str, Sequence[int]]) -> str:
    """The rows as a Jinja list, in Python's literals; each is as wide as its patterns need."""
    widths = [0] * len(rows)
    for pattern, numbers in patterns.items():
        for number in numbers:
            widths[number] = max(widths[number], _columns(pattern))
    lines = (",".join(map(ascii, row.values[:width])) for row, width in zip(rows, widths, strict=True))
    return "{% set d=[\n" + "".join(f"[{line}],\n" for line in lines) + "] %}\n"


def _loops(patterns: Mapping[str, Sequence[int]], count: int) -> Iterator[str]:
    """A Jinja loop for each set of rows, with the items of write_files that these rows make."""
    loops: dict[str, list[str]] = {}
    for pattern, numbers in patterns.items():
        loops.setdefault(_members(sorted(numbers), count), []).append(_jinja(pattern))
    for members, texts in loops.items():
        yield f"{{% for r in {members} %}}\n{''.join(texts)}{{% endfor %}}\n"


def _members(numbers: Sequence[int], count: int) -> str:
    """A Jinja expression for some of `count` rows, in order: a slice of the table where it is one."""
    first, last = numbers[0], numbers[-1]
    if list(numbers) == list(range(first, last + 1)):
        return "d" if len(numbers) == count else f"d[{first}:{last + 1}]"
    return "[" + ",".join(f"d[{number}]" for number in numbers) + "]"


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
# Columns of the identity: stack, uid, service, port, image, domain. After them come values of any kind, of which short
# ones stand everywhere by chance.
_IDENTITY: Final = 6
_SHORTEST: Final = 4


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one service: its identity, then those of its environment."""

    values: tuple[str | int, ...]

    @property
    def stack(self) -> str:
        """The stack's name."""
        return str(self.values[0])

    @property
    def service(self) -> str:
        """The service's name."""
        return str(self.values[2])

    def pattern(self, text: str) -> str:
        """The text with placeholders where whole words are values of this row; longer ones are looked for first."""
        marks = self._marks()
        words = "|".join(re.escape(word) for word in sorted(marks, key=lambda word: (-len(word), word)))
        return re.sub(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", lambda found: marks[found[0]], text)

    def expand(self, pattern: str) -> str:
        """The text that this row makes of a pattern; a placeholder beyond its columns stays."""
        texts = self._texts()
        return _MARK.sub(lambda found: texts.get(found[0], found[0]), pattern)

    def _texts(self) -> dict[str, str]:
        first = (int(self.values[1]) - facts.UID_BASE) * facts.SUBID_SIZE
        columns = {chr(_COLUMN + number): str(value) for number, value in enumerate(self.values)}
        return {**columns, _FIRST_SUBID: str(first), _LAST_SUBID: str(first + facts.SUBID_SIZE - 1)}

    def _marks(self) -> dict[str, str]:
        """Value -> placeholder. Of two equal values the first column counts."""
        found: dict[str, str] = {}
        for mark, text in self._texts().items():
            if text and (ord(mark) < _COLUMN + _IDENTITY or len(text) >= _SHORTEST):
                found.setdefault(text, mark)
        return found


def _columns(pattern: str) -> int:
    """How many columns of a row a pattern needs."""
    numbers = [_UID if mark in _EXPRESSIONS else ord(mark) - _COLUMN for mark in _MARK.findall(pattern)]
    return max(numbers, default=-1) + 1


def _jinja(pattern: str) -> str:
    """A pattern as Jinja in a loop over rows `r`. Text without placeholders renders to itself."""
    escaped = _BRACE.sub("{{'{'}}", pattern)
    return _MARK.sub(lambda found: f"{{{{{_expression(found[0])}}}}}", escaped)


def _expression(mark: str) -> str:
    return _EXPRESSIONS.get(mark) or f"r.{ord(mark) - _COLUMN}"
