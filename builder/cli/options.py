"""Arguments and options that several commands take, and what they stand for: a spec, a host."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer

from builder.cli import output
from builder.problems import UserError
from builder.server import Remote
from builder.server.deploy_login import DeployLogin, Login, is_deploy

if TYPE_CHECKING:
    from builder.spec import Spec

    Shared = TypeVar("Shared", bound=Remote | DeployLogin)

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The YAML file that describes the host.")]
# The name is text, not a Path: a slash at its end says that a directory is meant.
OutputFile = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write here, not to stdout; - is stdout."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write the result to stdout as JSON.")]
Host = Annotated[str, typer.Argument(metavar="HOST", help="As ssh takes it: user@address, or a Host of its config.")]
SshOptions = Annotated[
    list[str] | None,
    typer.Option("--ssh-option", "-o", metavar="KEY=VALUE", help="An option for ssh, as ssh -o takes it; repeatable."),
]
Stack = Annotated[str, typer.Argument(metavar="STACK", help="The name of a stack.")]
Service = Annotated[str, typer.Argument(metavar="SERVICE", help="One service of it; without, all of them.")]


AT_END: Final = ExitStack()
"""What is closed at the end of the command."""


def load(path: Path) -> Spec:
    """The spec of a file; its warnings go to stderr, its errors are raised together as SpecError."""
    from builder import spec as specs

    spec, warnings = specs.load(path)
    output.problems(warnings)
    return spec


def restoring(spec: Spec) -> Spec:
    """The spec of a machine that takes over from one that is gone. Raises UserError where nothing was backed up."""
    if spec.backup is None:
        raise UserError("the spec has no backup, so there is nothing to restore from", "write `backup: {to: …}`")
    return replace(spec, backup=replace(spec.backup, restores=True))


def shared(server: Shared) -> Shared:
    """The same host, with one connection for all questions of this command; the command's end closes it."""
    from builder.server import connection

    return AT_END.enter_context(connection.shared(server))


def asking(host: str, ssh_options: list[str] | None) -> Login:
    """The same, or for `deploy@` the login of those who may only deploy, which some commands can do with."""
    found = remote(host, ssh_options)
    return DeployLogin(host, found.options) if is_deploy(host) else found


def remote(host: str, ssh_options: list[str] | None) -> Remote:
    """The host that HOST and the values of --ssh-option name."""
    return Remote(host, tuple(word for option in ssh_options or () for word in ("-o", option)))
