"""Talk to the user, on stderr; and data, on stdout."""

from __future__ import annotations

import json
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from builder import present

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console
    from rich.table import Table

    from builder.problems import Problem


class _Say:
    """Lazy: rich is imported only where something is said."""

    @cached_property
    def console(self) -> Console:
        from rich.console import Console

        return Console(stderr=True, highlight=False, soft_wrap=True)

    def problems(self, problems: Iterable[Problem]) -> None:
        """Print problems with their places."""
        found = tuple(problems)
        if found:
            present.problems(found, self.console)

    def failure(self, message: str, hint: str | None = None) -> None:
        """Print one error and its way out."""
        self.console.print("[bold red]error:[/] ", end="")
        self.console.print(message, markup=False)
        if hint:
            self.console.print(f"hint: {hint}", markup=False)

    def note(self, message: str) -> None:
        """Print a line of talk."""
        self.console.print(message, markup=False)

    def json(self, value: object) -> None:
        """Write a value to stdout as JSON."""
        sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def text(self, text: str) -> None:
        """Write text to stdout."""
        sys.stdout.write(text)

    def table(self, table: Table) -> None:
        """Write a table to stdout, a blank line after it; as wide as the terminal, or as it needs elsewhere."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else 200
        Console(file=sys.stdout, highlight=False, width=width).print(table, "", sep="\n")

    def data(self, content: bytes) -> None:
        """Write bytes to stdout as they are."""
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


say = _Say()
