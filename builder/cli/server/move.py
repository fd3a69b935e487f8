"""`er server move`: another server takes over, with all that outlives a machine."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from builder import problem_report
from builder.cli import output
from builder.cli.options import AsJson, SshOptions, remote, shared
from builder.cli.progress import Steps
from builder.cli.server import registries
from builder.problems import UserError
from builder.process import terminable
from builder.server import host_keys, move, move_look, site_answers
from builder.server.ssh import KeyChangedError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server import Remote
    from builder.server.move_look import Look

Old = Annotated[str, typer.Argument(metavar="OLD", help="The server that serves now, as ssh takes it.")]
New = Annotated[str, typer.Argument(metavar="NEW", help="The one that is to take over, made from the same spec.")]
_ALIVE: Final = ("ServerAliveInterval=5", "ServerAliveCountMax=4")


def command(
    old: Old,
    new: New,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would go there and change nothing.")] = False,
    replace_data: Annotated[
        bool, typer.Option("--replace-data", help="Data that NEW has of its own is removed in the end.")
    ] = False,
    back: Annotated[bool, typer.Option("--back", help="OLD serves again, with its data as it was; NEW stops.")] = False,
    gone: Annotated[bool, typer.Option("--gone", help="With --back: NEW is gone for good, and is not asked.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=10, metavar="SECONDS", help="Take it back when not ready by then.")
    ] = 300,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Let another server take over: volumes, certificates, secrets and bans go there, OLD stops, NEW serves.

    What does not come up is taken back: OLD serves again. After a cut the same command goes on where it stopped.
    """
    if gone and not back:
        raise typer.BadParameter("--gone belongs to --back")
    # A host whose power was cut does not say so: a call that waits for it is given up after some 20 s.
    options = [*(ssh or ()), *_ALIVE]
    hosts = shared(remote(old, options)), shared(remote(new, options))
    if gone:
        return _gone(*hosts, yes=yes)
    try:
        found = move_look.look(*hosts, replace=replace_data)
    except UnreachableError as error:
        if not dry_run or isinstance(error, KeyChangedError):
            raise
        return _unknown(error, as_json=as_json)
    if back:
        return _back(*hosts, found, yes=yes, dry_run=dry_run)
    for problem in found.problems:
        output.failure(problem.message, problem.hint)
    if dry_run and not found.problems:
        return _dry_run(*hosts, found, as_json=as_json)
    sure = found.is_done or yes
    if found.problems or not (sure or _confirmed(f"Move all of {old} to {new}? {old} stops then.")):
        return 1
    return _end(*hosts, found, _carry_out(*hosts, found, timeout), as_json=as_json)


def _carry_out(old: Remote, new: Remote, found: Look, timeout: float) -> dict[str, Any]:
    """What it came to."""
    if found.is_done:
        output.note(f"{new.host} serves already")
        return {"phase": "done"}
    with terminable(), Steps() as steps:
        timed = _Timed(steps)
        run = move.Move(old, new, found, timed.reporter(), timeout)
        try:
            end = run.carry_out()
        except KeyboardInterrupt:
            output.note("the same command goes on where it stopped")
            raise
        timed.step("")
    gap = None if run.gap is None else round(run.gap, 1)
    return {"phase": "done", **end, "bytes": run.sent, "gap": gap, "notes": run.notes}


class _Timed:
    """A line for each step that is over, with its time."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._running = ""
        self._since = 0.0

    def step(self, name: str) -> None:
        """Another step begins, or none."""
        if self._running == name:
            return
        if self._running:
            self._steps.end(self._running, time.monotonic() - self._since)
        self._running, self._since = name, time.monotonic()
        if name:
            self._steps.start(name)

    def _progress(self, done: int, every: int) -> None:
        self._steps.detail(f"{_size(done)} of {_size(every)}, {done / max(every, 1):.0%}")

    def reporter(self) -> move.Reporter:
        """For who does the work."""
        return move.Reporter(self.step, self._progress, output.note)


def _size(count: float) -> str:
    """Of bytes, in words."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.1f} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.1f} GB"


