"""The typer application: the commands in the order of their use, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import click
import typer

from builder import __version__
from builder.cli import check, init, render, schema, tree, trial, user_data
from builder.cli.say import say
from builder.problems import SpecError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="er",
    help="From one YAML file to a hardened web host: user-data for any provider, tried out here first.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (init, check, render, tree, user_data, trial, schema):
    app.command(module.NAME)(module.command)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"er {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Nothing of its own: options before the command."""


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; every expected failure is told in words on stderr."""
    try:
        return _exit_code(app(args=list(argv), standalone_mode=False, prog_name="er"))
    except SpecError as error:
        say.problems(error.problems)
        return 1
    except UserError as error:
        say.failure(error.message, error.hint)
        return 1
    except click.UsageError as error:
        error.show(sys.stderr)
        return 2
    except click.exceptions.Abort:
        return 130
    except KeyboardInterrupt:
        say.note("interrupted")
        return 130
    except BrokenPipeError:
        # The reader has gone, as with `| head`; nothing more can be said on stdout, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        say.failure(_os_error(error))
        return 1


def _exit_code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _os_error(error: OSError) -> str:
    what = error.strerror or str(error)
    return f"{error.filename}: {what}" if error.filename else what
