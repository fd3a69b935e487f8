"""What `er` prints: notes and errors on stderr; data, JSON and tables on stdout.

Only printable text comes out, whoever it is from: a container, a server's console, a file name.
"""

from __future__ import annotations

import errno
import sys
from contextlib import contextmanager
from json import dumps
from typing import TYPE_CHECKING, Any, Literal, TextIO

import rich.console
from rich.segment import Segment
from rich.table import Table

from builder import files, problem_report, quantities
from builder.problem_report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType

    from builder.problems import Problem, UserError


class Console(rich.console.Console):
    """Rich's own control segments move the cursor of a spinner; every other segment is text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Rich renders it, each text made printable."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n"), style, control)


duration, size = quantities.duration, quantities.size

# It looks sys.stderr up each time it prints. Without emoji, as `:x:` is part of a port or a mount.
console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def note(message: str, style: str = "") -> None:
    """Print a line to stderr."""
    console.print(message, style=style, markup=False)


def prompt(question: str) -> None:
    """Print a question to stderr; the cursor stays behind it."""
    console.print(question, end="", markup=False)


def failure(message: str, hint: str | None = None) -> None:
    """Print one error and its way out to stderr."""
    console.print("[bold red]error:[/] ", end="")
    console.print(message, markup=False)
    if hint:
        console.print(f"hint: {hint}", markup=False)


def problems(found: Iterable[Problem]) -> None:
    """Print problems with their places to stderr."""
    if listed := tuple(found):
        problem_report.print_problems(listed, console)


def missing(errors: Iterable[UserError]) -> None:
    """Print to stderr what a dry run did without and the real one would not."""
    for error in errors:
        console.print(f"missing: {error.message}", markup=False)
        if error.hint:
            console.print(f"hint: {error.hint}", markup=False)


def data(content: bytes) -> None:
    """Write the user's own bytes to stdout as they are. Raises OutputError when they cannot be written."""
    with _stdout() as stdout:
        stdout.buffer.write(content)


def text(content: str) -> None:
    """Write text to stdout, as it comes. Raises OutputError when it cannot be written."""
    with _stdout() as stdout:
        stdout.write(printable(content, keep="\n\t"))


def json(value: object) -> None:
    """Write a value to stdout as JSON."""
    encoded = dumps(value, indent=2, ensure_ascii=False)
    escaped = (char if char == "\n" or char.isprintable() else dumps(char)[1:-1] for char in encoded)
    text("".join(escaped) + "\n")


def table(rows: Table) -> None:
    """Write a table to stdout, a blank line after it; as wide as the terminal, or as it needs elsewhere."""
    with _stdout() as stdout:
        width = None if stdout.isatty() else 200
        Console(file=stdout, highlight=False, markup=False, emoji=False, width=width).print(rows, "", sep="\n")


@contextmanager
def _stdout() -> Iterator[TextIO]:
    """All of it is out at the end of the block: a full disk is found out here, and not at exit."""
    with files.explained(files.STDOUT):
        if sys.stdout is None:
            raise OSError(errno.EBADF, "")
        yield sys.stdout
        sys.stdout.flush()


def new_table(*columns: str) -> Table:
    """An empty table; a column that starts with > holds numbers. On a narrow terminal the first column stays whole."""
    rows = _PrintableTable(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        rows.add_column(column.removeprefix(">"), justify=justify, no_wrap=number == 0)
    return rows


class _PrintableTable(Table):
    """Cells are made printable before they are measured: what a terminal obeys has no width."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)
