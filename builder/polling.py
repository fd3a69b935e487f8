"""Waiting for a condition: never longer than needed, never for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
_FIRST: Final = 0.01
_LONGEST: Final = 0.2


class NotInTimeError(UserError):
    """A condition did not come true in time."""


def until(condition: Callable[[], T], *, timeout: float, what: str, longest: float = _LONGEST) -> T:
    """Wait until `condition` returns something true, and return it. Raises NotInTimeError after `timeout` seconds.

    It is called ever more slowly, at least every `longest` seconds; `what` is for the error.
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST
    while not (result := condition()):
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotInTimeError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(min(pause, left))
        pause = min(pause * 1.3, longest)
    return result
