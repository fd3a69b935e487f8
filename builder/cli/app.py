"""The typer application: the commands in the order of their use, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder import __version__
from builder.cli import (
    build_image,
    check,
    check_image,
    deploy,
    destroy,
    diagram,
    explain,
    fleet_secret,
    init,
    launch,
    output,
    provider_table,
    render,
    schema,
    servers,
    tree,
    trial,
    user_data,
)
from builder.cli.options import AT_END
from builder.cli.server import (
    apply,
    backup,
    bans,
    doctor,
    firewall,
    logs,
    move,
    notify,
    push,
    registries,
    releases,
    report,
    restore,
    rollback,
    secrets,
    services,
    session,
    status,
    verify,
)
from builder.problems import SpecError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., int]

# Each module has the NAME of its command and the function `command`.
_COMMANDS: Final = (
    init, check, diagram, render, tree, user_data, provider_table, trial, build_image, check_image, launch, deploy,
    servers, destroy, schema, explain,
)  # fmt: skip
_SERVER: Final[tuple[tuple[str, Command], ...]] = (
    ("status", status.command),
    ("doctor", doctor.command),
    ("verify", verify.command),
    ("report", report.command),
    ("apply", apply.command),
    ("push", push.command),
    ("move", move.command),
    ("releases", releases.list_),
    ("rollback", rollback.command),
    ("backup", backup.command),
    ("restore", restore.command),
    ("notify", notify.command),
    ("logs", logs.command),
    ("exec", session.exec_),
    ("shell", session.shell),
    ("run", session.run),
    ("restart", services.restart),
    ("stop", services.stop),
    ("start", services.start),
    ("fail2ban-status", bans.status),
    ("ban", bans.ban),
    ("unban", bans.unban),
    ("reapply-firewall", firewall.reapply),
)
_SERVER_SECRET: Final[tuple[tuple[str, Command], ...]] = (
    ("set", secrets.set_),
    ("generate", secrets.generate),
    ("list", secrets.list_),
    ("rm", secrets.rm),
)
_FLEET_SECRET: Final[tuple[tuple[str, Command], ...]] = (
    ("set", fleet_secret.set_),
    ("list", fleet_secret.list_),
    ("rm", fleet_secret.rm),
)
_SERVER_REGISTRY: Final[tuple[tuple[str, Command], ...]] = (
    ("login", registries.login),
    ("list", registries.list_),
    ("logout", registries.logout),
)


def exit_code(command: Callable[[], int]) -> int:
    """Run a command: its own exit code, or that of an expected failure, which is explained on stderr."""
    try:
        return command()
    except SpecError as error:
        output.problems(error.problems)
    except UserError as error:
        output.failure(error.message, error.hint)
        _drop_unwritten()
    except (KeyboardInterrupt, typer.Abort):
        output.note("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has gone, as with `| head`; nothing more can be written to stdout, not even at exit.
        _drop_unwritten()
    except OSError as error:
        what = error.strerror or str(error)
        output.failure(f"{error.filename}: {what}" if error.filename else what)
    return 1


def _drop_unwritten() -> None:
    """Python flushes stdout at exit and would print a failure of that itself: nothing is left to flush."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AttributeError:
        pass  # it is closed


def _exits(command: Command) -> Callable[..., None]:
    """The command as typer runs it: its result, or its expected failure, is the exit code."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        with AT_END:
            code = exit_code(lambda: command(*args, **options))
        raise typer.Exit(code)

    run.__annotations__ = {**command.__annotations__, "return": None}
    return run


def _version(requested: bool) -> None:
    if requested:
        output.data(f"er {__version__}\n".encode())
        raise typer.Exit


app = typer.Typer(
    name="er",
    help="From one YAML file to a hardened web host: user-data for any provider, tried out here first.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
_server = typer.Typer(
    name="server", help="Look after a running server, over ssh.", no_args_is_help=True, rich_markup_mode=None
)
_secret = typer.Typer(
    name="secret", help="The secrets of a stack, or of the host.", no_args_is_help=True, rich_markup_mode=None
)
_fleet_secret = typer.Typer(
    name="secret", help="The secrets of a fleet's stacks.", no_args_is_help=True, rich_markup_mode=None
)
_registry = typer.Typer(
    name="registry", help="Logins to registries that images come from.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """From one YAML file to a hardened web host: user-data for any provider, tried out here first."""


def _add(group: typer.Typer, name: str, command: Command) -> None:
    group.command(name)(_exits(command))


for _module in _COMMANDS:
    _add(app, _module.NAME, _module.command)
for _name, _command in _SERVER:
    _add(_server, _name, _command)
for _name, _command in _SERVER_SECRET:
    _add(_secret, _name, _command)
for _name, _command in _FLEET_SECRET:
    _add(_fleet_secret, _name, _command)
for _name, _command in _SERVER_REGISTRY:
    _add(_registry, _name, _command)
_server.add_typer(_secret)
_server.add_typer(_registry)
app.add_typer(_server)
app.add_typer(_fleet_secret)
