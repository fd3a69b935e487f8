"""`er server restore`: a stack's data of a snapshot, beside first, then switched; the old is kept until confirmed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from builder import problem_report
from builder.cli import output, progress
from builder.cli.options import AsJson, Host, SshOptions, Stack, remote, shared
from builder.cli.server.backup import date
from builder.cli.server.releases import Timeout, holder
from builder.server.ssh import KeyChangedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.problems import UserError
    from builder.server import Remote


def command(
    host: Host,
    stack: Stack,
    *,
    at: Annotated[
        str,
        typer.Option(metavar="SNAPSHOT", help="Its id, or a time: the newest not after that. Without, the newest."),
    ] = "",
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help="Only this: volumes/NAME, volumes/NAME/FILE, files/PATH; repeatable."),
    ] = None,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Keep what was restored: the old data is removed.")
    ] = False,
    back: Annotated[bool, typer.Option("--back", help="Take back the data of before the last restore.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which snapshot it is, and whether it fits.")] = False,
    timeout: Timeout = 300,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Give a stack its data of a snapshot, all or some paths; what it had is kept until --confirm, or --back."""
    paths, how = path or [], _How(yes, dry_run, timeout, as_json)
    if confirm + back + bool(at or paths or dry_run) > 1:
        raise typer.BadParameter("--confirm and --back stand alone")
    server = shared(remote(host, ssh))
    if confirm:
        return _confirm(host, server, stack, as_json=as_json)
    if back:
        return _back(host, server, stack, how)
    return _restore(host, server, stack, _Wanted(_time(at), paths), how)


class _How(NamedTuple):
    yes: bool
    dry_run: bool
    timeout: float
    as_json: bool


class _Wanted(NamedTuple):
    at: str
    paths: Sequence[str]


def _time(at: str) -> str:
    from builder.server import restore as restoring

    try:
        return restoring.snapshot_at(at) if at else ""
    except ValueError:
        raise typer.BadParameter("a snapshot's id, or a time, as 2026-11-30 or '2026-11-30 03:30'") from None


def _restore(host: str, server: Remote, stack: str, wanted: _Wanted, how: _How) -> int:
    from builder.server import restore as restoring

    try:
        found = restoring.look(server, stack, at=wanted.at, paths=wanted.paths)
    except UnreachableError as error:
        if not how.dry_run or isinstance(error, KeyChangedError):
            raise
        return _unknown(host, stack, error, as_json=how.as_json)
    output.note(_described(stack, found))
    if how.dry_run or not (how.yes or _agreed(stack)):
        if how.as_json:
            output.json({"phase": "planned", **found})
        return 0 if how.dry_run or sys.stdin.isatty() else 1
    states = restoring.restore(server, stack, at=found["snapshot"], paths=found["paths"], timeout=how.timeout)
    return _show(host, stack, _follow(states), how)


def _unknown(host: str, stack: str, error: UserError, *, as_json: bool) -> int:
    """A dry run that cannot reach the server says what it would need."""
    output.note(f"which snapshots of {stack} the repository of {host} has is unknown")
    output.missing([error])
    if as_json:
        output.json({"phase": "planned", "missing": problem_report.missing([error])})
    return 0


def _described(stack: str, found: dict[str, Any]) -> str:
    what = ", ".join(found["paths"]) or "all of its data"
    room = f"{output.size(found['bytes'])}, and {output.size(max(found['free'], 0))} are free"
    return f"{stack}: {what} of {date(found['at'])}, snapshot {found['snapshot'][:8]}: {room}"


def _agreed(stack: str) -> bool:
    if not sys.stdin.isatty():
        output.failure("there is nobody to ask", "look at --dry-run, then say --yes")
        return False
    agreed = typer.confirm(f"Stop {stack} for a moment, and give it that? What it has now is kept.", err=True)
    if not agreed:
        output.note("nothing was changed")
    return agreed


def _back(host: str, server: Remote, stack: str, how: _How) -> int:
    from builder.server import restore as restoring

    return _show(host, stack, _follow(restoring.back(server, stack, timeout=how.timeout)), how, back=True)


def _confirm(host: str, server: Remote, stack: str, *, as_json: bool) -> int:
    from builder.server import restore as restoring

    done = restoring.confirm(server, stack)
    if as_json:
        output.json(done)
    output.note(f"{stack} keeps what was restored; what it had before is removed from {host}")
    return 0


def _follow(states: Iterator[dict[str, Any]]) -> dict[str, Any]:
    try:
        return progress.follow(states, holder)
    except KeyboardInterrupt:
        output.note("the server goes on by itself: er server status HOST shows how it ended")
        raise


def _show(host: str, stack: str, end: dict[str, Any], how: _How, *, back: bool = False) -> int:
    """How it ended, and what to do next."""
    if how.as_json:
        output.json(end)
    if end["phase"] == "done" and back:
        output.note(f"{stack} has what it had before its restore")
    elif end["phase"] == "done":
        output.note(f"{stack} has its data of {date(end['at'])}, snapshot {end['snapshot'][:8]}")
        for path in end["left"]:
            output.note(
                f"{path} on the server is the dump of a command of the spec: load it as that command's tool does"
            )
        output.note(
            f"what it had before is kept: er server restore {host} {stack} --confirm removes it, --back takes it"
        )
    elif end["phase"] == "rolled back":
        said = "\n  ".join(["its containers said:", *end["said"]]) if end.get("said") else None
        output.failure(f"{stack} does not come up with that data, it has what it had before: {end['why']}", said)
    else:
        output.failure(end.get("why", "it failed"), (end.get("hint") or "").replace("HOST", host) or None)
    for service in end.get("ill") or ():
        output.failure(f"{service} failed before, and still does", f"see: er server logs {host} {stack}")
    for reason in end.get("lacking") or ():
        output.note(f"{stack} waits for {reason}")
    return 0 if end["phase"] == "done" else 1
