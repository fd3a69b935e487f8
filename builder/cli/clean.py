"""`er build-image --clean TARGET` and `--keep N`: show what builds of er have at a provider, ask, and remove it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from builder.cli import output
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from builder.packer.account import Account, Item
    from builder.packer.artifact import Result


def clean(target: str, directory: Path, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Show what there is; remove the machines of builds, and one by one the images that no manifest here knows.

    Such an image may be a good one that was made elsewhere: it is asked for by its id, and never removed unasked.
    """
    from builder.packer.account import Account

    account = Account(target, os.environ)
    found = account.items()
    known = {path.name.removesuffix(".manifest.json") for path in directory.glob("*.manifest.json")}
    for item in found:
        output.note(f"{item.noun:<10} {item.id:<12} {item.name}{_why(item, known)}")
    machines = [item for item in found if item.build]
    images = [item for item in found if not item.build and _base(item) not in known]
    if not machines and not images:
        output.note("nothing is left over")
    if not dry_run:
        if machines:
            _remove(account, machines, yes=yes)
        for item in images if sys.stdin.isatty() else ():
            if _answer(f"Remove {item.noun} {item.name}? Type {item.id}: ") == item.id:
                _remove(account, [item], yes=True)
    if as_json:
        left = [*machines, *images]
        output.json([{"noun": item.noun, "id": item.id, "name": item.name, "left": item in left} for item in found])
    return 0


def keep(target: str, number: int, result: Result, *, yes: bool) -> None:
    """Remove older images of the same spec that er made, after asking."""
    from builder.packer.account import Account, older, stem

    account = Account(target, os.environ)
    items = older(account.items(), stem(result.name), number)
    for item in items:
        output.note(f"older     {item.noun} {item.id} {item.name}")
    if items:
        _remove(account, items, yes=yes)


def _why(item: Item, known: Collection[str]) -> str:
    if item.build:
        return ", of a build: left over, unless it is going on now"
    return "" if _base(item) in known else ", no manifest here knows it"


def _base(item: Item) -> str:
    return item.name.removeprefix("easyrunner-")


def _remove(account: Account, items: Collection[Item], *, yes: bool) -> None:
    _confirm(len(items), yes=yes)
    for item in items:
        account.remove(item)
        output.note(f"removed   {item.noun} {item.id} {item.name}")


def _confirm(number: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody is here to confirm", "--yes does without")
    if _answer(f"Remove {number}? Type yes: ") != "yes":
        raise UserError("not confirmed: nothing was removed")


def _answer(question: str) -> str:
    output.prompt(question)
    return sys.stdin.readline().strip()
