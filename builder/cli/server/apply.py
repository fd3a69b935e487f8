"""`er server apply`: a changed spec on a running server."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import AsJson, SpecPath, load
from builder.cli.say import say
from builder.cli.server import egress
from builder.cli.server.options import Host, SshOptions, remote
from builder.cli.steps import Steps

if TYPE_CHECKING:
    from builder.server.change import Difference


def command(
    host: Host,
    path: SpecPath,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference and change nothing.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=10, metavar="SECONDS", help="Take it back when not ready by then.")
    ] = 300,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Bring a server to what SPEC says now; what does not come up is taken back by itself."""
    from builder import host as hosts
    from builder.server import change

    spec = load(path)
    built = hosts.build(spec)
    there = remote(host, ssh)
    found = change.differences(there, built)
    _show(found)
    if dry_run or not found:
        if as_json:
            say.json({"phase": "dry run" if dry_run else "done", "changes": _summary(found)})
        return 0
    if not yes and not _agreed(len(found)):
        return 1
    for archive in change.bring_archives(there, spec):
        say.note(f"sending {archive.name} …")
    end = _follow(change.carry_out(there, change.plan(spec, built, timeout=timeout)))
    if as_json:
        say.json({**end, "changes": _summary(found)})
    return _told(end)


def _show(found: tuple[Difference, ...]) -> None:
    for one in found:
        for line in one.lines():
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            say.console.print(line, style=style, markup=False)
    say.note(f"{len(found)} files differ" if found else "nothing differs: the server is what the spec says")


def _summary(found: tuple[Difference, ...]) -> list[dict[str, str]]:
    return [{"path": one.path, "kind": one.kind} for one in found]


def _agreed(count: int) -> bool:
    if not sys.stdin.isatty():
        say.failure("there is nobody to ask", "look at --dry-run, then say --yes")
        return False
    return typer.confirm(f"Change {count} files on the server?", err=True)


def _follow(states: Any) -> dict[str, Any]:
    since = time.monotonic()
    state: dict[str, Any] = {}
    with Steps() as steps:
        for new in states:
            if state:
                steps.end(state["phase"], time.monotonic() - since)
            state, since = new, time.monotonic()
            if state["phase"] == "no answer":
                steps.line("the server cannot be reached since the change; it takes it back by itself within 90 s")
            steps.start(state["phase"])
    return state


def _told(end: dict[str, Any]) -> int:
    if end["phase"] == "done":
        say.note("the server is what the spec says; the tree of before is kept on it, as the last good one")
        egress.told(end.get("names", ()))
        return 0
    said = "\n  ".join(["its containers said:", *end["said"]]) if end.get("said") else None
    if end["phase"] == "rolled back":
        say.failure(f"the change was taken back, the server is as before: {end['why']}", said)
    else:
        say.failure(f"the change failed: {end.get('why')}; then: {end.get('then')}", "see er server doctor")
    return 1
