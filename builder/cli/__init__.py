"""The command line: one module a command, nothing here but the door."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of `er`. Exit codes: 0 fine, 1 the spec, host or build failed, 2 wrong usage, 130 interrupted."""
    try:
        from builder.cli.app import app
    except KeyboardInterrupt:
        # Ctrl-C right after Enter, while the commands are still being read.
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    app(prog_name="er")
