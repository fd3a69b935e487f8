"""Bakes an image: what Packer will be given, and its run with what comes before and after, as a stream of events."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import host as hosts
from builder import imagecheck
from builder.host.model import Part
from builder.lab.events import Note
from builder.packer import artifact, build_local, credentials, program, run, upload_files, work_directory
from builder.packer.artifact import Baked
from builder.packer.build_log import Log
from builder.packer.leftovers import RESOURCES, Tracker
from builder.packer.request import (
    CHECKS,
    VARIABLE_PREFIX,
    check_image,
    check_packer,
    check_var_files,
    declared_variables,
    provider_variables,
    unique_name,
)
from builder.packer.run import Bake, Clock, Job
from builder.problems import UserError
from builder.process import terminable

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from builder.host.model import Host
    from builder.lab.events import Progress
    from builder.packer.artifact import Result
    from builder.packer.program import Packer
    from builder.packer.request import Request
    from builder.qemu.acceleration import Accelerator


def plan(request: Request) -> Job:
    """What Packer will be given. Raises UserError for what is missing; nothing is begun.

    Where it must be tried out first whether a virtual machine is fast here, this is for one that is.
    """
    for error in _missing(request):
        raise error
    packer = program.find()
    check_packer(request, packer)
    return _job(request, packer, build_local.variables(request) if request.local else provider_variables(request))


def plan_dry_run(request: Request) -> tuple[Job, tuple[UserError, ...]]:
    """The same to look at, and all that a bake would miss here. Raises UserError for what can be baked nowhere."""
    check_image(request)
    missing = list(_missing(request))
    try:
        packer = program.find()
        check_packer(request, packer)
    except UserError as error:
        missing.append(error)
        packer = program.assumed(request.target.packer)
    return _job(request, packer, _known_variables(request)), tuple(missing)


def _missing(request: Request) -> Iterator[UserError]:
    for check in (artifact.check_writable, *CHECKS, *((build_local.check,) if request.local else ())):
        try:
            check(request)
        except UserError as error:
            yield error


def _known_variables(request: Request) -> dict[str, Any]:
    """The values that are known here without the programs of a bake."""
    if not request.local:
        return provider_variables(request)
    try:
        return build_local.variables(request)
    except (UserError, OSError):
        return {}


def _job(request: Request, packer: Packer, values: Mapping[str, Any]) -> Job:
    server = request.spec.server
    upload = _upload(request)
    variables = {
        "source": request.target.label,
        "name": request.name if request.local else unique_name(request),
        "base": server.base,
        "arch": server.arch,
        **request.target.images[server.base, server.arch],
        **values,
    }
    files = work_directory.template(request.target.name, plugins=packer.takes_plugins)
    declared = declared_variables(files)
    check_var_files(request.var_files, declared)
    environment = dict(_environment(request, declared))
    job = Job(packer, files, upload, variables, request.var_files, environment, request.target)
    accelerator = build_local.known_accelerator(request) if request.local else None
    return build_local.for_builder(job, build_local.choose_builder(request, accelerator)) if accelerator else job


def _environment(request: Request, declared: frozenset[str]) -> Iterator[tuple[str, str]]:
    """Packer's environment, with the login; a variable of another template of the user's would be an error there."""
    for name, value in credentials.complete(request.target.name, request.environment).items():
        if name.removeprefix(VARIABLE_PREFIX) in declared or VARIABLE_PREFIX not in name:
            yield name, value


def _upload(request: Request) -> upload_files.Upload:
    # Only a machine on this one's network can use its mirror.
    sources = work_directory.local_sources(request.spec.server.base) if request.local else ""
    host = hosts.build(request.spec)
    return upload_files.collect(
        request.spec, host, check=_check_program(host), with_stacks=request.with_stacks, apt_sources=sources
    )


def _check_program(host: Host) -> bytes:
    """The program by which the image checks itself."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name, "check.pyz")
        imagecheck.bundle(bundle, host.only(Part.BAKED))
        return bundle.read_bytes()


_BUILDER_NAMES: Final = {"machine": "virtual machine", "container": "container"}


def bake(request: Request, job: Job, report: Callable[[str], None]) -> Generator[Progress, None, Result]:
    """Bake the image; the generator's value is the result. Closing it ends everything and leaves nothing but the log.

    `report` is for what must be said while it is being closed.
    """
    clock = Clock()
    if not request.local:
        return (yield from _in_work_directory(request, job, clock, report, _build_at_provider))
    accelerator = yield from build_local.choose_accelerator(request, clock)
    builder = build_local.choose_builder(request, accelerator)
    yield Note(f"accelerator    {accelerator}; the image is baked in a {_BUILDER_NAMES[builder]}")
    job = build_local.for_builder(job, builder)
    if request.reuse and (manifest := artifact.reusable(request, artifact.inputs(job, request))):
        return (yield from _reuse(request, manifest, accelerator, clock))
    build = partial(build_local.build, accelerator=accelerator, builder=builder)
    return (yield from _in_work_directory(request, job, clock, report, build))


def _reuse(
    request: Request, manifest: Mapping[str, Any], accelerator: Accelerator, clock: Clock
) -> Generator[Progress, None, Result]:
    """Take the image that is there, and prove it again."""
    bootable = request.verify and request.image_format.name in ("qcow2", "raw")
    booted = any(step["name"] == "first boot" for step in manifest["steps"])
    proof = None
    if bootable:
        proof = yield from build_local.verify(request, request.image, accelerator, clock, booted=booted)
    return artifact.reused(request, manifest, clock, proof)


def _in_work_directory(
    request: Request,
    job: Job,
    clock: Clock,
    report: Callable[[str], None],
    build: Callable[[Bake], Generator[Progress, None, Baked]],
) -> Generator[Progress, None, Result]:
    with (
        terminable(),
        work_directory.make(request.directory) as work,
        Log(request.log, job.hidden(), report) as log,
    ):
        bake = Bake(request, job, work, log, clock, report)
        with _logged_failure(log):
            baked = yield from build(bake)
            result = yield from clock.step("manifest", lambda: artifact.deliver(bake, baked))
    if not request.keep_log:
        log.remove()
    return result


@contextmanager
def _logged_failure(log: Log) -> Iterator[None]:
    """Write a failure to the log too, and say with it where the log is."""
    try:
        yield
    except UserError as error:
        log.write(f"error: {error.message}")
        if str(log.path) not in (error.hint or ""):
            error.hint = "; ".join(filter(None, (error.hint, f"the whole log: {log.path}")))
        raise


def _build_at_provider(bake: Bake) -> Generator[Progress, None, Baked]:
    """Run Packer against the provider's API; the image stays there, and its id comes back."""
    name = str(bake.job.variables["name"])
    yield from bake.clock.follow(run.init(bake.job, bake.work, bake.log))
    run.write_files(bake.job, bake.work)
    tracker = Tracker(RESOURCES.get(bake.request.target.name, ()), name)
    made = yield from bake.clock.follow(run.build(bake.job, bake.work, bake.log, bake.report, tracker))
    ids = tuple(one.values[0] for one in made.artifacts if one.key == "id" and one.values)
    return Baked(name, ids=ids, left=made.left)
