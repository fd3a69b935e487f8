"""`er server backup`: a backup now, the snapshots that there are, and a look for damage in the repository."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote, shared
from builder.cli.progress import follow
from builder.server import releases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.server import Remote

Backup = dict[str, Any]
Action = Literal["now", "list", "check", "drill"]


def command(
    host: Host,
    action: Annotated[
        Action,
        typer.Argument(help="now: make one; list: those there are; check: look for damage; drill: try a restore."),
    ] = "list",
    *,
    anew: Annotated[
        bool, typer.Option("--anew", help="With now: another repository than before may be there, or none.")
    ] = False,
    read: Annotated[
        int, typer.Option("--read", min=0, max=100, metavar="PERCENT", help="With check: read so much of the data.")
    ] = 0,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Back up a server now, show what its repository has, or look for damage there; by itself it is each night."""
    server = shared(remote(host, ssh))
    if action == "now":
        return _now(host, server, anew=anew, as_json=as_json)
    if action == "drill":
        return _drill(server, as_json=as_json)
    if action == "check":
        return _check(server, read, as_json=as_json)
    return _list(host, server.ask("backup-list", timeout=_ANSWERS_WITHIN), as_json=as_json)


# Seconds: the server has to ask the repository, which may be slow; and it reads all of that for a check.
_ANSWERS_WITHIN, _CHECKED_WITHIN = 300, 6 * 3600


def _now(host: str, server: Remote, *, anew: bool, as_json: bool) -> int:
    state = server.ask("backup-start", *(["anew"] if anew else []))
    if state["joined"]:
        output.note("a backup is under way already: this one is shown")
    try:
        end = follow(_states(server, "backup-wait", state), _lines)
    except KeyboardInterrupt:
        output.note("the server goes on by itself: er server status HOST shows how it ended")
        raise
    errors = end.get("errors") or ({"": end["error"]} if "error" in end else {})
    if as_json:
        output.json(end)
    elif "" not in errors:
        output.table(_stacks(end.get("stacks", {})))
    for stack, text in errors.items():
        output.failure(f"{stack}: {text}" if stack else text, (end.get("hint") or "").replace("HOST", host) or None)
    return 0 if end["phase"] == "done" else 1


def _drill(server: Remote, *, as_json: bool) -> int:
    try:
        end = follow(_states(server, "drill-wait", server.ask("drill-start")), _lines)
    except KeyboardInterrupt:
        output.note("the server goes on by itself: er server status HOST shows how it ended")
        raise
    if as_json:
        output.json(end)
    else:
        rows = output.new_table("backup of", "restore tried")
        for stack, one in sorted(end["drill"].items()):
            rows.add_row(stack, tried(one))
        output.table(rows)
    wrong = {stack: one["error"] for stack, one in end["drill"].items() if one.get("error")}
    for stack, error in wrong.items():
        output.failure(f"{stack}: {error}", "older snapshots may be whole: er server restore HOST STACK --at")
    return 1 if wrong or end["phase"] != "done" else 0


def _states(server: Remote, verb: str, state: Backup) -> Iterator[Backup]:
    """Each state once; the last is how it ended."""
    yield state
    yield from releases.states(server, verb, phase=state["phase"])


def _lines(state: Backup) -> Iterable[str]:
    return [f"somebody else is at it: {state['holder']}"] if "holder" in state else []


def _stacks(found: dict[str, Backup]) -> Any:
    rows = output.new_table("backup of", "snapshot", ">size", ">new", ">took", "")
    for stack, one in sorted(found.items()):
        took = output.duration(one["seconds"])
        size, new = output.size(one.get("bytes")), output.size(one.get("added"))
        rows.add_row(stack, one.get("snapshot", ""), size, new, took, one["error"])
    return rows


def _list(host: str, found: Backup, *, as_json: bool) -> int:
    if as_json:
        output.json(found)
    else:
        rows = output.new_table("stack", "snapshot", "made")
        for one in found["snapshots"]:
            rows.add_row(one["stack"], one["id"][:_SHOWN], date(one["at"]))
        output.table(rows)
        output.note(f"they are at {found['repository']}")
        for stack in found["without"]:
            output.failure(f"no snapshot of {stack} is there", f"er server backup {host} now")
    return 1 if found["without"] else 0


# Digits of a snapshot's id that are shown, as restic shows them.
_SHOWN: Final = 8


def date(seconds: float) -> str:
    """A time as people write it, by this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def problems(found: Backup | None) -> Iterator[str]:
    """What of a host's backups needs somebody's attention, in words."""
    if found is None:
        return
    for name in found["missing"]:
        yield f"no backup without the host's secret {name}: er server secret set HOST --host {name}"
    if not found["missing"] and not found["served"]:
        yield "backups do not run yet; that begins with: er server apply HOST SPEC"
    if found["run"].get("error"):
        yield f"the last backup failed: {found['run']['error']}"
    for one in found["stacks"]:
        if one.get("error"):
            yield f"the last backup of {one['stack']} failed: {one['error']}"
        elif one["late"] and not found["missing"]:
            yield f"{one['stack']} has no backup of the last day: er server backup HOST now"
        if error := one["drill"].get("error"):
            yield f"a restore of {one['stack']} was tried, and failed: {error}"


def tried(drill: dict[str, Any]) -> str:
    """How the last drill of a stack went, in a few words."""
    if not drill:
        return "not yet"
    when = date(drill["at"])
    if drill["error"]:
        return f"{when}: failed"
    if drill["skipped"]:
        return f"{when}: skipped, {drill['skipped']}"
    loaded = ", ".join(drill["loaded"])
    return f"{when}: restored{f', {loaded} loaded' if loaded else ''}"


def _check(server: Remote, read: int, *, as_json: bool) -> int:
    output.note("looking for damage: this reads the repository's structure" + (f", and {read} % of it" if read else ""))
    done = server.ask("backup-check", *([str(read)] if read else []), timeout=_CHECKED_WITHIN)
    if as_json:
        output.json(done)
    elif done["good"]:
        output.note("nothing is damaged" + ("" if read else "; --read PERCENT reads what is stored as well"))
    else:
        way = "what is damaged is not restored whole: restic's manual says how to repair a repository"
        output.failure("the repository is damaged", "\n  ".join([way, *done["said"]]))
    return 0 if done["good"] else 1
