"""What a run was asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """`wanted_rounds` overrides each benchmark's own number; `quick` makes everything small, to see that it works."""

    quick: bool = False
    wanted_rounds: int | None = None

    def rounds(self, usual: int) -> int:
        """How many rounds a benchmark with this usual number makes."""
        if self.wanted_rounds is not None:
            return self.wanted_rounds
        return 2 if self.quick else usual
