"""`er server exec`, `shell` and `run`: a command in a container of a stack, as if it ran here."""

from __future__ import annotations

import os
import re
import sys
from typing import Annotated, Final

import typer

from builder.cli import output
from builder.cli.options import Host, SshOptions, Stack, remote
from builder.problems import UserError

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="A service of it.")]
Words = Annotated[
    list[str],
    typer.Argument(metavar="CMD", help="After --: the command and its arguments, which no shell reads on the way."),
]
OwnWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="CMD", help="After --: instead of the service's own command; the image's entrypoint stays."),
]
User = Annotated[
    str, typer.Option("--user", "-u", metavar="USER[:GROUP]", help="A user of the image; else the service's own.")
]
Directory = Annotated[
    str, typer.Option("--workdir", "-w", metavar="DIR", help="A directory of the image; else the service's own.")
]
Variables = Annotated[
    list[str] | None,
    typer.Option("--env", "-e", metavar="NAME", help="A variable with the value that it has here; repeatable."),
]


def exec_(
    host: Host,
    stack: Stack,
    service: Service,
    command: Words,
    *,
    user: User = "",
    workdir: Directory = "",
    env: Variables = None,
    ssh: SshOptions = None,
) -> int:
    """Run a command in the running container of a service; its exit code is the command's."""
    return _session("exec", host, stack, service, command, user=user, workdir=workdir, env=env, ssh=ssh)


def shell(
    host: Host,
    stack: Stack,
    service: Service,
    *,
    user: User = "",
    workdir: Directory = "",
    env: Variables = None,
    ssh: SshOptions = None,
) -> int:
    """Open a shell in the running container of a service: bash, sh or ash."""
    return _session("shell", host, stack, service, [], user=user, workdir=workdir, env=env, ssh=ssh)


def run(
    host: Host,
    stack: Stack,
    service: Service,
    command: OwnWords = None,
    *,
    user: User = "",
    workdir: Directory = "",
    env: Variables = None,
    ssh: SshOptions = None,
) -> int:
    """Run a command in a new container of a service, which is removed afterwards."""
    return _session("run", host, stack, service, command or [], user=user, workdir=workdir, env=env, ssh=ssh)


def _session(
    action: str,
    host: str,
    stack: str,
    service: str,
    command: list[str],
    *,
    user: str,
    workdir: str,
    env: list[str] | None,
    ssh: list[str] | None,
) -> int:
    request = {
        "action": action,
        "stack": stack,
        "service": service,
        "command": command,
        "env": {name: value(name) for name in env or ()},
        "user": user,
        "workdir": workdir,
    }
    remote(host, ssh).session(request, tty=sys.stdin.isatty() and sys.stdout.isatty(), woken=_note_woken)


def _note_woken(services: list[str]) -> None:
    output.note(f"{', '.join(services)} was asleep: it is awake as long as this runs")


_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")


def value(name: str) -> str:
    """The value of a variable of this process. Raises UserError where Podman could not take it."""
    if not _NAME.fullmatch(name):
        plain, equals, _ = name.partition("=")
        raise UserError(
            f"-e {plain}: only the name is given, the value comes from your environment"
            if equals
            else f"-e {name}: this is no name of a variable",
            f"export {plain}=…, then: -e {plain}" if equals else "letters, digits and _",
        )
    if name not in os.environ:
        raise UserError(f"-e {name}: it is not set here", f"export {name}=…, and try again")
    found = os.environ[name]
    if "\n" in found or "\r" in found:
        raise UserError(
            f"-e {name}: its value has a line end, which Podman cannot take", "give it to the command by stdin"
        )
    return found
