"""`er try`: boot the host here, from the user-data that a provider would get."""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import building, output
from builder.cli.options import AsJson, SpecPath, load
from builder.cli.progress import Steps

if TYPE_CHECKING:
    from builder.lab.trial import Plan, Ready

NAME = "try"


def command(
    path: SpecPath,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running until Ctrl-C.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, metavar="SECONDS", help="Give up after this long.")
    ] = 300,
    as_json: AsJson = False,
) -> int:
    """Boot the host of SPEC on this machine (root, Linux): real cloud-init, real HTTPS; then take it away."""
    from builder.lab import trial

    with tempfile.TemporaryDirectory(prefix="er-images-") as images:
        spec = building.with_archives(load(path), Path(images))
        result = _try(trial.plan(spec, timeout=timeout), keep=keep, as_json=as_json)
    return 0 if result is not None else 1


def _try(plan: Plan, *, keep: bool, as_json: bool) -> Ready | None:
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
                    _show_and_keep(event, as_json=as_json, keep=keep)
    return ready


def _show_and_keep(ready: Ready, *, as_json: bool, keep: bool) -> None:
    """Show the host, and with `keep` wait until Ctrl-C, which is the good end of one that is kept."""
    try:
        _show(ready, as_json=as_json, keep=keep)
        while keep:
            time.sleep(3600)
    except KeyboardInterrupt:
        output.note("")


def _show(ready: Ready, *, as_json: bool, keep: bool) -> None:
    if as_json:
        output.json(_as_json(ready))
        return
    output.note("")
    for answer in ready.answers:
        output.note(f"  {answer.url}\n    {ready.curl(answer)}")
    output.note(f"\n  CA to trust   {ready.ca}\n  /etc/hosts    {ready.hosts}\n  shell         {ready.shell}")
    output.note(f"  console       {ready.console}\n")
    output.note(
        "Ctrl-C takes it away." if keep else "It works, and is taken away now; with --keep it stays until Ctrl-C."
    )


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
