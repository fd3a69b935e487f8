"""`er server rollback`: a stack back to an earlier release, or the server to the tree of before its last apply."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder import problem_report
from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, asking, remote, shared
from builder.cli.server import apply, releases
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.server import Remote


def command(
    host: Host,
    stack: Annotated[str, typer.Argument(metavar="STACK", help="Without: the whole of the last er server apply.")] = "",
    release: Annotated[
        str,
        typer.Argument(
            metavar="RELEASE", help="Its number, as er server releases shows it, or spec; without, the one before."
        ),
    ] = "",
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, where a whole apply is taken back.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
    timeout: releases.Timeout = 300,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Go back: a stack to an earlier release or with `spec` to what the spec names; the server to its last tree."""
    from builder.server import releases as switches
    from builder.server.ssh import KeyChangedError, UnreachableError

    if release not in {"", "spec"} and not release.isdecimal():
        raise typer.BadParameter("a release is a number, or spec")
    try:
        if not stack:
            server = shared(remote(host, ssh))
            return _whole(server, host, yes=yes, dry_run=dry_run, timeout=timeout, as_json=as_json)
        if dry_run:
            return _show_target(switches.releases(asking(host, ssh), stack), stack, release, as_json=as_json)
    except UnreachableError as error:
        if not dry_run or isinstance(error, KeyChangedError):
            raise
        return _unknown(host, stack, error, as_json=as_json)
    states = switches.roll_back(shared(asking(host, ssh)), stack, release, timeout=timeout)
    end = releases.follow(states)
    if as_json:
        output.json(end)
    return releases.show_end(host, stack, end)


def _unknown(host: str, stack: str, error: UserError, *, as_json: bool) -> int:
    """A dry run that cannot reach the server says what it would need."""
    output.note(f"what {stack or host} would go back to is unknown")
    output.missing([error])
    if as_json:
        output.json({"phase": "dry run", "missing": problem_report.missing([error])})
    return 0


def _show_target(found: list[dict[str, Any]], stack: str, release: str, *, as_json: bool) -> int:
    """What a stack would go back to."""
    earlier = [one for one in found[1:] if not release or str(one["number"]) == release]
    if not earlier and release != "spec":
        raise UserError(
            f"{stack} has no release {release or 'before the one that runs'}", "er server releases HOST STACK"
        )
    if as_json:
        output.json({"phase": "dry run", "release": None if release == "spec" else earlier[0]})
    elif release == "spec":
        output.note(f"{stack} would run what the spec names")
    else:
        output.note(f"{stack} would go back to release {earlier[0]['number']}")
        output.table(releases.table(earlier[:1]))
    return 0


def _whole(server: Remote, host: str, *, yes: bool, dry_run: bool, timeout: float, as_json: bool) -> int:
    """Go back to the tree of before the last apply, which the server keeps; the exit code."""
    from builder.server import apply as changes

    when, plan = changes.before(server)
    found = changes.differences_from(server, plan)
    for one in found:
        apply.show_difference(one)
    if not found:
        output.note("nothing differs: the server is as it was before its last apply")
    else:
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
        output.note(f"{apply.differ(len(found))} from the tree that was there until {since}")
    if dry_run or not found:
        return apply.nothing_done("dry run" if dry_run else "done", found, {}, as_json=as_json)
    if not yes and not apply.confirmed(len(found)):
        return 1
    content = {**plan, "timeout": timeout, "confirm_within": changes.CONFIRM_WITHIN}
    end = apply.follow(changes.carry_out(server, json.dumps(content).encode()))
    if as_json:
        output.json({**end, "changes": apply.summary(found)})
    code = apply.show_result(host, end)
    if code == 0:
        output.note("it was an apply as any other: the same command once more leads forth again")
    return code
