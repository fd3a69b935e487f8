"""The typer application: the commands in the order of their use, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder import __version__
from builder.cli import (
    build_image,
    check,
    check_image,
    destroy,
    explain,
    init,
    launch,
    provider_table,
    render,
    schema,
    server,
    servers,
    tree,
    trial,
    user_data,
)
from builder.cli.output import say
from builder.problems import SpecError, UserError

if TYPE_CHECKING:
    from collections.abc import Callable

app = typer.Typer(
    name="er",
    help="From one YAML file to a hardened web host: user-data for any provider, tried out here first.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _told(command: Callable[..., int]) -> Callable[..., None]:
    """The command with its expected failures told in words on stderr, and its result as the exit code."""

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        raise typer.Exit(code(lambda: command(*args, **options)))

    run.__annotations__ = {**command.__annotations__, "return": None}
    return run


def code(command: Callable[[], int]) -> int:
    """What a command ends with, its expected failures told in words on stderr."""
    try:
        return command()
    except SpecError as error:
        say.problems(error.problems)
    except UserError as error:
        say.failure(error.message, error.hint)
        _drop_unwritten()
    except (KeyboardInterrupt, typer.Abort):
        say.note("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has gone, as with `| head`; nothing more can be said on stdout, not even at exit.
        _drop_unwritten()
    except OSError as error:
        what = error.strerror or str(error)
        say.failure(f"{error.filename}: {what}" if error.filename else what)
    return 1


def _drop_unwritten() -> None:
    """What stdout did not take is not tried again at exit, which would be told in Python's own words."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except AttributeError:
        pass  # it is closed


for _module in (
    init, check, render, tree, user_data, provider_table, trial, build_image, check_image, launch, servers, destroy,
    schema, explain,
):  # fmt: skip
    app.command(_module.NAME)(_told(_module.command))

for _group, _commands in ((server.app, server.COMMANDS), (server.secrets, server.SECRETS)):
    for _name, _command in _commands:
        _group.command(_name)(_told(_command))
app.add_typer(server.app)


def _version(wanted: bool) -> None:
    if wanted:
        say.data(f"er {__version__}\n".encode())
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """From one YAML file to a hardened web host: user-data for any provider, tried out here first."""
