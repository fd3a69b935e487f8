"""`er schema`: the JSON Schema of the spec, for editors."""

from __future__ import annotations

from builder.cli import output

NAME = "schema"


def command() -> int:
    """Write the JSON Schema of the spec to stdout, for completion and checks in an editor."""
    from builder import spec as specs

    output.json(specs.schema())
    return 0
