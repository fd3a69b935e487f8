"""`er launch`: a running server on AWS that has proved itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import output
from builder.cli.options import AsJson, SpecPath, load, restoring
from builder.cli.progress import Steps, ending

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.aws.api import Api
    from builder.aws.errors import AwsError
    from builder.aws.plan import Plan
    from builder.aws.request import Request, Settings

NAME = "launch"

Region = Annotated[str | None, typer.Option("--region", help="The region; else the spec's, else the AWS tools'.")]
KnownHosts = Annotated[
    str | None,
    typer.Option("--known-hosts", metavar="FILE", help="Where host keys go, if not to ~/.ssh."),
]


def command(
    path: SpecPath,
    region: Region = None,
    type_: Annotated[str | None, typer.Option("--type", help="The instance type, as t3.small.")] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="AMI|baked|stock", help="Default: the newest baked one, else stock."),
    ] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=50, help="So many servers alike.")] = 1,
    disk: Annotated[
        int | None, typer.Option("--disk", min=8, max=16384, metavar="GIB", help="Size of the disk, if not 20.")
    ] = None,
    vpc: Annotated[str | None, typer.Option("--vpc", help="A network other than the default one.")] = None,
    subnet: Annotated[str | None, typer.Option("--subnet", help="One subnet.")] = None,
    profile_arn: Annotated[str | None, typer.Option("--profile-arn", help="An IAM instance profile.")] = None,
    spot: Annotated[bool, typer.Option("--spot", help="Cheaper, and taken back by AWS at any time.")] = False,
    eip: Annotated[
        bool | None,
        typer.Option("--eip/--no-eip", help="An address that outlives a stop: an Elastic IP. Default: with domains."),
    ] = None,
    ipv6: Annotated[bool, typer.Option("--ipv6", help="An IPv6 address too.")] = False,
    protect: Annotated[bool, typer.Option("--protect", help="Refuse termination until it is unprotected.")] = False,
    data_disk: Annotated[
        int | None,
        typer.Option("--data-disk", min=1, max=16384, metavar="GIB", help="Size of the volume for data, if not 20."),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="A new server takes over data and address of the one that is there.")
    ] = False,
    other_zone: Annotated[
        bool,
        typer.Option(
            "--other-zone",
            help="With --replace: without capacity in the zone of the data, a copy of it in another one; takes longer.",
        ),
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="The data of before comes from the spec's backup, before anything starts.")
    ] = False,
    overwrite_dns: Annotated[
        bool, typer.Option("--overwrite-dns", help="Also replace records of the domains that lead elsewhere.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until every domain answers.")] = True,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=1, metavar="SECONDS", help="Wait so long at most: 900; for a fleet 5400."),
    ] = None,
    known_hosts: KnownHosts = None,
    identity: Annotated[
        Path | None, typer.Option("--identity", metavar="FILE", help="The SSH key to log in with, if ssh must be told.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be made, and make nothing.")] = False,
    as_json: AsJson = False,
) -> int:
    """Launch the host of SPEC on AWS, or take up what is there; wait until it serves."""
    if replace and restore:
        raise typer.BadParameter("--replace takes the data along, --restore gets it from the backup: one of them")
    if other_zone and not replace:
        raise typer.BadParameter("--other-zone is for --replace")
    spec = restoring(load(path)) if restore else load(path)
    output.note(f"{spec.server.name} on AWS{f' in {r}' if (r := region or spec.aws.region) else ''}")
    from builder import host as hosts
    from builder import spec as specs
    from builder.aws import api
    from builder.aws import known_hosts as keys
    from builder.aws.request import Options, Request, Settings, check

    network = (vpc, subnet, profile_arn, spot, eip, ipv6, protect)
    options = Options(type_, image, count, disk, *network, overwrite_dns, data_disk, other_zone, replace, restore)
    request = Request(spec, hosts.build(spec), options)
    check(request)
    if profile_arn and specs.role_policy(spec):
        output.note("the role of --profile-arn has to allow the server its images: docs/registries.md says what")
    file = keys.named(known_hosts) if known_hosts else keys.default()
    if dry_run:
        return _dry_run(request, region or spec.aws.region, as_json=as_json)
    client = api.Api(region or spec.aws.region)
    work = _launch_fleet if spec.fleet else _replace if replace else _launch
    seconds = timeout or (_FLEET_SECONDS if spec.fleet else _SECONDS)
    return work(client, request, Settings(file, api.BACKOFF, seconds, wait, identity), as_json=as_json)


# A roll of a fleet: its new hosts start, then the balancer takes them up, then those of before drain.
_SECONDS, _FLEET_SECONDS = 900.0, 5400.0


def _dry_run(request: Request, region: str | None, *, as_json: bool) -> int:
    """With AWS's answers where it can be asked; without credentials or a way there, what is known here."""
    from builder.aws import api, errors, plan

    if request.options.replace:
        for line in plan.replacement(api.Api(region, output.note), request):
            output.note(line)
        return 0
    if missing := api.missing_access(region):
        return _outline(request, region, missing, as_json=as_json)
    try:
        found = plan.plan(api.Api(region, output.note), request)
    except errors.AwsError as error:
        if not errors.no_access(error):
            raise
        return _outline(request, region, (error,), as_json=as_json)
    return _show(found, as_json=as_json)


