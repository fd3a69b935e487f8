"""Progress, on stderr."""

from __future__ import annotations

import sys


def note(message: str) -> None:
    """Say what is being done."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()
