"""Problems as text with the lines of the files, as JSON, and without secrets.

What is printed ends up in logs: passwords, tokens and private keys are hidden.
"""

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
# Columns of a line of a file that are shown.
_WIDEST: Final = 160
# The lines of a file, and whether each is inside a private key.
_Lines = list[tuple[str, bool]]


def print_problems(found: Iterable[Problem], console: Console | None = None) -> None:
    """Print problems in order of place, with the lines of the files they are in; to stderr without a console."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and needed only when something is printed

    out = console or Console(stderr=True, highlight=False)
    for text in _blocks(found):
        out.print(text, soft_wrap=True, highlight=False)


def as_text(found: Iterable[Problem]) -> str:
    """The same text without colours."""
    from rich.console import Console  # noqa: PLC0415

    stream = io.StringIO()
    print_problems(found, Console(file=stream, force_terminal=False, no_color=True, width=_WIDEST))
    return stream.getvalue()


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


def missing(errors: Iterable[UserError]) -> list[dict[str, str | None]]:
    """What a dry run did without and the real one would not, as JSON values."""
    return [{"what": error.message, "hint": error.hint} for error in errors]


def in_order(found: Iterable[Problem]) -> tuple[Problem, ...]:
    """By file in the order in which they first occur, then by line and column; problems without a place come first."""
    listed = tuple(found)
    files = list(dict.fromkeys(problem.mark.file for problem in listed if problem.mark))

    def position(problem: Problem) -> tuple[int, int, int]:
        mark = problem.mark
        return (-1, 0, 0) if mark is None else (files.index(mark.file), mark.line, mark.column)

    return tuple(sorted(listed, key=position))


def _blocks(found: Iterable[Problem]) -> Iterator[Text]:
    files: dict[Path, _Lines] = {}
    for index, problem in enumerate(in_order(found)):
        mark = problem.mark
        if mark and mark.file not in files:
            files[mark.file] = _read_lines(mark.file)
        yield _block(problem, files[mark.file] if mark else [], first=index == 0)


def _block(problem: Problem, lines: _Lines, *, first: bool) -> Text:
    from rich.text import Text  # noqa: PLC0415

    where = f"{problem.where}: " if problem.where else ""
    text = Text("" if first else "\n")
    text.append(f"{problem.severity}:", style=_STYLES[problem.severity])
    text.append(f" {printable(_hide_keys(where + problem.message))}\n", style="bold")
    if problem.mark:
        mark = problem.mark
        text.append(f"  --> {printable(str(mark.file))}:{mark.line}:{mark.column}\n", style="cyan")
        for line in () if problem.secret else _excerpt(mark, lines):
            text.append(f"{line}\n")
    if problem.hint:
        text.append("hint:", style="bold cyan")
        text.append(f" {printable(_hide_keys(problem.hint))}\n")
    text.right_crop(1)
    return text


def _excerpt(mark: Mark, lines: _Lines) -> Iterator[str]:
    """The line a problem is in and the carets under it."""
    if not 1 <= mark.line <= len(lines) or not lines[mark.line - 1][0].strip():
        return
    line, in_key = lines[mark.line - 1]
    number = str(mark.line)
    before, shown = _hide(line[: mark.column - 1], in_key=in_key), _hide(line, in_key=in_key)
    if len(before) > _WIDEST - 20:
        before, shown = "…" + before[-20:], "…" + shown[len(before) - 20 :]
    marked = shown[len(before) : min(len(before) + mark.length, _WIDEST)]
    gap = "".join("\t" if char == "\t" else " " * _cells(char) for char in before)
    shortened = printable(shown[:_WIDEST], keep="\t") + ("…" if len(shown) > _WIDEST else "")
    yield f"{number} | {shortened}"
    yield f"{' ' * len(number)} | {gap}{'^' * max(_cells(marked), 1)}"


def _cells(text: str) -> int:
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(printable(text.replace("\t", " ")))


def printable(text: str, keep: str = "") -> str:
    """The text with characters that a terminal would obey, or hide, written out; those of `keep` stay."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() or char in keep else _written_out(char) for char in text)


def _written_out(char: str) -> str:
    """As Python writes it: `\\x1b`, `\\u202e`, `\\U000e0001`."""
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_HIDDEN: Final = "********"
_BEGIN: Final = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----")
_END: Final = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY-----")
_KEY_BODY: Final = re.compile(r"[\s\"'-]*[A-Za-z0-9+/=\\]+[\s\"',\]]*|\s*(Proc-Type|DEK-Info): .*|\s*")
_LOOSE_KEY: Final = re.compile(r"(?:b3BlbnNzaC1rZXktdjE|MII)[A-Za-z0-9+/=\\]{20,}")
# What interpolation or the host puts in is no password yet.
_URL_PASSWORD: Final = re.compile(r"(://[^\s/@:]*:)[^\s/@{}$]+(?=@)")
_SECRET: Final = re.compile(
    r"""(?P<name>[A-Z0-9_-]*
        (?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIALS?|(?:API|ACCESS|PRIVATE|ENCRYPTION)_?KEY)
        [A-Z0-9_-]*["']?\s*[:=]\s*)
    (?P<value>"(?:[^"\\]|\\.)*"? | '[^']*'? | [^\s#\[{|>&*"'][^,}\]]*)""",
    re.VERBOSE | re.IGNORECASE,
)
# Users with their hashes in one line, where by mistake a password may stand.
_ACCOUNTS: Final = re.compile(r"(\bbasic_auth[\"']?\s*:\s*\{)[^}]*")


def _read_lines(path: Path) -> _Lines:
    """The lines of a file, and which of them are inside a private key; none of a file that cannot be read."""
    try:
        lines = split_lines(path.read_bytes().decode("utf-8-sig", "replace"))
    except OSError:
        return []
    found, in_key = [], False
    for line in lines:
        in_key = in_key and bool(_KEY_BODY.fullmatch(line))
        found.append((line, in_key))
        in_key = (in_key or bool(_BEGIN.search(line))) and not _END.search(line)
    return found


def _hide(line: str, *, in_key: bool) -> str:
    """A line without what may be a secret."""
    if in_key:
        body = line.lstrip()
        return line[: len(line) - len(body)] + (_HIDDEN if body else "")
    line = _ACCOUNTS.sub(rf"\1{_HIDDEN}", _hide_keys(line))
    return _SECRET.sub(lambda match: match["name"] + _HIDDEN, line)


def _hide_keys(text: str) -> str:
    """A text without private keys, and without passwords in URLs."""
    if begin := _BEGIN.search(text):
        return text[: begin.end()] + (_HIDDEN if text[begin.end() :].strip(" \"'") else "")
    return _URL_PASSWORD.sub(rf"\1{_HIDDEN}", _LOOSE_KEY.sub(_HIDDEN, text))
