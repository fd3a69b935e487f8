"""What the parts of one bake share while it runs."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from builder.lab.events import Ended, Started
from builder.manifest import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from builder.packer.log import Log
    from builder.packer.request import Request
    from builder.packer.run import Job, Told
    from builder.packer.work_directory import Places


@dataclass(frozen=True, slots=True)
class Run:
    """One bake under way. `tell` is for what must be said while it is being given up."""

    order: Request
    job: Job
    places: Places
    log: Log
    clock: Clock
    tell: Callable[[str], None]


T = TypeVar("T")


class Clock:
    """`steps` are those that are over, in order."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def phase(self, name: str, work: Callable[[], T]) -> Generator[Told, None, T]:
        """Work that says nothing while it goes on."""
        yield Started(name)
        since = time.monotonic()
        result = work()
        yield self._end(Ended(name, time.monotonic() - since))
        return result

    def through(self, events: Generator[Told, None, T]) -> Generator[Told, None, T]:
        """Work that tells its own phases; closed when this is."""
        with closing(events):
            while True:
                try:
                    told = next(events)
                except StopIteration as end:
                    result: T = end.value
                    return result
                yield self._end(told) if isinstance(told, Ended) else told

    def _end(self, ended: Ended) -> Ended:
        self.steps.append(Step(ended.step, ended.seconds))
        return ended
