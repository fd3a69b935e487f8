"""Waiting for AWS: how often to ask, how often to try again, and when to stop."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from builder.aws.errors import AwsError
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pace:
    """`attempts` of what may pass when repeated, `pause` seconds before the second; `longest` between two looks."""

    attempts: int = 5
    pause: float = 0.5
    longest: float = 5.0


PACE: Final = Pace()


class NotInTimeError(UserError):
    """Something did not come true in time; the server goes on by itself."""


class Clock:
    """The time that a command has."""

    def __init__(self, timeout: float, pace: Pace) -> None:
        self.pace = pace
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds."""
        return max(self._deadline - time.monotonic(), 0.0)

    def until(self, condition: Callable[[], T], what: str) -> T:
        """What the condition returns once that is true; asked ever more slowly. Raises NotInTimeError."""
        pause = min(self.pace.pause, self.pace.longest)
        while not (result := condition()):
            if not self.left:
                raise NotInTimeError(f"waited {self._timeout:.0f} s in vain for {what}")
            time.sleep(min(pause, self.left))
            pause = min(pause * 1.5, self.pace.longest)
        return result


def persist(work: Callable[[], T], pace: Pace, tell: Callable[[str], object]) -> T:
    """Do `work`, which looks before it makes anything, again while its failure may pass."""
    for attempt in range(1, pace.attempts + 1):
        try:
            return work()
        except AwsError as error:
            if attempt == pace.attempts:
                # Whoever repeats what this was a part of need not begin again.
                error.transient = False
            if not error.transient:
                raise
            tell(f"{error.message}; trying again ({attempt} of {pace.attempts - 1})")
            time.sleep(pace.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1))  # noqa: S311 - spreads the load
    raise AssertionError
