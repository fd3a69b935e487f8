"""`er server secret …`. A value never stands in a command line, a file of er's, or a log."""

from __future__ import annotations

import base64
import getpass
import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, Stack, remote
from builder.problems import UserError

Name = Annotated[str, typer.Argument(metavar="NAME", help="The secret's name, as the Compose file has it.")]


def set_(
    host: Host,
    stack: Stack,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="The secret's name.")] = None,
    *,
    many: Annotated[
        bool, typer.Option("--from-stdin", help="Set all NAME=value lines of stdin, as an env file has them, or none.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Take the value from a file.")] = None,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Set a secret of a stack: from a prompt, a file, or stdin; or many at once. Their services restart once."""
    if many == (name is not None) or (many and file is not None):
        raise typer.BadParameter("give the NAME of one secret, or --from-stdin alone")
    values = parsed(sys.stdin.buffer.read()) if name is None else {name: _value(name, file)}
    _check_names(values)
    encoded = {one: base64.b64encode(value).decode() for one, value in values.items()}
    done: dict[str, Any] = remote(host, ssh).ask("secret-set", stack, stdin=json.dumps(encoded).encode())
    if as_json:
        output.json(done if many else {**done["set"][0], "restarted": done["restarted"]})
        return 0
    for one in done["set"]:
        output.note(f"{stack}: {one['name']} is {'replaced' if one['replaced'] else 'set'}")
    _note_restarts(stack, done["restarted"], "it" if len(values) == 1 else "them")
    return 0


def _note_restarts(stack: str, services: list[str], what: str) -> None:
    output.note(f"{stack}: restarted: {', '.join(services) or f'nothing, no service names {what}'}")


def _check_names(values: dict[str, bytes]) -> None:
    """All of them, before anything is sent."""
    from builder.stack.model import SECRET_NAME

    if wrong := [name for name in values if not re.fullmatch(SECRET_NAME, name)]:
        hint = "letters, digits, `.`, `_` and `-`, as in db_password"
        raise UserError(f"not the name of a secret: {', '.join(map(repr, wrong))}; nothing was set", hint)


# A line that is one: a name, and a value as it stands, but for quotes around all of it.
_LINE: Final = re.compile(r"\s*(?:export\s+)?([^\s=#]+)\s*=[ \t]*(.*?)[ \t]*")
_QUOTED: Final = re.compile(r"""(['"])(.*)\1""")


def parsed(content: bytes) -> dict[str, bytes]:
    """The secrets of lines of NAME=value: comments and empty lines are none, quotes around a value are not part of it.

    Nothing is filled in for `$`, and a `#` in a value is part of it. Raises UserError with the numbers of all lines
    that are wrong, never with what stands there.
    """
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(
            "stdin is not UTF-8 text, nothing was set", "a binary value goes alone: NAME --file FILE"
        ) from None
    found: dict[str, bytes] = {}
    wrong = [number for number, line in enumerate(lines, 1) if not _add(line, found)]
    if wrong:
        numbers = ", ".join(map(str, wrong))
        hint = "each line is NAME=value, each name once; a value of several lines goes alone: NAME --file FILE"
        raise UserError(f"no NAME=value, or a second one of a name, in line {numbers}; nothing was set", hint)
    if not found:
        raise UserError("no NAME=value came on stdin, nothing was set", "as in: --from-stdin <secrets.env")
    return found


def _add(line: str, found: dict[str, bytes]) -> bool:
    """Add what a line sets; False for one that cannot be used."""
    if not line.strip() or line.lstrip().startswith("#"):
        return True
    match = _LINE.fullmatch(line)
    if match is None or not match[2] or match[1] in found:
        return False
    quoted = _QUOTED.fullmatch(match[2])
    found[match[1]] = (quoted[2] if quoted else match[2]).encode()
    return True


def generate(
    host: Host,
    stack: Stack,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Only these; else all that are missing.")
    ] = None,
    *,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Give each missing secret of a stack a random value, made on the server; what is set stays."""
    done: dict[str, Any] = remote(host, ssh).ask("secret-generate", stack, *(names or ()))
    if as_json:
        output.json(done)
        return 0
    if done["kept"]:
        output.note(f"{stack}: kept as they are: {', '.join(done['kept'])}")
    output.note(f"{stack}: generated: {', '.join(done['generated']) or 'nothing, none is missing'}")
    if done["generated"]:
        _note_restarts(stack, done["restarted"], "them")
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
