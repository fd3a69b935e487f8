"""`er server doctor`: pass or fail with a remedy each."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote


def command(
    host: Host,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can safely be mended.")] = False,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Examine a server: each check passes or says what to do; 1 when one fails."""
    found: list[dict[str, Any]] = remote(host, ssh).ask("doctor", *(["fix"] if fix else []), timeout=900)
    if as_json:
        output.json(found)
    else:
        _show(found, fix=fix)
    return 0 if all(one["ok"] for one in found) else 1


def _show(found: list[dict[str, Any]], *, fix: bool) -> None:
    rows = output.new_table("", "check", "what is wrong, or good to know")
    for one in found:
        rows.add_row(
            "FIXED" if one["fixed"] else "ok" if one["ok"] else "FAIL", one["check"], one["wrong"] or one["note"]
        )
    output.table(rows)
    for one in found:
        if one["remedy"]:
            output.note(f"{one['check']}: {one['remedy']}")
    if not fix and any(one["fixable"] for one in found):
        output.note("some of it mends itself with --fix")
