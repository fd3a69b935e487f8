"""`er explain`: every hardening setting of a host, its reason and the audit that asks for it; and what is left out."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import output
from builder.cli.options import AsJson

if TYPE_CHECKING:
    from builder.host.hardening import Setting

NAME = "explain"


def command(
    what: Annotated[
        str | None, typer.Argument(metavar="[ID|FILE]", help="A setting, a file of the host, or an audit's id.")
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Say how every host is hardened: the file, the line, the reason, and the CIS, SSG or Lynis id it answers.

    What an audit asks for and no host has stands at the end, with the reason.
    """
    from builder.host import hardening

    rows = hardening.rows() if what is None else hardening.find(what)
    if as_json:
        output.json([asdict(row) for row in rows])
        return 0
    for number, (file, group) in enumerate(groupby(rows, key=lambda row: row.file)):
        output.text(f"{chr(10) if number else ''}{file}\n{''.join(map(_lines, group))}")
    return 0


def _lines(row: Setting) -> str:
    answers = f"  ({', '.join(row.answers)})" if row.answers else ""
    return f"  {row.id}: {row.line}\n      {row.why}{answers}\n"
