"""What the server commands have in common."""

from __future__ import annotations

from typing import Annotated

import typer

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
