"""`er build-image --clean TARGET` and `--keep N`: what builds of er have at a provider, shown, asked for, removed."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from builder.cli import output as say
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from builder.packer.account import Account, Found
    from builder.packer.artifact import Result


def clean(target: str, directory: Path, *, yes: bool, dry_run: bool, as_json: bool) -> int:
    """Show what there is; remove the machines of builds, and one by one the images that no manifest here knows.

    Such an image may be a good one that was made elsewhere: it is asked for by its id, and never removed unasked.
    """
    from builder.packer.account import Account

    account = Account(target, os.environ)
    found = account.found()
    known = {path.name.removesuffix(".manifest.json") for path in directory.glob("*.manifest.json")}
    for one in found:
        say.note(f"{one.noun:<10} {one.id:<12} {one.name}{_why(one, known)}")
    machines = [one for one in found if one.build]
    images = [one for one in found if not one.build and _base(one) not in known]
    if not machines and not images:
        say.note("nothing is left over")
    if not dry_run:
        if machines:
            _remove(account, machines, yes=yes)
        for one in images if sys.stdin.isatty() else ():
            if _said(f"Remove {one.noun} {one.name}? Type {one.id}: ") == one.id:
                _remove(account, [one], yes=True)
    if as_json:
        left = [*machines, *images]
        say.json([{"noun": one.noun, "id": one.id, "name": one.name, "left": one in left} for one in found])
    return 0


def keep(target: str, number: int, result: Result, *, yes: bool) -> None:
    """Remove older images of the same spec that er made, after asking."""
    from builder.packer import build_cloud
    from builder.packer.account import Account, older

    account = Account(target, os.environ)
    wanted = older(account.found(), build_cloud.stem(result.name), number)
    for one in wanted:
        say.note(f"older     {one.noun} {one.id} {one.name}")
    if wanted:
        _remove(account, wanted, yes=yes)


def _why(one: Found, known: Collection[str]) -> str:
    if one.build:
        return ", of a build: left over, unless it is going on now"
    return "" if _base(one) in known else ", no manifest here knows it"


def _base(one: Found) -> str:
    return one.name.removeprefix("easyrunner-")


def _remove(account: Account, wanted: Collection[Found], *, yes: bool) -> None:
    _confirm(len(wanted), yes=yes)
    for one in wanted:
        account.remove(one)
        say.note(f"removed   {one.noun} {one.id} {one.name}")


def _confirm(number: int, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody is here to confirm", "--yes does without")
    if _said(f"Remove {number}? Type yes: ") != "yes":
        raise UserError("not confirmed: nothing was removed")


def _said(question: str) -> str:
    say.console.print(question, end="", markup=False)
    return sys.stdin.readline().strip()
