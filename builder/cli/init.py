"""`er init`: a first spec with comments."""

from __future__ import annotations

from typing import Annotated

import typer

from builder import files
from builder import spec as specs
from builder.cli import output
from builder.problems import UserError

NAME = "init"


def command(
    path: Annotated[str, typer.Argument(metavar="[SPEC]", help="Where to write it; - is stdout.")] = "easyrunner.yaml",
    force: Annotated[bool, typer.Option("--force", help="Replace the file when it exists.")] = False,
) -> int:
    """Write a commented spec to start from."""
    if files.replaces(path) and not force:
        raise UserError(f"{path} exists already", "give another name, or --force to replace it")
    files.write(path, specs.template().encode(), report=output.note)
    if files.replaces(path):
        output.note(f"wrote {path}: put your key and your domains in, then run: er check {path}")
    return 0
