"""How often a stack met its limits: read from the files of its control group, and shown in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.server import status as shown
from builder.server.remote import status

if TYPE_CHECKING:
    from pathlib import Path


def _group(directory: Path, above: int, service: int) -> Path:
    inner = directory / "app.slice" / "web.service"
    inner.mkdir(parents=True)
    (directory / "pids.events").write_text(f"max {above}\n")
    (inner / "pids.events").write_text(f"max {service}\n")
    return directory


def test_a_number_of_the_kernels_events() -> None:
    text = "low 0\nhigh 0\nmax 31\noom 2\noom_kill 2\noom_group_kill 0\n"
    assert status.count(text, "oom_kill") == 2
    assert status.count("", "oom_kill") == 0


def test_forks_are_counted_once_by_kernels_that_count_them_in_every_group_above(tmp_path: Path) -> None:
    assert status.forks_refused(_group(tmp_path, above=7, service=7)) == 7


def test_forks_are_counted_by_kernels_that_count_them_where_the_limit_stands(tmp_path: Path) -> None:
    assert status.forks_refused(_group(tmp_path, above=0, service=7)) == 7


def test_forks_refused_to_a_service_that_was_restarted_are_still_counted(tmp_path: Path) -> None:
    assert status.forks_refused(_group(tmp_path, above=9, service=0)) == 9


def test_what_was_refused_is_said_and_nothing_else() -> None:
    assert list(shown.limits_met({"killed": 0, "forks": 0, "filled": None})) == []
    assert len(list(shown.limits_met({"killed": 2, "forks": 40, "filled": None}))) == 2
