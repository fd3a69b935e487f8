"""The group of commands, in the order of their use."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

from builder.cli.server import apply, bans, doctor, firewall, logs, secret, status, units, verify

if TYPE_CHECKING:
    from collections.abc import Callable

NAME: Final = "server"
app = typer.Typer(name=NAME, help="Look after a running server, over ssh.", no_args_is_help=True, rich_markup_mode=None)

secrets = typer.Typer(name="secret", help="The secrets of a stack.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(secrets)

COMMANDS: Final[tuple[tuple[str, Callable[..., int]], ...]] = (
    ("status", status.command),
    ("doctor", doctor.command),
    ("verify", verify.command),
    ("apply", apply.command),
    ("logs", logs.command),
    ("restart", units.restart),
    ("stop", units.stop),
    ("start", units.start),
    ("fail2ban-status", bans.status),
    ("ban", bans.ban),
    ("unban", bans.unban),
    ("reapply-firewall", firewall.reapply),
)
SECRETS: Final[tuple[tuple[str, Callable[..., int]], ...]] = (
    ("set", secret.set_),
    ("list", secret.list_),
    ("rm", secret.rm),
)
