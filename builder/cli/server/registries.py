"""`er server registry …`. A password never stands in a command line, a file of er's, or a log."""

from __future__ import annotations

import base64
import getpass
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

OneStack = Annotated[str, typer.Option("--stack", metavar="NAME", help="Only this stack; proxy is the proxy.")]
# The server asks the registry once for each stack, and a registry that limits is asked for a minute.
_TIMEOUT: Final = 600


def login(
    host: Host,
    registry: Annotated[
        str, typer.Argument(metavar="REGISTRY", help="As the spec has it; without, the only one there.")
    ] = "",
    *,
    stack: OneStack = "",
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Take the password from a file.")] = None,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Set the password of a registry that the spec names, from a prompt, a file or stdin; the registry is asked first.

    Services that wait for an image of it start.
    """
    request = {"registry": registry, "stack": stack, "password": base64.b64encode(_password(registry, file)).decode()}
    done: dict[str, Any] = remote(host, ssh).ask("registry-login", stdin=json.dumps(request).encode(), timeout=_TIMEOUT)
    if as_json:
        output.json(done)
        return 0
    output.note(f"{', '.join(done['stacks'])}: logged in to {done['registry']} as {done['username']}")
    for name, services in done["restarted"].items():
        if services:
            output.note(f"{name}: started again: {', '.join(services)}")
    return 0


def _password(registry: str, file: Path | None) -> bytes:
    """A line end after it, as editors and echo leave one, is none of it."""
    if file is not None:
        return file.read_bytes().removesuffix(b"\n").removesuffix(b"\r")
    if sys.stdin.isatty():
        return getpass.getpass(f"password or token for {registry or 'the registry'}: ").encode()
    return sys.stdin.buffer.read().removesuffix(b"\n").removesuffix(b"\r")


_STATES: Final = {
    "set": "set",
    "missing": "MISSING",
    "other": "MISSING, set is another user's",
    "unnamed": "set, not in the spec",
}


def list_(host: Host, *, ssh: SshOptions = None, as_json: AsJson = False) -> int:
    """Show who is logged in where, and which logins of the spec are missing; 1 when one is."""
    found: list[dict[str, Any]] = remote(host, ssh).ask("registry-list")
    if as_json:
        output.json(found)
    else:
        rows = output.new_table("registry", "stack", "user", "password")
        for one in sorted(found, key=lambda one: one["registry"]):
            rows.add_row(one["registry"], one["stack"], one["username"], _password_state(one))
        output.table(rows)
        for line in _failed_renewals(found):
            output.note(line)
    return 1 if any(one["state"] in {"missing", "other"} for one in found) else 0


def _password_state(one: dict[str, Any]) -> str:
    if not one["by_role"]:
        return _STATES[one["state"]]
    good = one["state"] == "set"
    words = "by the server's role" if good else "MISSING, by the server's role"
    if one["until"]:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one["until"]))
        words += f", {'good until' if good else 'ended'} {when}"
    return words


def _failed_renewals(found: Iterable[dict[str, Any]]) -> Iterator[str]:
    for one in found:
        if one["said"]:
            yield f"{one['stack']}: asked last, AWS gave no new password for {one['registry']}: {one['said']}"


def logout(
    host: Host,
    registry: Annotated[str, typer.Argument(metavar="REGISTRY", help="As in the list.")],
    *,
    stack: OneStack = "",
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Forget the password of a registry: what runs goes on, and the next image from there is refused."""
    done: dict[str, Any] = remote(host, ssh).ask("registry-logout", registry, *([stack] if stack else []))
    if as_json:
        output.json(done)
    else:
        output.note(f"{', '.join(done['stacks'])}: logged out of {registry}")
    return 0


def way(host: str, registry: str, stack: str) -> str:
    """The command that logs one stack in."""
    return f"er server registry login {host} {registry} --stack {stack}"


def missing(host: str, found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """The logins of a list that are not there, in words, with the command to type."""
    for one in found:
        if one["state"] in {"missing", "other"}:
            yield _missing(host, one)


def _missing(host: str, one: dict[str, Any]) -> str:
    if one["by_role"]:
        why = f": {one['said']}" if one["said"] else ""
        again = f"it is asked again by itself, and by: er server doctor {host} --fix"
        return f"{one['stack']} has no login to {one['registry']} by the server's role{why}; {again}"
    command = way(host, one["registry"], one["stack"])
    return f"{one['stack']} has no login to {one['registry']} as {one['username']}; log in with: {command}"


def waits(host: str, stack: str, found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """What a stack lacks after a change, in words: passwords that only the user knows, and what its role gives not."""
    passwords = [one for one in found if not one["by_role"]]
    if passwords:
        ways = "; ".join(way(host, one["registry"], stack) for one in passwords)
        yield f"{stack} lacks a password that only you know: {ways}"
    yield from (_missing(host, one) for one in found if one["by_role"])


def refusals(host: str, stack: str, found: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Why services have no image, in words, with the way out; what only waits for a login is not said again."""
    for one in found:
        if not (one["waits"] and one["kind"] == "login"):
            yield f"{stack}/{one['service']} has no image: {_reason(host, stack, one)}"


def _reason(host: str, stack: str, one: dict[str, Any]) -> str:
    registry, command = one["registry"], way(host, one["registry"], stack)
    if one["kind"] == "absent":
        return f"{registry} has no {one['image']}: is the name right?"
    if one["kind"] == "unreachable":
        return f"{registry} cannot be reached: {one['said']}"
    if one["username"] is None:
        command = f"write registries: {{{registry}: {{username: …}}}}, then er server apply, then {command}"
    if one["kind"] == "login" and one["username"] is None:
        return f"{registry} refuses {one['image']} to who is not logged in; if it is there: {command}"
    if one["kind"] == "login":
        role = "the server's role; may it pull from this repository?"
        whom = role if one["by_role"] else f"{one['username']}; is the password still right? {command}"
        return f"{registry} refuses {one['image']} to {whom}"
    if one["username"] is not None and not one["waits"]:
        return f"{registry} limits how many images {one['username']} may fetch, and tells the server to wait"
    return f"{registry} limits how many images an address may fetch without a login; with one it gives more: {command}"
