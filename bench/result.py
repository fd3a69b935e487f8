"""What a benchmark found: rows of values, one value a round, and the goals they are held against. No I/O."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Bound = Literal["at most", "at least"]


@dataclass(frozen=True, slots=True)
class Sample:
    """The values of one thing, one for each round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle value: one round disturbed by something else does not move it."""
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        """The smallest value."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest value."""
        return max(self.values)

    def over(self, other: Sample) -> Sample:
        """Round by round, how many times the other's value: what disturbs a round disturbs both."""
        return Sample(tuple(mine / theirs for mine, theirs in zip(self.values, other.values, strict=True)))


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table. `against` is the row of the same result that this one is a multiple of."""

    what: str
    sample: Sample
    unit: str
    against: str | None = None


@dataclass(frozen=True, slots=True)
class Goal:
    """A number that was promised, and what was found."""

    text: str
    bound: Bound
    limit: float
    found: float
    unit: str = "x"

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.found <= self.limit if self.bound == "at most" else self.found >= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark: what is compared in words, what was found, and the goals."""

    name: str
    title: str
    compared: str
    rows: tuple[Row, ...]
    goals: tuple[Goal, ...] = ()
    notes: tuple[str, ...] = field(default=())

    def row(self, what: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.what == what)

    def ratio(self, row: Row) -> Sample | None:
        """The row as a multiple of the one it stands against."""
        return row.sample.over(self.row(row.against).sample) if row.against else None


def interleaved(rounds: int, contenders: Sequence[tuple[str, Callable[[], float]]]) -> dict[str, Sample]:
    """Measure A B C A B C …, so that a slow minute of the machine meets all of them."""
    found: dict[str, list[float]] = {name: [] for name, _ in contenders}
    for _ in range(rounds):
        for name, measure in contenders:
            found[name].append(measure())
    return {name: Sample(tuple(values)) for name, values in found.items()}


def slope(points: Iterable[tuple[float, float]]) -> float:
    """Least squares: how much y grows with each x."""
    pairs = tuple(points)
    return statistics.linear_regression([x for x, _ in pairs], [y for _, y in pairs]).slope
