"""From an order to an image: Packer's run with what comes before and after it, as a stream of what is going on."""

from __future__ import annotations

import re
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import host as hosts
from builder import imagecheck, manifest
from builder.host.model import Part
from builder.packer import artifact, build_local, credentials, program, request, upload_files, work_directory
from builder.packer import request as orders
from builder.packer import run as jobs
from builder.packer.artifact import Baked
from builder.packer.leftovers import MADE, Leftovers
from builder.packer.log import Log
from builder.packer.progress import Clock, Run
from builder.packer.run import Job, Note
from builder.problems import UserError
from builder.process import terminable
from builder.qemu import acceleration

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from builder.host.model import Host
    from builder.packer.artifact import Result
    from builder.packer.program import Packer
    from builder.packer.request import Request
    from builder.packer.run import Told


_PREFIX: Final = "PKR_VAR_"

__all__ = ["bake", "outline", "plan"]

_IN: Final = {"machine": "virtual machine", "container": "container"}


def plan(order: Request) -> Job:
    """What Packer will be given. Raises UserError for what is lacking; nothing is begun.

    Where a trial has to tell first whether a virtual machine is fast here, this is for one that is.
    """
    for refusal in _refusals(order):
        raise refusal
    packer = program.find()
    orders.check_packer(order, packer)
    return _job(order, packer, build_local.variables(order) if order.local else request.provider_variables(order))


def outline(order: Request) -> tuple[Job, tuple[UserError, ...]]:
    """The same to look at, and all that a bake would lack here. Raises UserError for what can be baked nowhere."""
    orders.check_image(order)
    lacking = list(_refusals(order))
    try:
        packer = program.find()
        orders.check_packer(order, packer)
    except UserError as error:
        lacking.append(error)
        packer = program.assumed(order.target.packer)
    return _job(order, packer, _known(order)), tuple(lacking)


def _refusals(order: Request) -> Iterator[UserError]:
    for check in (artifact.check, *orders.CHECKS, *((build_local.check,) if order.local else ())):
        try:
            check(order)
        except UserError as error:
            yield error


def _known(order: Request) -> dict[str, Any]:
    """The values that this machine can tell without the programs of a bake."""
    if not order.local:
        return request.provider_variables(order)
    try:
        return build_local.variables(order)
    except (UserError, OSError):
        return {}


def _job(order: Request, packer: Packer, values: Mapping[str, Any]) -> Job:
    server = order.spec.server
    # Only a machine on this one's network can use its mirror.
    sources = work_directory.here(server.base) if order.local else ""
    host = hosts.build(order.spec)
    upload = upload_files.payload(
        order.spec, host, check=_check(host), with_stacks=order.with_stacks, apt_sources=sources
    )
    variables = {
        "source": order.target.label,
        "name": order.name if order.local else image_name(order),
        "base": server.base,
        "arch": server.arch,
        **order.target.images[server.base, server.arch],
        **values,
    }
    files = work_directory.template(packer, order.target.name)
    known = request.declared_variables(files)
    request.check_var_files(order.var_files, known)
    login = credentials.complete(order.target.name, order.environment)
    # A variable of another template of the user's is no mistake here, and would be one for Packer.
    environment = {
        name: value for name, value in login.items() if name.removeprefix(_PREFIX) in known or _PREFIX not in name
    }
    job = Job(packer, files, upload, variables, order.var_files, environment, order.target)
    found = build_local.known(order) if order.local else None
    return build_local.placed(job, build_local.builder(order, found)) if found else job


def bake(order: Request, job: Job, tell: Callable[[str], None]) -> Generator[Told, None, Result]:
    """Do it; the generator's value is the result. Closing it ends everything and leaves nothing but the log.

    `tell` is for what must be said while it is being closed.
    """
    clock = Clock()
    chosen: build_local.Builder = "machine"
    found = acceleration.emulation(order.spec.server.arch)
    if order.local:
        found = yield from build_local.accelerator(order, clock)
        chosen = build_local.builder(order, found)
        yield Note(f"accelerator    {found}; the image is baked in a {_IN[chosen]}")
        job = build_local.placed(job, chosen)
    if order.local and order.reuse and (old := artifact.reusable(order, artifact.inputs(job, order))):
        bootable = order.verify and order.form.name in ("qcow2", "raw")
        booted = any(step["name"] == "first boot" for step in old["steps"])
        proof = (yield from build_local.verify(order, order.image, found, clock, booted=booted)) if bootable else None
        return artifact.again(order, old, clock, proof)
    with (
        terminable(),
        work_directory.work_directory(order.directory) as places,
        Log(order.log, job.hidden(), tell) as log,
    ):
        run = Run(order, job, places, log, clock, tell)
        with _noted(log):
            baked = yield from (build_local.bake(run, found, chosen) if order.local else _bake_at_provider(run))
            result = yield from clock.phase("manifest", lambda: artifact.deliver(run, baked))
    if not order.keep_log:
        log.remove()
    return result


@contextmanager
def _noted(log: Log) -> Iterator[None]:
    """A failure stands in the log, and says where that is."""
    try:
        yield
    except UserError as error:
        log.write(f"error: {error.message}")
        if str(log.path) not in (error.hint or ""):
            error.hint = "; ".join(filter(None, (error.hint, f"the whole log: {log.path}")))
        raise


def _check(host: Host) -> bytes:
    """The program by which the image judges itself."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name, "check.pyz")
        imagecheck.bundle(bundle, host.only(Part.BAKED))
        return bundle.read_bytes()


_STAMP: Final = "%Y%m%d-%H%M%S"
_STAMPED: Final = re.compile(r"-\d{8}-\d{6}$")


def image_name(order: Request) -> str:
    """What the image will be called. It must be new at most providers, so the time is in it, and is never cut off."""
    stamp = f"{manifest.now():{_STAMP}}"
    room = order.target.longest - len(stamp) - 1
    return f"{order.name[:room].rstrip('-')}-{stamp}"


def stem(made: str) -> str:
    """The name without its time: what images of the same spec have in common."""
    return _STAMPED.sub("", made)


def _bake_at_provider(run: Run) -> Generator[Told, None, Baked]:
    """Run Packer."""
    name = str(run.job.variables["name"])
    yield from run.clock.through(jobs.init(run.job, run.places, run.log))
    jobs.lay(run.job, run.places)
    left = Leftovers(MADE.get(run.order.target.name, ()), name)
    made = yield from run.clock.through(jobs.run(run.job, run.places, run.log, run.tell, left))
    ids = tuple(artifact.values[0] for artifact in made.artifacts if artifact.key == "id" and artifact.values)
    return Baked(name, ids=ids, left=made.left)
