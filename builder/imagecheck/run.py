"""Runs the table over a tree."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.imagecheck.model import Finding, NotKnowableError, Report
from builder.imagecheck.table import CHECKS
from builder.imagecheck.tree import Tree

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from builder.imagecheck.model import Check, Expected


def check(root: Path, *, live: bool = False, expected: Iterable[Expected] = ()) -> tuple[Finding, ...]:
    """Everything found in the tree below `root`; empty for a clean image. See `examine`."""
    return examine(root, live=live, expected=expected).findings


def examine(root: Path, *, live: bool = False, expected: Iterable[Expected] = (), only: Iterable[str] = ()) -> Report:
    """Run all checks, or `only` those with these ids, on the tree below `root`.

    `live` is for a running system with `root` as "/": it asks that system too. `expected` are the host's baked files
    where they are known. Raises OSError when the tree cannot be read: half a look is none.
    """
    tree = Tree(root, live=live, expected=tuple(expected))
    wanted = frozenset(only)
    ran: list[str] = []
    skipped: list[tuple[str, str]] = []
    findings: list[Finding] = []
    for row in CHECKS:
        if wanted and row.id not in wanted:
            continue
        try:
            found = _findings(row, tree)
        except NotKnowableError as error:
            skipped.append((row.id, str(error)))
        else:
            ran.append(row.id)
            findings += found
    return Report(tuple(ran), tuple(skipped), tuple(findings))


def _findings(row: Check, tree: Tree) -> list[Finding]:
    if row.when == "live" and not tree.live:
        raise NotKnowableError("only the running system knows")
    if row.when == "offline" and tree.live:
        raise NotKnowableError("only seen from outside")
    # The same hit twice, as by two names of one directory, is one finding.
    hits = dict.fromkeys(row.find(tree))
    return [Finding(row.id, hit.path, hit.what, row.remedy) for hit in hits]
