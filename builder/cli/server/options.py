"""What the server commands have in common."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import typer
from rich.table import Table

from builder.problem_report import printable
from builder.server import Remote

Host = Annotated[str, typer.Argument(metavar="HOST", help="As ssh takes it: user@address, or a Host of its config.")]
SshOptions = Annotated[
    list[str] | None,
    typer.Option("--ssh-option", "-o", metavar="KEY=VALUE", help="An option for ssh, as ssh -o takes it; repeatable."),
]
Stack = Annotated[str, typer.Argument(metavar="STACK", help="The name of a stack.")]
Service = Annotated[str, typer.Argument(metavar="SERVICE", help="One service of it; without, all of them.")]


def remote(host: str, options: list[str] | None) -> Remote:
    """The host behind the words of the command line."""
    words = [word for option in options or () for word in ("-o", option)]
    return Remote(host, tuple(words))


_TIMES: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
_SIZES: Final = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def duration(seconds: int) -> str:
    """The two largest units: 90 is 1 min 30 s."""
    parts: list[str] = []
    for size, unit in _TIMES:
        if seconds >= size and len(parts) < 2:
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
        elif parts:
            break
    return " ".join(parts) or "0 s"


def size(count: int | None) -> str:
    """Bytes in binary units; nothing when unknown."""
    if count is None:
        return ""
    for unit, name in _SIZES:
        if count >= unit:
            return f"{count / unit:.1f} {name}" if count < 10 * unit else f"{count / unit:.0f} {name}"
    return f"{count} B"


class _Rows(Table):
    """Cells are made printable before they are measured: what a terminal obeys has no width."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(printable(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def table(*columns: str) -> Table:
    """An empty table; a column that starts with > holds numbers. On a narrow terminal the first column stays whole."""
    rows = _Rows(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        justify: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        rows.add_column(column.removeprefix(">"), justify=justify, no_wrap=number == 0)
    return rows
