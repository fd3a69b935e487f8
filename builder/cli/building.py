"""What commands do with services that are built: say what would be, and build it here."""

from __future__ import annotations

import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.cli import output
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.imagebuild.build_programs import Program
    from builder.imagebuild.make import Made, Source
    from builder.server.deploy_login import Login
    from builder.server.push import Target
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
    """What builds here, or None where the server does, and what for."""

    program: Program | None
    jobs: tuple[Job, ...]

    @property
    def changes(self) -> tuple[Job, ...]:
        """Those that change what runs."""
        return tuple(job for job in self.jobs if not job.runs)


def is_built(image: str) -> bool:
    """Whether a unit names this image because it is built: a release always stands in its place."""
    return image.startswith("localhost/") and ":" not in image


def plan(
    server: Login,
    spec: Spec,
    *,
    pull: bool = False,
    only: tuple[str, str] | None = None,
    on_server: bool = False,
) -> Plan | None:
    """What is to be built for a server; None where nothing of the spec is. `only` one stack, or a service of it.

    `pull`: whatever has changed, everything is built anew. `on_server`: there, and not here. Raises UserError.
    """
    from builder.imagebuild import build_programs, make

    chosen = [
        (stack, service)
        for stack, service in make.services(spec.stacks)
        if only is None or (stack.name == only[0] and only[1] in {"", service.name})
    ]
    if not chosen:
        return None
    program = None if on_server else build_programs.find()
    sources = _sources(program, spec, chosen)
    known: dict[str, list[dict[str, Any]]] = {}
    for source in sources:
        if source.stack not in known:
            known[source.stack] = _releases(server, source.stack)
    return Plan(program, tuple(_job(source, known[source.stack], pull=pull) for source in sources))


def plan_of(server: Login, stack: str, target: Target, directory: Path, *, on_server: bool = False) -> Plan:
    """What is to be built of a directory for one service, without a spec. Raises UserError."""
    from builder.imagebuild import build_programs, make
    from builder.oci import containerfile
    from builder.stack.model import Build

    name = containerfile.find(directory)
    if name is None:
        names = " or ".join(containerfile.NAMES)
        raise UserError(f"{directory} has no {names}", "name the directory that has one, or an image: --image REF")
    program, build = None if on_server else build_programs.find(), Build(directory, name)
    source = make.read(program, stack, target.service, build, f"linux/{target.architecture}")
    _tell(source, here=program is not None)
    return Plan(program, (_job(source, _releases(server, stack), pull=False),))


def _sources(program: Program | None, spec: Spec, chosen: Iterable[tuple[Stack, Service]]) -> list[Source]:
    from builder.imagebuild import make

    found = []
    for stack, service in chosen:
        if service.build is not None:
            platform = make.platform_of(service, spec.server.arch)
            source = make.read(program, stack.name, service.name, service.build, platform)
            _tell(source, here=program is not None)
            found.append(source)
    return found


def _tell(source: Source, *, here: bool) -> None:
    """Say what may surprise: files that are left out, and emulation."""
    from builder.imagebuild import ignored, make

    if source.context.withheld:
        names = ", ".join(source.context.withheld)
        output.note(
            f"{source.stack}/{source.service}: {names} is no part of the build, it may hold passwords;"
            f" `!{source.context.withheld[0]}` in {ignored.NAMES[0]} brings it in"
        )
    if here and make.is_emulated(source.platform):
        output.note(f"{source.stack}/{source.service}: programs of {source.platform} are emulated here, which is slow")


def _releases(server: Login, stack: str) -> list[dict[str, Any]]:
    """The releases of a stack, the newest first; none of one that the server does not have yet."""
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
    """What a service is to run: an image that was made here, or one that the server has or makes."""

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
        program = found.program
        yield tuple(
            Ready(job, None if job.there or program is None else _made(program, job, directory))
            for job in found.changes
        )


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


def made_there(server: Login, job: Job) -> str:
    """Send what a service is built from, and show what the server's build prints; the image's name there."""
    from builder.server import image_builds

    source, context = job.source, job.source.context.tar()
    request = image_builds.request(source.build, source.digest, source.max_age)
    output.note(f"{job.name}: the server builds it, of {len(context) / 1e6:.1f} MB")
    since = time.monotonic()
    steps = image_builds.build(server, source.stack, source.service, replace(request, anew=job.anew), context)
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            image: str = end.value
            output.note(f"{job.name}: built in {time.monotonic() - since:.1f} s, {image.rpartition(':')[2]}")
            return image
        for line in step.text.splitlines() or [step.waiting]:
            output.note(f"  {line}", "dim")


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
    from builder.imagebuild import build_programs, make

    every = [pair for pair in make.services(spec.stacks) if chosen(pair[0])]
    if not every:
        return spec
    program = build_programs.find()
    sources = _sources(program, spec, every)
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
