"""`er try`: boot the host here, from the user-data that a provider would get."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import building, output
from builder.cli.options import AsJson, SpecPath, load
from builder.cli.progress import NEXT, Steps, ending
from builder.cli.server import report
from builder.server import ssh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.lab.machine import Machine
    from builder.lab.trial import Plan, Ready
    from builder.spec import Spec

NAME = "try"
Rows = list[tuple[str, str]]


def command(
    path: SpecPath,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Give up after this long.")
    ] = 300,
    page: Annotated[
        str, typer.Option("--report", metavar="FILE", help="Examine it as er server report does; write the page here.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """Boot the host of SPEC on this machine (root, Linux): real cloud-init, real HTTPS; then take it away."""
    from builder.lab import trial

    if page:
        report.check(page, "", None)
    with tempfile.TemporaryDirectory(prefix="er-images-") as images:
        spec = building.with_archives(load(path), Path(images))
        write = partial(_report, spec=spec, file=page) if page else None
        result = _try(trial.plan(spec, timeout=timeout), write, keep=keep, as_json=as_json)
    return 0 if result is not None else 1


def _try(plan: Plan, write: Callable[[Ready], Rows] | None, *, keep: bool, as_json: bool) -> Ready | None:
    from builder.lab import events, trial

    ready = None
    with closing(trial.run(plan)) as stream, Steps() as steps:
        for event in stream:
            match event:
                case events.Started():
                    steps.start(event.step)
                case events.Ended():
                    steps.end(event.step, event.seconds)
                case trial.Answer():
                    steps.line(f"{event.url} answered {event.status}, {event.seconds:.1f} s after power-on")
                case trial.Ready():
                    ready = event
                    steps.stop()
                    rows = write(ready) if write else []
                    _show_and_keep(event, rows, as_json=as_json, keep=keep)
    return ready


@dataclass(frozen=True)
class _Entered:
    """A booted machine that takes the verbs of the remote part as a server does over ssh."""

    machine: Machine

    def ask(
        self,
        verb: str,
        *words: str,
        stdin: bytes | Iterable[bytes] = b"",
        fresh: bool = False,  # noqa: ARG002 - there is no connection
        compress: bool = False,  # noqa: ARG002
        timeout: float = 120,
    ) -> Any:
        """As `Remote.ask`."""
        digest, archive = ssh.package()
        given = archive + (stdin if isinstance(stdin, bytes) else b"".join(stdin))
        command = ssh.remote_command(digest, verb, words)
        done = self.machine.run(command, stdin=given, timeout=timeout, check=False)
        if done.returncode != 0:
            raise ssh.explain_failure(self.machine.id, done.returncode, done.stderr)
        return ssh.value(self.machine.id, done.stdout, "look at its console")


def _report(ready: Ready, *, spec: Spec, file: str) -> Rows:
    """Write the page of a rehearsal, whose machine has no disk for data; the rows for the ending."""
    rehearsed = replace(spec, data=None)
    found = report.gathered(_Entered(ready.machine), [ready.ipv4, ready.ipv6], rehearsed, rehearsal=True)
    return report.report(found, rehearsed, file)[1]


def _show_and_keep(ready: Ready, rows: Rows, *, as_json: bool, keep: bool) -> None:
    """Show the host, and with `keep` wait until Ctrl-C, which is the good end of one that is kept."""
    try:
        _show(ready, rows, as_json=as_json, keep=keep)
        while keep:
            time.sleep(3600)
    except KeyboardInterrupt:
        output.note("")


def _show(ready: Ready, rows: Rows, *, as_json: bool, keep: bool) -> None:
    if as_json:
        output.json(_as_json(ready))
        return
    ending((*rows, *_rows(ready, keep=keep)))


def _rows(ready: Ready, *, keep: bool) -> Iterator[tuple[str, str]]:
    for answer in ready.answers:
        yield "site", f"{answer.url}\n{ready.curl(answer)}"
    yield "CA", f"{ready.ca}, for a browser to trust"
    yield "hosts", f"{ready.hosts}, as a line of /etc/hosts"
    yield "shell", ready.shell
    yield "console", str(ready.console)
    yield NEXT, "Ctrl-C takes it away" if keep else "it works, and is taken away now; with --keep it stays until Ctrl-C"


def _as_json(ready: Ready) -> dict[str, object]:
    return {
        "id": ready.id,
        "ipv4": ready.ipv4,
        "ipv6": ready.ipv6,
        "ca": str(ready.ca),
        "shell": ready.shell,
        "console": str(ready.console),
        "phases": {ended.step: round(ended.seconds, 3) for ended in ready.steps},
        "sites": [
            {
                "stack": a.site.stack,
                "url": a.url,
                "status": a.status,
                "seconds": round(a.seconds, 3),
                "curl": ready.curl(a),
            }
            for a in ready.answers
        ],
    }
