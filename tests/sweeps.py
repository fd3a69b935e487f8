"""Sweeps try one thing at every point: `make sweeps` and `make cuts` all of them, each run of the tests a few."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

T = TypeVar("T")
WHOLE: Final = bool(os.environ.get("ER_SWEEPS"))
of_a_sweep: Final = pytest.mark.skipif(not WHOLE, reason="a neighbour of it is tried; it is by `make sweeps`")
"""Marks a test that shows little which a neighbour has not."""


def sample(points: Iterable[T], chosen: Collection[T]) -> list[T]:
    """All points under `make sweeps`, else the chosen ones; each of those must be a point."""
    every = list(points)
    unknown = [point for point in chosen if point not in every]
    if unknown:
        raise ValueError(f"no points of this sweep: {unknown}")
    return every if WHOLE else [point for point in every if point in chosen]
