"""`er server secret …`. A value never stands in a command line, a file of er's, or a log."""

from __future__ import annotations

import base64
import getpass
import json
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote
from builder.problems import UserError

Stack = Annotated[
    str, typer.Argument(metavar="STACK", help="The name of a stack; none with --host.", show_default=False)
]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The secret's name, as the Compose file has it.", show_default=False)
]
OfHost = Annotated[
    bool, typer.Option("--host", help="A secret of the host itself, as backups need; no stack can read it.")
]


def set_(
    host: Host,
    stack: Stack = "",
    name: Name = "",
    *,
    of_host: OfHost = False,
    many: Annotated[
        bool, typer.Option("--from-stdin", help="Set all NAME=value lines of stdin, as an env file has them, or none.")
    ] = False,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Take the value from a file.")] = None,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Set a secret of a stack: from a prompt, a file, or stdin; or many at once. Their services restart once.

    With --host it is the host's own: HOST --host NAME.
    """
    stack, name = _place(stack, name, of_host=of_host)
    if many == bool(name) or (many and file is not None):
        raise typer.BadParameter("give the NAME of one secret, or --from-stdin alone")
    values = {name: given_value(name, file)} if name else parsed(sys.stdin.buffer.read())
    check_names(values)
    encoded = {one: base64.b64encode(value).decode() for one, value in values.items()}
    content = json.dumps(encoded).encode()
    if of_host:
        return _show_host_set(host, remote(host, ssh).ask("host-secret-set", stdin=content), as_json=as_json)
    done: dict[str, Any] = remote(host, ssh).ask("secret-set", stack, stdin=content)
    if as_json:
        output.json(done if many else {**done["set"][0], "restarted": done["restarted"], "asleep": done["asleep"]})
        return 0
    for one in done["set"]:
        output.note(f"{stack}: {one['name']} is {'replaced' if one['replaced'] else 'set'}")
    _note_restarts(stack, done, "it" if len(values) == 1 else "them")
    return 0


def _place(stack: str, name: str, *, of_host: bool) -> tuple[str, str]:
    """Stack and name of what follows HOST: with --host there is no stack, and the only word is the name."""
    if of_host and name:
        raise typer.BadParameter("a secret of the host is of no stack: HOST --host NAME")
    if not of_host and not stack:
        raise typer.BadParameter("whose secret is it? HOST STACK NAME, or HOST --host NAME")
    return ("", stack) if of_host else (stack, name)


# Without it nothing of a backup can be read, also not by whoever has the server.
_REPOSITORY_PASSWORD: Final = "restic-password"  # noqa: S105 - a name


def _show_host_set(host: str, done: dict[str, Any], *, as_json: bool) -> int:
    if as_json:
        output.json(done)
        return 0
    for one in done["set"]:
        output.note(f"the host: {one['name']} is {'replaced' if one['replaced'] else 'set'}")
    if any(one["name"] == _REPOSITORY_PASSWORD for one in done["set"]):
        output.note(
            f"keep {_REPOSITORY_PASSWORD} elsewhere too: when the server is gone, nothing opens its backups else"
        )
    for name in done["missing"]:
        output.note(f"still missing: er server secret set {host} --host {name}")
    return 0


def _note_restarts(stack: str, done: dict[str, Any], what: str) -> None:
    if asleep := done["asleep"]:
        output.note(f"{stack}: {', '.join(asleep)} reads {what} when it wakes")
    if done["restarted"] or not asleep:
        output.note(f"{stack}: restarted: {', '.join(done['restarted']) or f'nothing, no service names {what}'}")


def check_names(values: dict[str, bytes]) -> None:
    """All of them, before anything is sent."""
    from builder.stack.secret_references import SECRET_NAME

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
        _note_restarts(stack, done, "them")
    return 0


def given_value(name: str, file: Path | None) -> bytes:
    """A line end after a value that was typed or piped by echo is none of it; a file is taken as it is."""
    if file is not None:
        return file.read_bytes()
    if sys.stdin.isatty():
        value = getpass.getpass(f"{name}: ")
        if value != getpass.getpass("again: "):
            raise UserError("the two differ, nothing was set")
        return value.encode()
    return sys.stdin.buffer.read().removesuffix(b"\n")


def list_(
    host: Host, stack: Stack = "", *, of_host: OfHost = False, ssh: SshOptions = None, as_json: AsJson = False
) -> int:
    """Show which secrets a stack, or with --host the host, has and which it waits for; 1 when one is missing."""
    if bool(stack) == of_host:
        raise typer.BadParameter("whose secrets? HOST STACK, or HOST --host")
    if of_host:
        return _list_of_host(remote(host, ssh).ask("host-secret-list"), as_json=as_json)
    found: list[dict[str, Any]] = remote(host, ssh).ask("secret-list", stack)
    if as_json:
        output.json(found)
    else:
        rows = output.new_table("secret", "set", "used by")
        for one in found:
            rows.add_row(one["name"], one["updated"][:19] if one["set"] else "MISSING", ", ".join(one["services"]))
        output.table(rows)
    return 0 if all(one["set"] for one in found) else 1


def _list_of_host(found: list[dict[str, Any]], *, as_json: bool) -> int:
    if as_json:
        output.json(found)
    else:
        rows = output.new_table("secret of the host", "set", "used by")
        for one in found:
            since = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["since"])) if one["set"] else ""
            rows.add_row(one["name"], since or ("MISSING" if one["required"] else "not set"), one["used"])
        output.table(rows)
    return 0 if all(one["set"] for one in found if one["required"]) else 1


def rm(
    host: Host,
    stack: Stack = "",
    name: Name = "",
    *,
    of_host: OfHost = False,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Remove a secret of a stack, or with --host one of the host."""
    stack, name = _place(stack, name, of_host=of_host)
    if not name:
        raise typer.BadParameter("give the NAME of the secret")
    server = remote(host, ssh)
    done: dict[str, Any] = server.ask("host-secret-rm", name) if of_host else server.ask("secret-rm", stack or "", name)
    if as_json:
        output.json(done)
    elif of_host:
        output.note(f"the host: {name} is gone" + (f"; no {done['used']} without it" if done["required"] else ""))
    else:
        uses = f"; {', '.join(done['services'])} will not start again without it" if done["services"] else ""
        output.note(f"{stack}: {name} is gone{uses}")
    return 0
