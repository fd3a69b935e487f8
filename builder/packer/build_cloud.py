"""Bakes at a provider: the image is there, and what comes back is its id."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from builder import manifest
from builder.packer import run as jobs
from builder.packer.artifact import Baked
from builder.packer.leftovers import MADE, Leftovers

if TYPE_CHECKING:
    from collections.abc import Generator

    from builder.packer.progress import Run
    from builder.packer.request import Request
    from builder.packer.run import Told


_STAMP: Final = "%Y%m%d-%H%M%S"
_STAMPED: Final = re.compile(r"-\d{8}-\d{6}$")


def name(order: Request) -> str:
    """What the image will be called. It must be new at most providers, so the time is in it, and is never cut off."""
    stamp = f"{manifest.now():{_STAMP}}"
    room = order.target.longest - len(stamp) - 1
    return f"{order.name[:room].rstrip('-')}-{stamp}"


def stem(made: str) -> str:
    """The name without its time: what images of the same spec have in common."""
    return _STAMPED.sub("", made)


def bake(run: Run) -> Generator[Told, None, Baked]:
    """Run Packer."""
    name = str(run.job.variables["name"])
    yield from run.clock.through(jobs.init(run.job, run.places, run.log))
    jobs.lay(run.job, run.places)
    left = Leftovers(MADE.get(run.order.target.name, ()), name)
    made = yield from run.clock.through(jobs.run(run.job, run.places, run.log, run.tell, left))
    ids = tuple(artifact.values[0] for artifact in made.artifacts if artifact.key == "id" and artifact.values)
    return Baked(name, ids=ids, left=made.left)
