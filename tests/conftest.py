"""Files of tests that share what takes minutes to make go to one worker."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

if TYPE_CHECKING:
    import pytest
    from xdist.remote import Producer  # type: ignore[import-untyped]

# The image that test_bake.py bakes is booted by the others as well.
ONE_BAKE = "tests/packer/test_bake.py"
SHARING = {f"tests/packer/test_{name}.py": ONE_BAKE for name in ("attacks", "two_bakes")}


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """By file, but for those."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return SHARING.get(file, file)


def pytest_configure() -> None:
    """A shell starts what is to run in the background with interrupts ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
