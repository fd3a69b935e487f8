"""Bakes on this machine, in QEMU."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from builder.packer.clock import Clock
    from builder.packer.deliver import Baked
    from builder.packer.order import Order
    from builder.packer.run import Run
    from builder.packer.watch import Told


def bake(run: Run) -> Generator[Told, None, Baked]:
    """TODO."""
    raise NotImplementedError


def verify(order: Order, image: Path, clock: Clock) -> Generator[Told, None, None]:
    """TODO."""
    raise NotImplementedError
