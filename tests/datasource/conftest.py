"""These tests boot real hosts as tests/machine does, with the same needs."""

from __future__ import annotations

from tests.machine.conftest import _able, example_images

__all__ = ["_able", "example_images"]
