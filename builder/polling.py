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
# Of what was waited so far. Who has waited for long need not ask often: asking may start a program.
_SHARE: Final = 0.05
_SLOWEST: Final = 1.0


class NotInTimeError(UserError):
    """A condition did not come true in time."""


def until(condition: Callable[[], T], *, timeout: float, what: str, longest: float | None = None) -> T:
    """Wait until `condition` returns something true, and return it. Raises NotInTimeError after `timeout` seconds.

    It is called ever more slowly, at least every `longest` seconds; unless said, that grows with what was waited.
    `what` is for the error.
    """
    start = time.monotonic()
    pause = _FIRST
    while not (result := condition()):
        waited = time.monotonic() - start
        if waited >= timeout:
            raise NotInTimeError(f"waited {timeout:.0f} s in vain for {what}")
        time.sleep(min(pause, timeout - waited))
        pause = min(pause * 1.3, longest or max(_LONGEST, min(waited * _SHARE, _SLOWEST)))
    return result
