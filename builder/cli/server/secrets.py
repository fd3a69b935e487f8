"""`er server secret set`, `list` and `rm`. A value never stands in a command line, a file of er's, or a log."""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, Stack, remote
from builder.problems import UserError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name, as the Compose file has it.")]


def set_(
    host: Host,
    stack: Stack,
    name: Name,
    *,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Take the value from a file.")] = None,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Set a secret of a stack: from a prompt, a file, or stdin; its services restart with it."""
    done: dict[str, Any] = remote(host, ssh).ask("secret-set", stack, name, stdin=_value(name, file))
    if as_json:
        output.json(done)
    else:
        what = "replaced" if done["replaced"] else "set"
        output.note(
            f"{stack}: {name} is {what}; restarted: {', '.join(done['restarted']) or 'nothing, no service names it'}"
        )
    return 0


def _value(name: str, file: Path | None) -> bytes:
    """A line end after a value that was typed or piped by echo is none of it; a file is taken as it is."""
    if file is not None:
        return file.read_bytes()
    if sys.stdin.isatty():
        value = getpass.getpass(f"{name}: ")
        if value != getpass.getpass("again: "):
            raise UserError("the two differ, nothing was set")
        return value.encode()
    return sys.stdin.buffer.read().removesuffix(b"\n")


def list_(host: Host, stack: Stack, *, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Show which secrets a stack has and which it waits for; 1 when one is missing."""
    found: list[dict[str, Any]] = remote(host, ssh).ask("secret-list", stack)
    if as_json:
        output.json(found)
    else:
        rows = output.new_table("secret", "set", "used by")
        for one in found:
            rows.add_row(one["name"], one["updated"][:19] if one["set"] else "MISSING", ", ".join(one["services"]))
        output.table(rows)
    return 0 if all(one["set"] for one in found) else 1


def rm(host: Host, stack: Stack, name: Name, *, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Remove a secret of a stack."""
    done: dict[str, Any] = remote(host, ssh).ask("secret-rm", stack, name)
    if as_json:
        output.json(done)
    else:
        uses = f"; {', '.join(done['services'])} will not start again without it" if done["services"] else ""
        output.note(f"{stack}: {name} is gone{uses}")
    return 0
