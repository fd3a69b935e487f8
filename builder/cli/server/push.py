"""`er server push`: an image that is here runs on the server, without a registry."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder import problem_report
from builder.cli import building, output
from builder.cli.options import AsJson, Host, SshOptions, asking, load, shared
from builder.cli.progress import Steps
from builder.cli.server.releases import follow, show_end

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.cli.building import Ready
    from builder.oci.local_images import LocalImage
    from builder.problems import UserError
    from builder.server.deploy_login import Login
    from builder.server.push import Missing, Progress
    from builder.spec import Spec


def command(
    host: Host,
    service: Annotated[str, typer.Argument(metavar="STACK[/SERVICE]", help="Whose image it is.")],
    image: Annotated[
        str,
        typer.Argument(
            metavar="IMAGE",
            help="An image of Docker or Podman here, an archive, or an OCI layout; without it, it is built.",
        ),
    ] = "",
    *,
    spec: Annotated[
        Path | None, typer.Option("--spec", metavar="SPEC", help="Whose `build:` counts; easyrunner.yaml by default.")
    ] = None,
    pull: Annotated[bool, typer.Option("--pull", help="Build without a cache, from the newest base images.")] = False,
    on_server: Annotated[bool, typer.Option("--on-server", help="Build it on the server, not here.")] = False,
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
    from builder.server import push, releases
    from builder.server.ssh import KeyChangedError, UnreachableError

    server = shared(asking(host, ssh))
    stack, _, name = service.partition("/")
    if not image:
        options = _Options(pull, on_server, dry_run, timeout, as_json)
        return _push_built(server, spec or Path("easyrunner.yaml"), stack, name, options)
    if spec or pull or on_server:
        raise typer.BadParameter("--spec, --pull and --on-server are for an image that is built: give no IMAGE")
    try:
        target = push.target(server, stack, name)
    except UnreachableError as error:
        if not dry_run or isinstance(error, KeyChangedError):
            raise
        return _unknown(host, service, image, error, as_json=as_json)
    with tempfile.TemporaryDirectory(prefix="er-push-") as scratch:
        found = engines.find(image, target.architecture, Path(scratch))
        missing = push.missing(server, stack, target.service, found, look=dry_run)
        summary = summary_of(found, missing)
        output.note(summary_text(f"{stack}/{target.service}", summary))
        if dry_run:
            if as_json:
                output.json({"phase": "dry run", "missing": [], **summary})
            return 0
        _send(server, stack, target.service, missing)
        pushed = push.finish(server, stack, target.service, found)
    end = follow(releases.switch(server, stack, {target.service: pushed}, source="push", timeout=timeout))
    if as_json:
        output.json({**end, "image": pushed, **summary})
    return show_end(host, stack, end, [target.service])


def _unknown(host: str, service: str, image: str, error: UserError, *, as_json: bool) -> int:
    """A dry run that cannot reach the server says what it would need."""
    output.note(f"what {host} lacks of {image} for {service} is unknown")
    output.missing([error])
    if as_json:
        output.json({"phase": "dry run", "missing": problem_report.missing([error])})
    return 0


def send_image(server: Login, stack: str, service: str, image: LocalImage, tag: str = "") -> str:
    """Send the layers of an image that the server lacks, and show that; the image's name there."""
    from builder.server import push

    missing = push.missing(server, stack, service, image)
    output.note(summary_text(f"{stack}/{service}", summary_of(image, missing)))
    _send(server, stack, service, missing)
    return push.finish(server, stack, service, image, tag)


def summary_of(image: LocalImage, missing: tuple[Missing, ...]) -> dict[str, Any]:
    """What would be sent, as data."""
    return {
        "id": image.id,
        "layers": len(image.layers),
        "bytes": sum(layer.size for layer in image.layers),
        "layers_missing": [{"digest": one.layer.digest, "size": one.layer.size, "here": one.here} for one in missing],
    }


def summary_text(service: str, summary: dict[str, Any]) -> str:
    """The same in words."""
    missing = summary["layers_missing"]
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


def _send(server: Login, stack: str, service: str, missing: tuple[Missing, ...]) -> None:
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


@dataclass(frozen=True, slots=True)
class _Options:
    """How a push without an image was asked for."""

    pull: bool
    on_server: bool
    dry_run: bool
    timeout: float
    as_json: bool


def _push_built(server: Login, path: Path, stack: str, service: str, options: _Options) -> int:
    """Build what the spec says of a stack, or of one service, and let it run that; the exit code."""
    spec = load(path)
    found = building.plan(server, spec, pull=options.pull, only=(stack, service), on_server=options.on_server)
    if found is None:
        return _nothing_to_build(spec, path, stack, service)
    building.show(found)
    if options.dry_run:
        if options.as_json:
            output.json({"phase": "dry run", "builds": building.summary(found)})
        return 0
    with building.built(found) as ready:
        ends = deliver(server, ready, options.timeout)
    if options.as_json:
        output.json({"phase": _phase(ends), "builds": building.summary(found), "releases": ends})
    return 0 if all(end["phase"] == "done" for end in ends.values()) else 1


def _nothing_to_build(spec: Spec, path: Path, stack: str, service: str) -> int:
    known = [one.name for one in spec.stacks]
    where = f"{stack}/{service}" if service else stack
    if stack not in known:
        output.failure(f"{path} has no stack {stack}", f"it has: {', '.join(known)}")
    else:
        output.failure(f"nothing of {where} is built", "name the IMAGE to push, or write build: into the spec")
    return 1


def _phase(ends: dict[str, dict[str, Any]]) -> str:
    """The worst of how the stacks' switches ended."""
    return next((end["phase"] for end in ends.values() if end["phase"] != "done"), "done")


def brought(server: Login, ready: Iterable[Ready]) -> dict[str, dict[str, str]]:
    """Send what the server lacks; by stack and service, the names of the images there."""
    images: dict[str, dict[str, str]] = {}
    for one in ready:
        stack, service = one.job.source.stack, one.job.source.service
        name = one.job.there
        if one.made is not None:
            name = send_image(server, stack, service, one.made.image, one.made.tag)
        elif not name:
            name = building.made_there(server, one.job)
        images.setdefault(stack, {})[service] = name
    return images


def deliver(server: Login, ready: Iterable[Ready], timeout: float) -> dict[str, dict[str, Any]]:
    """Send what the server lacks, and let each stack run all its images at once; how it ended, by stack."""
    from builder.server import releases

    ends = {}
    for stack, names in brought(server, ready).items():
        end = follow(releases.switch(server, stack, names, source="build", timeout=timeout))
        ends[stack] = {**end, "images": names}
        show_end(server.host, stack, end, names)
    return ends
