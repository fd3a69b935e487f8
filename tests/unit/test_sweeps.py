"""What leaves points out in a run of the tests has all of them in `make sweeps`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import sweeps

TESTS = Path(__file__).resolve().parents[1]
USES = re.compile(r"^from tests(\.sweeps import| import sweeps$)", re.MULTILINE)


def swept() -> set[str]:
    """The files of `make sweeps`, without their ending."""
    makefile = (TESTS.parent / "Makefile").read_text()
    (value,) = re.findall(r"^SWEPT := ((?:.*\\\n)*.*)", makefile, re.MULTILINE)
    groups: list[tuple[str, str]] = re.findall(r"\$\(addprefix (\S+?),([^)]*)\)", value)
    return {f"{prefix}{name}" for prefix, names in groups for name in names.split()}


def test_every_file_with_a_sweep_is_in_the_makefile() -> None:
    found = {
        path.relative_to(TESTS).with_suffix("").as_posix()
        for path in TESTS.glob("*/test_*.py")
        if path != Path(__file__) and USES.search(path.read_text())
    }
    assert found == swept()


def test_a_point_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no points of this sweep: \['c'\]"):
        sweeps.sample(("a", "b"), ("a", "c"))
