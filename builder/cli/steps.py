"""Progress of long work: a line for each step, alive with its elapsed time on a terminal, plain elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from builder.cli.say import say

if TYPE_CHECKING:
    from types import TracebackType

    from rich.status import Status


class Steps:
    """Shows one step at a time; a context manager, so that an error does not leave a spinner behind."""

    def __init__(self) -> None:
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, step: str) -> None:
        """A step has begun."""
        if say.console.is_terminal:
            from rich.status import Status

            self._status = Status(f"{step} …", console=say.console)
            self._status.start()

    def end(self, step: str, seconds: float) -> None:
        """The step is over."""
        self.stop()
        say.note(f"  {step:<14} {seconds:6.1f} s")

    def line(self, text: str) -> None:
        """Something worth a line while a step goes on."""
        say.note(f"  {text}")

    def stop(self) -> None:
        """Take the spinner away."""
        if self._status:
            self._status.stop()
            self._status = None
