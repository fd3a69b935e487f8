"""From an order to an image: Packer's run with what comes before and after it, as a stream of what is going on."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from builder import host as hosts
from builder import hygiene
from builder.lab.signals import terminable
from builder.packer import deliver, find, inputs, local, payload, remote, sources_list, workdir
from builder.packer import order as orders
from builder.packer.clock import Clock
from builder.packer.job import Job
from builder.packer.log import Log
from builder.packer.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from builder.packer.deliver import Result
    from builder.packer.order import Order
    from builder.packer.watch import Told

__all__ = ["bake", "plan"]


def plan(order: Order) -> Job:
    """What Packer will be given. Raises UserError for what is lacking; nothing is begun."""
    orders.check(order)
    packer = find.find()
    server = order.spec.server
    # Only a machine on this one's network can use its mirror.
    sources = sources_list.here(server.base) if order.local else ""
    host = hosts.build(order.spec)
    upload = payload.payload(order.spec, host, check=_check(), with_stacks=order.with_stacks, apt_sources=sources)
    variables = {
        "source": order.target.label,
        "name": order.name,
        "base": server.base,
        "arch": server.arch,
        **order.target.images[server.base, server.arch],
    }
    files = workdir.template(packer, order.target.name)
    return Job(packer, files, upload, variables, order.var_files, order.environment)


def bake(order: Order, job: Job, tell: Callable[[str], None]) -> Generator[Told, None, Result]:
    """Do it; the generator's value is the result. Closing it ends everything and leaves nothing but the log.

    `tell` is for what must be said while it is being closed.
    """
    clock, made_from = Clock(), inputs.of(job, order)
    if order.local and order.reuse and (old := deliver.reusable(order, made_from)):
        yield from local.verify(order, order.image, clock)
        return deliver.again(order, old, clock)
    with terminable(), workdir.work_directory(order.directory) as places, Log(order.log, job.hidden()) as log:
        run = Run(order, job, places, log, clock, tell)
        baked = yield from (local if order.local else remote).bake(run)
        result = yield from clock.phase("manifest", lambda: deliver.deliver(run, baked))
    if not order.keep_log:
        order.log.unlink(missing_ok=True)
    return result


def _check() -> bytes:
    """The program by which the image judges itself."""
    with tempfile.TemporaryDirectory() as name:
        bundle = Path(name, "check.pyz")
        hygiene.bundle(bundle)
        return bundle.read_bytes()
