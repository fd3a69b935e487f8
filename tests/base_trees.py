"""Makes the base trees that most tests stand on, where they are not there yet: `python -m tests.base_trees`."""

from __future__ import annotations

from builder.host.packages import PACKAGES
from builder.lab import base_tree


def main() -> None:
    """The one with a host's packages first: nearly every test takes it."""
    base_tree.tree(PACKAGES["debian-13"])
    base_tree.tree()


if __name__ == "__main__":
    main()
