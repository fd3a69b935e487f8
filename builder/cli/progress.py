"""Progress of long work: a line for each step; on a terminal with a spinner and the elapsed time while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from builder.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from rich.status import Status
    from rich.text import Text


# Of `first boot of the new one`: the times of all commands stand below each other.
_STEP_WIDTH = 25


class _RunningStep:
    """The text beside the spinner; rendered again each time that turns."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.detail = ""
        self._since = time.monotonic()

    def __rich__(self) -> Text:
        from rich.text import Text

        seconds = time.monotonic() - self._since
        line = Text(f"{self.step} … {seconds:.0f} s")
        if self.detail:
            line.append(f"  {self.detail}", style="dim")
        line.truncate(max(output.console.width - 4, 20), overflow="ellipsis")
        return line


class Steps:
    """Shows one step at a time; a context manager, so that no error leaves a spinner behind."""

    def __init__(self) -> None:
        self._status: Status | None = None
        self._running: _RunningStep | None = None
        self._begun: tuple[str, float] | None = None  # by `next`

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._end_begun()
        self.stop()

    def next(self, step: str) -> None:
        """A step has begun, and so the one before is over; the last one ends with the block."""
        self._end_begun()
        self._begun = (step, time.monotonic())
        self.start(step)

    def _end_begun(self) -> None:
        if self._begun:
            step, since = self._begun
            self._begun = None
            self.end(step, time.monotonic() - since)

    def start(self, step: str) -> None:
        """A step has begun."""
        if output.console.is_terminal:
            from rich.status import Status

            self._running = _RunningStep(step)
            self._status = Status(self._running, console=output.console)
            self._status.start()

    def end(self, step: str, seconds: float) -> None:
        """The step is over."""
        self.stop()
        output.note(f"  {step:<{_STEP_WIDTH}} {seconds:6.1f} s")

    def line(self, text: str) -> None:
        """Print a line while a step goes on."""
        output.note(f"  {text}")

    def detail(self, text: str) -> None:
        """What the step is doing just now, shown on a terminal only."""
        if self._running is not None:
            self._running.detail = text

    def stop(self) -> None:
        """Remove the spinner."""
        if self._status:
            self._status.stop()
            self._status = self._running = None


NEXT = "next"
_LABEL_WIDTH = 9


def ending(rows: Iterable[tuple[str, str]]) -> None:
    """What there is at the end of a command that takes steps, and what to do next, a line each after a blank one.

    A row is a word for what it is (`server`, `site`, `image`) and its text; `next` is what to do, and comes last.
    """
    from rich.text import Text

    every = [*rows]
    if not every:
        return
    output.note("")
    for label, text in (*(row for row in every if row[0] != NEXT), *(row for row in every if row[0] == NEXT)):
        for number, line in enumerate(text.split("\n")):
            shown = "" if number else label
            output.console.print(Text.assemble("  ", (f"{shown:<{_LABEL_WIDTH}}", "bold"), " ", line))


_BAR_WIDTH = 20


def size_bar(used: int, limit: int | None) -> str:
    """`[#####---------------] 4,096 of 16,384 bytes, 25%`; without a limit only the size."""
    if limit is None:
        return f"{used:,} bytes, no limit"
    filled = min(-(-used * _BAR_WIDTH // limit), _BAR_WIDTH)
    return f"[{'#' * filled:-<{_BAR_WIDTH}}] {used:,} of {limit:,} bytes, {used / limit:.0%}"


def follow(states: Iterator[dict[str, Any]], lines: Callable[[dict[str, Any]], Iterable[str]]) -> dict[str, Any]:
    """Show each state of a change as a step, with what `lines` says of it; returns the last one."""
    since = time.monotonic()
    state: dict[str, Any] = {}
    with Steps() as steps:
        for new in states:
            if state:
                steps.end(state["phase"], time.monotonic() - since)
            state, since = new, time.monotonic()
            for line in lines(state):
                steps.line(line)
            steps.start(state["phase"])
    return state
