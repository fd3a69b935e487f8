"""What each test costs of a processor: its own process and all that it starts, booted hosts and emulated machines too.

The machine's other work does not count in it, so that a run beside others measures the same. A test that shares a host
pays for the host while it runs; the first one pays for its boot.
"""

from __future__ import annotations

import atexit
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# Hosts make control groups of version 2 of their own, and stay in this one of version 1.
_GROUPS: Final = Path("/sys/fs/cgroup/cpuacct")
PROPERTY: Final = "processor_seconds"


class Meter:
    """Counts what this process, and what it starts from now on, takes of the processors."""

    def __init__(self) -> None:
        self._group = _GROUPS / f"er-tests-{os.getpid()}"
        self._group.mkdir(exist_ok=True)
        (self._group / "cgroup.procs").write_text(str(os.getpid()))
        atexit.register(self._leave)
        self._last = 0.0

    def lap(self) -> float:
        """The seconds since the last time."""
        now = int((self._group / "cpuacct.usage").read_text()) / 1e9
        spent, self._last = now - self._last, now
        return spent

    def _leave(self) -> None:
        (_GROUPS / "cgroup.procs").write_text(str(os.getpid()))
        with suppress(OSError):
            self._group.rmdir()

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Generator[None, Any, Any]:
        report = yield
        report.user_properties = [(PROPERTY, self.lap())]
        return report


def metered(config: pytest.Config) -> None:
    """Count in this process, where the machine can tell."""
    counts = os.geteuid() == 0 and (_GROUPS / "cgroup.procs").exists()
    runs_tests = hasattr(config, "workerinput") or not config.getoption("numprocesses", None)
    if counts and runs_tests:
        config.pluginmanager.register(Meter(), "processor seconds")


def of(report: Any) -> float:
    """What a part of a test has cost."""
    return float(dict(getattr(report, "user_properties", ())).get(PROPERTY, 0))
