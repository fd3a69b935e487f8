"""What leaves points out in a run of the tests names them, and is in the page of the tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import sweeps

TESTS = Path(__file__).resolve().parents[1]
USES = re.compile(r"^from tests(\.sweeps import| import sweeps$)", re.MULTILINE)


def test_the_makefile_finds_every_file_with_a_sweep() -> None:
    """It looks into the files of tests, one directory deep; a helper that leaves points out would not be found."""
    makefile = (TESTS.parent / "Makefile").read_text()
    assert f"grep -lE '{USES.pattern.replace('$', '$$')}' tests/*/test_*.py" in makefile
    found = {path.relative_to(TESTS).as_posix() for path in TESTS.rglob("*.py") if USES.search(path.read_text())} - {
        "unit/test_sweeps.py"
    }
    assert {name for name in found if not re.fullmatch(r"[a-z]+/test_\w+\.py", name)} <= {"audit/conftest.py"}


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no points of this sweep: \['c'\]"):
        sweeps.sample(("a", "b"), ("a", "c"))
