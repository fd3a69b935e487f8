"""What the parts of one bake share while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.packer.clock import Clock
    from builder.packer.job import Job
    from builder.packer.log import Log
    from builder.packer.request import Order
    from builder.packer.work_directory import Places


@dataclass(frozen=True, slots=True)
class Run:
    """One bake under way. `tell` is for what must be said while it is being given up."""

    order: Order
    job: Job
    places: Places
    log: Log
    clock: Clock
    tell: Callable[[str], None]
