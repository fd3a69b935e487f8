"""These tests boot real hosts as tests/machine does, with the same needs."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.datasource.checks")

from tests.machine.conftest import _able, example_images  # noqa: E402  what comes before must come before

__all__ = ["_able", "example_images"]
