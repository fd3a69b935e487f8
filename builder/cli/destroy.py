"""`er destroy`: take a server on AWS away, with all that was made for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from builder import problem_report
from builder.cli import output
from builder.cli.launch import KnownHosts, Region
from builder.cli.options import AsJson
from builder.cli.progress import Steps
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.aws.api import Api
    from builder.aws.destroy import Holdings
    from builder.aws.errors import AwsError

NAME = "destroy"


def command(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The server's name, as `er servers` lists it.")],
    region: Region = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    unprotect: Annotated[bool, typer.Option("--unprotect", help="Also a server that is protected.")] = False,
    with_data: Annotated[bool, typer.Option("--data", help="Also its volume for data, and snapshots of that.")] = False,
    old: Annotated[bool, typer.Option("--old", help="Only servers that `er launch --replace` has replaced.")] = False,
    known_hosts: KnownHosts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Remove a server and everything that `er launch` made for it."""
    from builder.aws import api, destroy, errors
    from builder.aws import known_hosts as keys
    from builder.aws.request import Settings
    from builder.process import terminable

    file = keys.named(known_hosts) if known_hosts else keys.default()
    if dry_run and (missing := api.missing_access(region)):
        return _dry_run_without_access(name, region, missing, as_json=as_json)
    client = api.Api(region, output.note)
    try:
        found = destroy.replaced(client, name) if old else destroy.holdings(client, name, with_data=with_data)
    except errors.AwsError as error:
        if not dry_run or not errors.no_access(error):
            raise
        return _dry_run_without_access(name, region, (error,), as_json=as_json)
    _show(found, name, client.region)
    if not found and not old and not any(found.stays.values()):
        _look_elsewhere(client, name)
    if found and not dry_run:
        _confirm(name, yes=yes)
        with terminable(), Steps() as steps:
            settings = Settings(file, api.BACKOFF)
            destroy.destroy(client, name, found, settings, api.Progress(steps), unprotect=unprotect)
    _show_what_stays(client, found)
    if as_json:
        output.json(destroy.holdings_json(found, removed=bool(found) and not dry_run))
    return 0


def _dry_run_without_access(name: str, region: str | None, errors: Iterable[AwsError], *, as_json: bool) -> int:
    """A dry run where AWS cannot be asked: what would be looked for."""
    from builder.aws import api
    from builder.aws.resources import DELETION_ORDER

    where = api.region_of(region) or "a region that is not named"
    output.note(f"{name} in {where}: what is there is unknown")
    output.note("  would remove the DNS records that lead to it")
    for resource in DELETION_ORDER:
        output.note(f"  would remove every {resource.title} with the tags of {name}")
    output.missing(errors)
    if as_json:
        unknown = dict.fromkeys((*(resource.json_key for resource in DELETION_ORDER), "stays"))
        output.json({"removed": False, **unknown, "missing": problem_report.missing(errors)})
    return 0


def _show(found: Holdings, name: str, region: str) -> None:
    from builder.aws import destroy

    output.note(f"{name} in {region}:" if found else f"nothing of {name} in {region}")
    for line in destroy.holding_lines(found):
        output.note(line)


def _look_elsewhere(client: Api, name: str) -> None:
    """Nothing here is no reason to be content when the server runs, and costs, in another region."""
    from builder.aws import destroy

    found = destroy.elsewhere(client, name)
    for region, error in found.errors.items():
        output.note(f"  not asked: {region} ({error.message})")
    if found.having:
        raise UserError(
            f"{name} is not in {client.region}, but in {', '.join(found.having)}",
            "; ".join(f"er destroy {name} --region {region}" for region in found.having),
        )
    output.note(f"  nor in {len(found.empty)} other regions of the account")


def _confirm(name: str, *, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise UserError("nobody is here to confirm", "--yes does without")
    output.prompt(f"Remove all of it? Type {name}: ")
    if sys.stdin.readline().strip() != name:
        raise UserError("not confirmed: nothing was removed")


def _show_what_stays(client: Api, found: Holdings) -> None:
    from builder.aws import destroy

    for disk in found.disks:
        output.note(f"  stays: disk {disk}, which er did not make")
    for kind, described in found.stays.items():
        for one in described:
            output.note(f"  stays: {kind.title} {kind.line(one)}; er destroy --data removes it")
    images = destroy.baked_images(client)
    if images:
        output.note(
            f"  stays: {len(images)} baked image{'s' * (len(images) > 1)} for the next launch: {' '.join(images)}"
        )
