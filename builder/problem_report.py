"""Problems as a person reads them, and as a machine does."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

from builder.yamlfile.places import split_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from rich.console import Console
    from rich.text import Text

    from builder.problems import Mark, Problem, UserError

_STYLES: Final = {"error": "bold red", "warning": "bold yellow"}
_WIDEST: Final = 160
_TAB: Final = "\t"
_HIDDEN: Final = "********"
_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_END: Final = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_BODY: Final = re.compile(r"[\s\"'-]*[A-Za-z0-9+/=\\]+[\s\"',\]]*|\s*(Proc-Type|DEK-Info): .*|\s*")
_LOOSE_KEY: Final = re.compile(r"(?:b3BlbnNzaC1rZXktdjE|MII)[A-Za-z0-9+/=\\]{20,}")
_SECRET: Final = re.compile(
    r"""(?P<name>[A-Z0-9_-]*
        (?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|(?:API|ACCESS|PRIVATE|ENCRYPTION)_?KEY)
        [A-Z0-9_-]*["']?\s*[:=]\s*)
    (?P<value>"(?:[^"\\]|\\.)*"? | '[^']*'? | [^\s#\[{|>&*"'][^,}\]]*)""",
    re.VERBOSE | re.IGNORECASE,
)

_Page = list[tuple[str, bool]]  # lines, and whether each is inside a private key


def print_problems(found: Iterable[Problem], console: Console | None = None) -> None:
    """Print problems in order of place, with the lines they stand on; to stderr unless told otherwise."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed only when there is talk

    out = console or Console(stderr=True, highlight=False)
    for text in _blocks(found):
        out.print(text, soft_wrap=True, highlight=False)


def as_text(found: Iterable[Problem]) -> str:
    """The same as plain text."""
    from rich.console import Console  # noqa: PLC0415

    stream = io.StringIO()
    print_problems(found, Console(file=stream, force_terminal=False, no_color=True, width=_WIDEST))
    return stream.getvalue()


def missing(lacking: Iterable[UserError]) -> list[dict[str, str | None]]:
    """What a dry run did without and the real one would not, as plain values for JSON."""
    return [{"what": error.message, "hint": error.hint} for error in lacking]


def as_json(found: Iterable[Problem]) -> list[dict[str, Any]]:
    """Problems in order of place as JSON values."""
    return [
        {
            "severity": problem.severity,
            "where": problem.where,
            "message": _hide_keys(problem.message),
            "hint": _hide_keys(problem.hint) if problem.hint else None,
            "file": str(problem.mark.file) if problem.mark else None,
            "line": problem.mark.line if problem.mark else None,
            "column": problem.mark.column if problem.mark else None,
            "length": problem.mark.length if problem.mark else None,
        }
        for problem in in_order(found)
    ]


def in_order(found: Iterable[Problem]) -> tuple[Problem, ...]:
    """By file, as the files come up first; by line and column in each; what has no place comes first."""
    given = tuple(found)
    files = list(dict.fromkeys(problem.mark.file for problem in given if problem.mark))

    def place(problem: Problem) -> tuple[int, int, int]:
        mark = problem.mark
        return (-1, 0, 0) if mark is None else (files.index(mark.file), mark.line, mark.column)

    return tuple(sorted(given, key=place))


def _blocks(found: Iterable[Problem]) -> Iterator[Text]:
    pages: dict[Path, _Page] = {}
    for index, problem in enumerate(in_order(found)):
        mark = problem.mark
        if mark and mark.file not in pages:
            pages[mark.file] = _page(mark.file)
        yield _block(problem, pages[mark.file] if mark else [], first=index == 0)


def _block(problem: Problem, page: _Page, *, first: bool) -> Text:
    from rich.text import Text  # noqa: PLC0415

    where = f"{problem.where}: " if problem.where else ""
    text = Text("" if first else "\n")
    text.append(f"{problem.severity}:", style=_STYLES[problem.severity])
    text.append(f" {printable(_hide_keys(where + problem.message))}\n", style="bold")
    if problem.mark:
        mark = problem.mark
        text.append(f"  --> {printable(str(mark.file))}:{mark.line}:{mark.column}\n", style="cyan")
        for line in _excerpt(mark, page):
            text.append(f"{line}\n")
    if problem.hint:
        text.append("hint:", style="bold cyan")
        text.append(f" {printable(_hide_keys(problem.hint))}\n")
    text.right_crop(1)
    return text


def _excerpt(mark: Mark, page: _Page) -> Iterator[str]:
    """The line a problem stands on and the carets under it."""
    if not 1 <= mark.line <= len(page) or not page[mark.line - 1][0].strip():
        return
    line, inside = page[mark.line - 1]
    number, before, shown = (
        str(mark.line),
        _hide(line[: mark.column - 1], inside=inside),
        _hide(line, inside=inside),
    )
    if len(before) > _WIDEST - 20:
        before, shown = "…" + before[-20:], "…" + shown[len(before) - 20 :]
    marked = shown[len(before) : min(len(before) + mark.length, _WIDEST)]
    gap = "".join("\t" if char == "\t" else " " * _cells(char) for char in before)
    cut = "…" if len(shown) > _WIDEST else ""
    yield f"{number} | {printable(shown[:_WIDEST], keep=_TAB)}{cut}"
    yield f"{' ' * len(number)} | {gap}{'^' * max(_cells(marked), 1)}"


def _cells(text: str) -> int:
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(printable(text.replace("\t", " ")))


def printable(text: str, keep: str = "") -> str:
    """The text with what a terminal would obey, or hide, written out, but for the characters to keep."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _written_out(char) for char in text)


def _written_out(char: str) -> str:
    """As Python writes it: `\\x1b`, `\\u202e`, `\\U000e0001`."""
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _page(path: Path) -> _Page:
    """The lines of a file, with the bodies of private keys known: what is printed ends up in logs."""
    try:
        lines = split_lines(path.read_bytes().decode("utf-8-sig", "replace"))
    except OSError:
        return []
    page, inside = [], False
    for line in lines:
        inside = inside and bool(_KEY_BODY.fullmatch(line))
        page.append((line, inside))
        inside = (inside or bool(_BEGIN.search(line))) and not _END.search(line)
    return page


def _hide(line: str, *, inside: bool) -> str:
    """A line without what may be a secret."""
    if inside:
        body = line.lstrip()
        return line[: len(line) - len(body)] + (_HIDDEN if body else "")
    return _SECRET.sub(lambda match: match["name"] + _HIDDEN, _hide_keys(line))


def _hide_keys(text: str) -> str:
    """A text without private keys."""
    if begin := _BEGIN.search(text):
        return text[: begin.end()] + (_HIDDEN if text[begin.end() :].strip(" \"'") else "")
    return _LOOSE_KEY.sub(_HIDDEN, text)
