"""Talk to the user, on stderr; and data, on stdout. Only printable text comes out, whoever it is from."""

from __future__ import annotations

import errno
import json
import sys
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, TextIO

import rich.console
from rich.segment import Segment

from builder import files, problem_report
from builder.problem_report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import ConsoleOptions, RenderableType
    from rich.table import Table

    from builder.problems import Problem, UserError


class _Say:
    """Lazy: rich is imported only where something is said."""

    @cached_property
    def console(self) -> Console:

        return Console(stderr=True, highlight=False, soft_wrap=True)

    def problems(self, problems: Iterable[Problem]) -> None:
        """Print problems with their places."""
        found = tuple(problems)
        if found:
            problem_report.problems(found, self.console)

    def failure(self, message: str, hint: str | None = None) -> None:
        """Print one error and its way out."""
        self.console.print("[bold red]error:[/] ", end="")
        self.console.print(message, markup=False)
        if hint:
            self.console.print(f"hint: {hint}", markup=False)

    def missing(self, lacking: Iterable[UserError]) -> None:
        """Print what a dry run did without and the real one would not."""
        for error in lacking:
            self.console.print(f"missing: {error.message}", markup=False)
            if error.hint:
                self.console.print(f"hint: {error.hint}", markup=False)

    def note(self, message: str) -> None:
        """Print a line of talk."""
        self.console.print(message, markup=False)

    def json(self, value: object) -> None:
        """Write a value to stdout as JSON."""
        text = json.dumps(value, indent=2, ensure_ascii=False)
        seen = (char if char == "\n" or char.isprintable() else json.dumps(char)[1:-1] for char in text)
        self.text("".join(seen) + "\n")

    def text(self, text: str) -> None:
        """Write text to stdout, as it comes. Raises OutputError when it cannot be written."""
        with self._stdout() as stdout:
            stdout.write(problem_report.printable(text, keep="\n\t"))

    def table(self, table: Table) -> None:
        """Write a table to stdout, a blank line after it; as wide as the terminal, or as it needs elsewhere."""

        with self._stdout() as stdout:
            width = None if stdout.isatty() else 200
            Console(file=stdout, highlight=False, width=width).print(table, "", sep="\n")

    def data(self, content: bytes) -> None:
        """Write the user's own bytes to stdout as they are. Raises OutputError when they cannot be written."""
        with self._stdout() as stdout:
            stdout.buffer.write(content)

    @contextmanager
    def _stdout(self) -> Iterator[TextIO]:
        """All of it is out at the end of the block: a full disk is found out here, and not at exit."""
        with files.explained(files.STDOUT):
            if sys.stdout is None:
                raise OSError(errno.EBADF, "")
            yield sys.stdout
            sys.stdout.flush()


say = _Say()


class Console(rich.console.Console):
    """Rich's own control segments move the cursor of a spinner; every other segment is text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Rich renders it, each text made printable."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n"), style, control)
