"""`er init`: a first spec with comments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from builder import files
from builder import spec as specs
from builder.cli.say import say
from builder.problems import UserError

NAME = "init"


def command(
    path: Annotated[Path, typer.Argument(metavar="[SPEC]", help="Where to write it.")] = Path("easyrunner.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it exists.")] = False,
) -> int:
    """Write a commented spec to start from."""
    if path.exists() and not force:
        raise UserError(f"{path} exists already", "give another name, or --force to replace it")
    files.write(path, specs.template().encode())
    say.note(f"wrote {path}: put your key and your domains in, then run: er check {path}")
    return 0
