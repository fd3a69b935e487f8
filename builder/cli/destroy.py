"""`er destroy`: take a server on AWS away, with all that was made for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder import problem_report
from builder.cli import output as say
from builder.cli.launch import KnownHosts, Region
from builder.cli.options import AsJson
from builder.cli.progress import Steps
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.aws.errors import AwsError
    from builder.aws.inventory import Holdings

NAME = "destroy"


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The server's name, as `er servers` lists it.")],
    region: Region = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    unprotect: Annotated[bool, typer.Option("--unprotect", help="Also a server that is protected.")] = False,
    known_hosts: KnownHosts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Remove a server and everything that `er launch` made for it."""
    from builder.aws import api, errors, inventory
    from builder.aws import api as doors
    from builder.aws import known_hosts as known
    from builder.aws.api import Api
    from builder.aws.destroy import destroy
    from builder.aws.launch import Settings
    from builder.aws.progress import Timed
    from builder.process import terminable

    keys = known.named(known_hosts) if known_hosts else known.default()
    if dry_run and (lacking := doors.lacking(region)):
        return _unseen(name, region, lacking, as_json=as_json)
    door = Api(region)
    try:
        found = inventory.holdings(door, name)
    except errors.AwsError as error:
        if not dry_run or not errors.blind(error):
            raise
        return _unseen(name, region, (error,), as_json=as_json)
    _show(found, name, door.region)
    if found and not dry_run:
        _confirm(name, yes=yes)
        with terminable(), Steps() as steps:
            destroy(
                door,
                name,
                found,
                Settings(keys, pace=api.PACE),
                Timed(steps),
                unprotect=unprotect,
            )
    _show_what_stays(door, found)
    if as_json:
        say.json(_json(found, removed=bool(found) and not dry_run))
    return 0


def _unseen(name: str, region: str | None, lacking: Iterable[AwsError], *, as_json: bool) -> int:
    """A dry run where AWS cannot be asked: what would be looked for, of which nobody knows whether it is there."""
    from builder.aws import api as doors
    from builder.aws.inventory import KINDS

    where = doors.region_of(region) or "a region that is not named"
    say.note(f"{name} in {where}: what is there is unknown")
    say.note("  would remove the DNS records that lead to it")
    for kind in KINDS:
        say.note(f"  would remove every {kind} with the tags of {name}")
    say.missing(lacking)
    if as_json:
        unseen = dict.fromkeys(("servers", "addresses", "security_groups", "key_pairs", "stays"))
        say.json({"removed": False, **unseen, "missing": problem_report.missing(lacking)})
    return 0


def _show(found: Holdings, name: str, region: str) -> None:
    from builder.aws import output

    say.note(f"{name} in {region}:" if found else f"nothing of {name} in {region}")
    for line in output.holding_lines(found):
        say.note(line)


def _confirm(name: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody is here to confirm", "--yes does without")
    say.console.print(f"Remove all of it? Type {name}: ", end="", markup=False)
    if sys.stdin.readline().strip() != name:
        raise UserError("not confirmed: nothing was removed")


def _show_what_stays(door: Any, found: Holdings) -> None:
    from builder.aws import inventory

    for disk in found.disks:
        say.note(f"  stays: disk {disk}, which er did not make")
    images = inventory.baked(door)
    if images:
        say.note(f"  stays: {len(images)} baked image{'s' * (len(images) > 1)} for the next launch: {' '.join(images)}")


def _json(found: Holdings, *, removed: bool) -> dict[str, Any]:
    return {
        "removed": removed,
        "servers": [one.id for one in found.servers],
        "addresses": [address["AllocationId"] for address in found.addresses],
        "security_groups": list(found.groups),
        "key_pairs": list(found.keys),
        "stays": list(found.disks),
        "missing": [],
    }