def _outline(request: Request, region: str | None, errors: Iterable[AwsError], *, as_json: bool) -> int:
    from builder.aws import api, plan

    return _show(plan.outline(request, api.region_of(region), errors), as_json=as_json)


def _show(found: Plan, *, as_json: bool) -> int:
    for line in found.lines:
        output.note(line)
    output.missing(found.errors)
    if as_json:
        output.json(found.json)
    for refusal in found.refusals:
        output.failure(refusal.message, refusal.hint)
    return 1 if found.refusals else 0


def _launch(client: Api, request: Request, settings: Settings, *, as_json: bool) -> int:
    from builder.aws import known_hosts, launch
    from builder.aws.api import Progress
    from builder.problems import UserError
    from builder.process import terminable

    with terminable(), Steps() as steps:
        progress = Progress(steps)
        client.report = progress.line
        try:
            launched = launch.launch(client, request, settings, progress)
        except launch.NotReadyError as error:
            steps.stop()
            output.note(f"  {error.remains}")
            raise (error.cause if isinstance(error.cause, UserError) else KeyboardInterrupt) from None
    ending(launch.launched_rows(launched, settings, known_hosts.default()))
    if as_json:
        output.json(launch.launched_json(launched, settings, progress.seconds))
    return 0


def _launch_fleet(client: Api, request: Request, settings: Settings, *, as_json: bool) -> int:
    from builder.aws import fleet, launch
    from builder.aws.api import Progress
    from builder.problems import UserError
    from builder.process import terminable

    with terminable(), Steps() as steps:
        progress = Progress(steps)
        client.report = progress.line
        try:
            launched = fleet.launch(client, request, settings, progress)
        except launch.NotReadyError as error:
            steps.stop()
            output.note(f"  {error.remains}")
            raise (error.cause if isinstance(error.cause, UserError) else KeyboardInterrupt) from None
    ending(fleet.launched_rows(launched))
    if as_json:
        output.json(fleet.launched_json(launched, progress.seconds))
    return 0


def _replace(client: Api, request: Request, settings: Settings, *, as_json: bool) -> int:
    from builder.aws import known_hosts, launch
    from builder.aws import replace as replacing
    from builder.aws.api import Progress
    from builder.process import terminable

    with terminable(), Steps() as steps:
        progress = Progress(steps)
        client.report = progress.line
        done = replacing.replace_server(client, request, settings, progress)
    launched = launch.launched_rows(done.launched, settings, known_hosts.default())
    ending((*launched, *replacing.replaced_rows(done), *launch.host_key_rows(done.launched, settings)))
    if as_json:
        shown = launch.launched_json(done.launched, settings, progress.seconds)
        output.json({**shown, **replacing.replaced_json(done)})
    return 0