def _unknown(error: UserError, *, as_json: bool) -> int:
    """A dry run that cannot reach a server says what it would need."""
    output.note("what would go there is unknown")
    output.missing([error])
    if as_json:
        output.json({"phase": "dry run", "missing": problem_report.missing([error])})
    return 0


def _dry_run(old: Remote, new: Remote, found: Look, *, as_json: bool) -> int:
    compared = move_look.compare(old, new, found.new["state"] if found.phases[1] else {})
    different, free = compared.different, compared.there["free"]
    count = len(different.send)
    output.note(f"{count:,} files and directories would go to {new.host}, {_size(different.bytes)} at most")
    output.note(f"{new.host} has room for {_size(max(free, 0))}")
    for path in different.odd:
        output.note(f"not moved, as it is a device: {path}")
    if as_json:
        output.json({"phase": "dry run", "entries": len(different.send), "bytes": different.bytes, "free": free})
    return 0 if different.bytes <= free else 1


def _confirmed(question: str) -> bool:
    if not sys.stdin.isatty():
        output.failure("there is nobody to ask", "look at --dry-run, then say --yes")
        return False
    agreed = typer.confirm(question, err=True)
    if not agreed:
        output.note("nothing was changed")
    return agreed


def _back(old: Remote, new: Remote, found: Look, *, yes: bool, dry_run: bool) -> int:
    if not any(found.phases):
        output.note(f"there is nothing of a move from {old.host} to {new.host}")
        return 0
    if found.is_done:
        output.note(f"what was written on {new.host} since the move stays there, and is not on {old.host}")
        output.note(f"to keep it, move it instead: er server move {new.host} {old.host} --replace-data")
    if dry_run:
        return 0
    if not yes and not _confirmed(f"Stop {new.host}, and let {old.host} serve with its data as it was?"):
        return 1
    with Steps() as steps:
        timed = _Timed(steps)
        move.back(old, new, found, timed.reporter())
        timed.step("")
    output.note(f"{old.host} serves")
    return 0


def _gone(old: Remote, new: Remote, *, yes: bool) -> int:
    if not yes and not _confirmed(f"Is {new.host} gone for good? If it runs, two servers do everything twice."):
        return 1
    old.ask("move-resume", timeout=700)
    output.note(f"{old.host} serves")
    return 0


def _end(old: Remote, new: Remote, found: Look, end: dict[str, Any], *, as_json: bool) -> int:
    """What is left to do: records, host keys, and what only the admin knows."""
    addresses = site_answers.addresses(new, found.new)
    lines = host_keys.known_hosts(new.host, new.options, found.new["host_keys"])
    records = [
        {"domain": domain, "type": "AAAA" if ":" in address else "A", "address": address}
        for domain in found.old["domains"]
        for address in addresses
    ]
    if as_json:
        output.json({**end, "records": records, "known_hosts": lines})
    for line in _lines(old, new, end):
        output.note(line)
    output.note("change these DNS records now:")
    for record in records:
        output.note(f"  {record['domain']} {record['type']} {record['address']}")
    output.note(f"{new.host} has host keys of its own; for the known_hosts of who deploys:")
    output.note(lines.rstrip())
    return 0


def _lines(old: Remote, new: Remote, end: dict[str, Any]) -> Iterator[str]:
    if end.get("gap") is not None:
        yield f"{new.host} serves; nothing was served for {end['gap']} s, and {_size(end['bytes'])} were sent"
    yield from end.get("notes", ())
    for domain, what in end.get("certificates", {}).items():
        if what == "new":
            yield f"{domain} has another certificate than before"
    for stack, names in end.get("waiting", {}).items():
        ways = "; ".join(f"er server secret set {new.host} {stack} {name}" for name in names)
        yield f"{stack} waits for what only you know: {ways}"
    for stack, missing in end.get("logins", {}).items():
        yield from registries.waits(new.host, stack, missing)
    for stack, services in end.get("images", {}).items():
        for service in services:
            yield f"{stack}/{service} waits for its first image: er server push {new.host} {stack}/{service} IMAGE"
    yield f"{old.host} stays stopped, also after a reboot, and has its data as it was"
    yield f"to undo it: er server move {old.host} {new.host} --back"
