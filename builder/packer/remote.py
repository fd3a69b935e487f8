"""Bakes at a provider: the image is there, and what comes back is its id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import manifest
from builder.packer import job as jobs
from builder.packer.deliver import Baked

if TYPE_CHECKING:
    from collections.abc import Generator

    from builder.packer.run import Run
    from builder.packer.watch import Told


def bake(run: Run) -> Generator[Told, None, Baked]:
    """Run Packer. An image's name must be new at most providers, so the time is in it."""
    name = f"{run.order.name}-{manifest.now():%Y%m%d-%H%M%S}"
    jobs.lay(run.job, run.places, name=name)
    artifacts = yield from run.clock.through(jobs.run(run.job, run.places, run.log, run.tell))
    ids = tuple(artifact.values[0] for artifact in artifacts if artifact.key == "id" and artifact.values)
    return Baked(name, ids=ids)
