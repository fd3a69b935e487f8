"""Arguments that several commands take, and the loading of a spec with its warnings told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder import spec as specs
from builder.cli.output import say

if TYPE_CHECKING:
    from builder.spec import Spec

SpecPath = Annotated[Path, typer.Argument(metavar="SPEC", help="The YAML file that describes the host.")]
# Names of what is written are text, as a slash at the end counts: it says that a directory is meant.
OutputFile = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FILE", help="Write here, not to stdout; - is stdout."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Write the result to stdout as JSON.")]


def load(path: Path) -> Spec:
    """The spec of a file; its warnings go to stderr, its errors are raised together as SpecError."""
    spec, warnings = specs.load(path)
    say.problems(warnings)
    return spec
