"""`er server push`: an image that is here runs on the server, without a registry."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli import output
from builder.cli.options import AsJson, Host, SshOptions, remote
from builder.cli.progress import Steps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.oci.local_images import LocalImage
    from builder.server import Remote
    from builder.server.push import Missing, Progress


def command(
    host: Host,
    service: Annotated[str, typer.Argument(metavar="STACK[/SERVICE]", help="Whose image it is.")],
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="An image of Docker or Podman here, an archive, or an OCI layout.")
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be sent and change nothing.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=10, metavar="SECONDS", help="Take it back when not ready by then.")
    ] = 300,
    ssh: SshOptions = None,
    as_json: AsJson = False,
) -> int:
    """Send an image that is here, only the layers that the server lacks, and let the service run it.

    What does not come up is taken back by itself. After a cut the same command goes on where it stopped.
    """
    from builder.oci import engines
    from builder.server import push

    server = remote(host, ssh)
    stack, _, name = service.partition("/")
    target = push.target(server, stack, name)
    with tempfile.TemporaryDirectory(prefix="er-push-") as scratch:
        found = engines.find(image, target.architecture, Path(scratch))
        missing = push.missing(server, stack, target.service, found, look=dry_run)
        summary = _summary(found, missing)
        output.note(_summary_text(f"{stack}/{target.service}", summary))
        if dry_run:
            if as_json:
                output.json({"phase": "dry run", **summary})
            return 0
        _send(server, stack, target.service, missing)
        pushed = push.finish(server, stack, target.service, found)
    end = _switch(server, stack, target.service, pushed, timeout)
    if as_json:
        output.json({**end, "image": pushed, **summary})
    return _show_result(f"{stack}/{target.service}", pushed, end)


def _summary(image: LocalImage, missing: tuple[Missing, ...]) -> dict[str, Any]:
    return {
        "id": image.id,
        "layers": len(image.layers),
        "bytes": sum(layer.size for layer in image.layers),
        "missing": [{"digest": one.layer.digest, "size": one.layer.size, "here": one.here} for one in missing],
    }


def _summary_text(service: str, summary: dict[str, Any]) -> str:
    missing = summary["missing"]
    left = sum(one["size"] - one["here"] for one in missing)
    lacks = f"the server lacks {len(missing)}, {_size(left)}" if left else "the server has them all"
    cut = " of a push that was cut" if any(one["here"] for one in missing) else ""
    count = f"{summary['layers']} layers" if summary["layers"] > 1 else "1 layer"
    whole = f"{count} of {_size(summary['bytes'])} in all"
    return f"{service}: image {summary['id'][:12]}, {whole}; {lacks}{cut}"


def _size(count: float) -> str:
    """Of bytes, in words."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB"):
        count /= 1000
        if count < 1000:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} GB"


def _send(server: Remote, stack: str, service: str, missing: tuple[Missing, ...]) -> None:
    from builder.server import push

    if not missing:
        return
    since = time.monotonic()
    with Steps() as steps:

        def show(progress: Progress) -> None:
            of = f"{_size(progress.sent)} of {_size(progress.bytes)}"
            steps.detail(f"{of}, {progress.sent / progress.bytes:.0%}, layer {progress.layer} of {progress.layers}")

        steps.start("sending")
        try:
            push.send(server, stack, service, missing, show)
        except KeyboardInterrupt:
            output.note("what has arrived stays there for a day: the same command goes on where it stopped")
            raise
        steps.end("sending", time.monotonic() - since)


def _switch(server: Remote, stack: str, service: str, image: str, timeout: float) -> dict[str, Any]:
    from builder.server import releases

    states = releases.switch(server, stack, {service: image}, source="push", timeout=timeout)
    try:
        return _show_states(states)
    except KeyboardInterrupt:
        output.note(f"the server goes on by itself; how it ended: er server status {server.host}")
        raise


def _show_states(states: Iterator[dict[str, Any]]) -> dict[str, Any]:
    since = time.monotonic()
    state: dict[str, Any] = {}
    with Steps() as steps:
        for new in states:
            if state:
                steps.end(state["phase"], time.monotonic() - since)
            state, since = new, time.monotonic()
            if holder := state.get("holder"):
                steps.line(f"{holder} goes first")
            steps.start(state["phase"])
    return state


def _show_result(service: str, image: str, end: dict[str, Any]) -> int:
    if end["phase"] == "done":
        number = end.get("release", {}).get("number")
        output.note(f"{service} runs {image}" + (f", release {number}" if number else ""))
        return 0
    said = "\n  ".join(["its containers said:", *end["said"]]) if end.get("said") else None
    if end["phase"] == "rolled back":
        output.failure(f"{service} did not come up and runs what it ran before: {end['why']}", said)
    else:
        then = f"; then: {end['then']}" if end.get("then") else ""
        output.failure(f"{service}: the switch failed: {end.get('why')}{then}", said or "see er server doctor")
    return 1
