"""Rich's console, from which only printable text comes: what other machines say may hold a terminal's own commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import rich.console
from rich.segment import Segment

from builder.problem_report import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType


class Console(rich.console.Console):
    """Rich's own control segments move the cursor of a spinner; every other segment is text."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As Rich renders it, each text made printable."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n"), style, control)
