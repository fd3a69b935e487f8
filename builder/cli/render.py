"""`er render`: the host's tree as it lands, in a directory to look at."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from builder import host as hosts
from builder.cli.options import SpecPath, load
from builder.cli.say import say
from builder.host.tree import overlay
from builder.problems import UserError

NAME = "render"


def command(
    path: SpecPath,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the tree goes; made anew.")],
    force: Annotated[bool, typer.Option("--force", help="Replace DIR when it is not empty.")] = False,
) -> int:
    """Write the host's files below DIR, with their modes; they are root's on the host."""
    host = hosts.build(load(path))
    if output.is_dir() and any(output.iterdir()) and not force:
        raise UserError(f"{output} is not empty", "give another directory, or --force to replace it")
    output.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        overlay(aside, host.files)
        aside.chmod(0o755)
        if output.exists():
            shutil.rmtree(output)
        aside.rename(output)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    say.note(f"wrote {len(host.files)} files to {output}")
    return 0
