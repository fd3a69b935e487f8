"""`python -m tests.shape [REVISION …]`: the numbers of the revisions and of the working tree beside each other."""

from __future__ import annotations

import sys
from subprocess import CalledProcessError

from tests.shape import measures, modules, source


def main(revisions: list[str]) -> int:
    """Print the table, and by name what there should be none of."""
    try:
        trees = {name: modules.read(source.revision(name)) for name in revisions}
    except CalledProcessError as error:
        return error.returncode
    now = modules.read(source.working_tree())
    print(measures.table({**trees, "now": now}))
    print(measures.details(now), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
