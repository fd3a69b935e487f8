"""What commands do with services that are built: say what would be, build it here, and bring it to the server."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli import output
from builder.cli.server import push as pushing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.imagebuild.build_programs import Program
    from builder.imagebuild.make import Made, Source
    from builder.server import Remote
    from builder.spec import Spec
    from builder.stack.model import Service, Stack


@dataclass(frozen=True, slots=True)
class Job:
    """What is to happen to a service: nothing where it `runs` what it should, a switch to an image that is `there`.

    Everything else is built, `anew` without a cache.
    """

    source: Source
    runs: bool = False
    there: str = ""
    anew: bool = False

    @property
    def name(self) -> str:
        """As in blog/web."""
        return f"{self.source.stack}/{self.source.service}"

    @property
    def words(self) -> str:
        """What is to happen, in words."""
        if self.runs:
            return f"runs what it is built from ({self.source.digest})"
        if self.there:
            return f"goes back to what it was built from before: {self.there}"
        return f"is to be built{' anew' if self.anew else ''} ({self.source.digest})"


@dataclass(frozen=True, slots=True)
class Plan:
    """What builds here, and what for."""

    program: Program
    jobs: tuple[Job, ...]

    @property
    def changes(self) -> tuple[Job, ...]:
        """Those that change what runs."""
        return tuple(job for job in self.jobs if not job.runs)


def is_built(image: str) -> bool:
    """Whether a unit names this image because it is built: a release always stands in its place."""
    return image.startswith("localhost/") and ":" not in image


def plan(server: Remote, spec: Spec, *, pull: bool = False, only: tuple[str, str] | None = None) -> Plan | None:
    """What is to be built for a server; None where nothing of the spec is. `only` one stack, or a service of it.

    `pull`: whatever has changed, everything is built anew. Raises UserError.
    """
    from builder.imagebuild import make

    chosen = [
        (stack, service)
        for stack, service in make.services(spec.stacks)
        if only is None or (stack.name == only[0] and only[1] in {"", service.name})
    ]
    if not chosen:
        return None
    program, sources = _sources(spec, chosen)
    known: dict[str, list[dict[str, Any]]] = {}
    for source in sources:
        if source.stack not in known:
            known[source.stack] = _releases(server, source.stack)
    return Plan(program, tuple(_job(source, known[source.stack], pull=pull) for source in sources))


def _sources(spec: Spec, chosen: Iterable[tuple[Stack, Service]]) -> tuple[Program, list[Source]]:
    from builder.imagebuild import build_programs, make

    program, found = build_programs.find(), []
    for stack, service in chosen:
        if service.build is not None:
            platform = make.platform_of(service, spec.server.arch)
            source = make.read(program, stack.name, service.name, service.build, platform)
            _tell(source)
            found.append(source)
    return program, found


def _tell(source: Source) -> None:
    """Say what may surprise: files that are left out, and emulation."""
    from builder.imagebuild import ignored, make

    if source.context.withheld:
        names = ", ".join(source.context.withheld)
        output.note(
            f"{source.stack}/{source.service}: {names} is no part of the build, it may hold passwords;"
            f" `!{source.context.withheld[0]}` in {ignored.NAMES[0]} brings it in"
        )
    if make.is_emulated(source.platform):
        output.note(f"{source.stack}/{source.service}: programs of {source.platform} are emulated here, which is slow")


def _releases(server: Remote, stack: str) -> list[dict[str, Any]]:
    """The releases of a stack, the newest first; none of one that the server does not have yet."""
    from builder.problems import UserError
    from builder.server import releases
    from builder.server.ssh import UnreachableError

    try:
        return releases.releases(server, stack)
    except UnreachableError:
        raise
    except UserError:
        return []


def _job(source: Source, releases: list[dict[str, Any]], *, pull: bool) -> Job:
    now = time.time()
    names = [one["images"].get(source.service, {}).get("image", "") for one in releases]
    good = [name for name in names if source.is_current(name, now)]
    if pull or not good:
        same = any(f":{source.digest}-" in name for name in names[:1])
        return Job(source, anew=pull or same)
    return Job(source, runs=True) if names[0] in good else Job(source, there=good[0])


def show(found: Plan) -> None:
    """A line for each service."""
    for job in found.jobs:
        output.note(f"{job.name} {job.words}")


@dataclass(frozen=True, slots=True)
class Ready:
    """What a service is to run: an image that was made here, or one that the server has."""

    job: Job
    made: Made | None


@contextmanager
def built(found: Plan | None) -> Iterator[tuple[Ready, ...]]:
    """Build what is to be built, one after the other; the images are there as long as the block is.

    Raises UserError.
    """
    if found is None or not found.changes:
        yield ()
        return
    with tempfile.TemporaryDirectory(prefix="er-images-") as name:
        directory = Path(name)
        yield tuple(Ready(job, None if job.there else _made(found.program, job, directory)) for job in found.changes)


def _made(program: Program, job: Job, directory: Path) -> Made:
    from builder.imagebuild import make

    output.note(f"{job.name}: {program.name} builds it")
    since = time.monotonic()
    lines = make.make(program, job.source, directory, anew=job.anew)
    while True:
        try:
            output.note(f"  {next(lines)}", "dim")
        except StopIteration as end:
            found: Made = end.value
            output.note(f"{job.name}: built in {time.monotonic() - since:.1f} s, {found.tag}")
            return found


def deliver(server: Remote, ready: Iterable[Ready], timeout: float) -> dict[str, dict[str, Any]]:
    """Send what the server lacks, and let each stack run all its images at once; how it ended, by stack."""
    from builder.server import releases

    images: dict[str, dict[str, str]] = {}
    for one in ready:
        stack, service = one.job.source.stack, one.job.source.service
        name = one.job.there
        if one.made is not None:
            name = pushing.send_image(server, stack, service, one.made.image, one.made.tag)
        images.setdefault(stack, {})[service] = name
    ends = {}
    for stack, names in images.items():
        end = pushing.show_states(releases.switch(server, stack, names, source="build", timeout=timeout))
        ends[stack] = {**end, "images": names}
        for service, name in names.items():
            pushing.show_result(f"{stack}/{service}", name, end)
    return ends


@dataclass(frozen=True, slots=True)
class Options:
    """How a push without an image was asked for."""

    pull: bool
    dry_run: bool
    timeout: float
    as_json: bool


def push(server: Remote, path: Path, stack: str, service: str, options: Options) -> int:
    """Build what the spec says of a stack, or of one service, and let it run that; the exit code."""
    from builder.cli.options import load

    spec = load(path)
    found = plan(server, spec, pull=options.pull, only=(stack, service))
    if found is None:
        return _nothing_to_build(spec, path, stack, service)
    show(found)
    if options.dry_run:
        if options.as_json:
            output.json({"phase": "dry run", "builds": summary(found)})
        return 0
    with built(found) as ready:
        ends = deliver(server, ready, options.timeout)
    if options.as_json:
        output.json({"phase": _phase(ends), "builds": summary(found), "releases": ends})
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


def summary(found: Plan | None) -> list[dict[str, Any]]:
    """The same as data."""
    return [
        {
            "service": job.name,
            "state": "runs" if job.runs else "there" if job.there else "build",
            "digest": job.source.digest,
            "image": job.there,
            "bases": dict(job.source.images),
        }
        for job in (found.jobs if found else ())
    ]


def with_archives(spec: Spec, directory: Path, chosen: Callable[[Stack], bool] = lambda _: True) -> Spec:
    """The spec with an archive in `directory` for each service that is built. Raises UserError."""
    from builder.imagebuild import make

    every = [pair for pair in make.services(spec.stacks) if chosen(pair[0])]
    if not every:
        return spec
    program, sources = _sources(spec, every)
    archives = {(one.stack, one.service): _archive(program, one, directory) for one in sources}

    def changed(stack: Stack, service: Service) -> Service:
        archive = archives.get((stack.name, service.name))
        return replace(service, build=replace(service.build, archive=archive)) if archive and service.build else service

    stacks = (replace(stack, services=tuple(changed(stack, one) for one in stack.services)) for stack in spec.stacks)
    return replace(spec, stacks=tuple(stacks))


def _archive(program: Program, source: Source, directory: Path) -> Path:
    from builder.imagebuild import oci_archive

    made = _made(program, Job(source), directory)
    target = directory / f"{made.archive.stem}.oci.tar"
    oci_archive.write(made.image, target)
    made.archive.unlink()
    return target
