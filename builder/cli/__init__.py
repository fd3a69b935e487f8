"""The command line: one module a command, nothing here but the door."""

from __future__ import annotations

import sys

from builder.cli.app import app, run

__all__ = ["app", "main"]


def main() -> None:
    """Entry point of `er`. Exit codes: 0 fine, 1 the spec, host or build failed, 2 wrong usage, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))
