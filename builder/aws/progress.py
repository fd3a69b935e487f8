"""How work is told while it goes on; the command line's Steps are one."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Progress(Protocol):
    """Steps with a beginning and an end, and lines in between."""

    def start(self, step: str) -> None:
        """A step has begun."""

    def end(self, step: str, seconds: float) -> None:
        """The step is over."""

    def line(self, text: str) -> None:
        """Something worth a line."""


class Timed:
    """Tells steps, and keeps how long each took."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """One step; an error ends it untold."""
        self._progress.start(name)
        since = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - since
        self._progress.end(name, self.seconds[name])

    def line(self, text: str) -> None:
        """Something worth a line."""
        self._progress.line(text)
