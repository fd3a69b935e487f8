"""The command line: `app` has the commands, one module each; `server/` those for a running host.

Besides them: `options` that several commands take, `output` and `progress`, the only ones that print. A command
imports what it needs inside its functions where that is slow to load, so that `er --help` is quick.
"""

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
