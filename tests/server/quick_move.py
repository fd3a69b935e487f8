"""`er` that loses its patience sooner: `python -m tests.server.quick_move server move …`.

What either host does without a word takes seconds then, not minutes.
"""

from __future__ import annotations

import os

from builder.cli import main
from builder.server import move

# On a machine with much to do each call takes long.
LOAD = max(os.getloadavg()[0] / (os.cpu_count() or 1) / 2, 1)
OLD_LEASE, NEW_LEASE = 20 * LOAD, 10 * LOAD

move.OLD_LEASE, move.NEW_LEASE = OLD_LEASE, NEW_LEASE  # type: ignore[misc]
move._PING, move._SILENT = 1.0, 5 * LOAD  # type: ignore[misc]

if __name__ == "__main__":
    main()
