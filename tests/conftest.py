"""Files of tests that share what takes minutes to make go to one worker; the longest begin first."""

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
# Minutes each, longest first: begun last, they would keep one worker busy while the other has nothing to do.
LONGEST = [
    f"tests/{name}.py"
    for name in (
        "machine/test_power_cuts", "server/test_apply", "packer/test_bake", "audit/test_audits", "packer/test_disk",
        "datasource/test_boots", "machine/test_fail2ban", "server/test_apply_table", "packer/test_same_host",
        "packer/test_failures", "server/test_stack_files", "server/test_commands", "machine/test_stock",
        "aws/test_faults", "server/test_proxy_image", "packer/test_steps", "packer/test_vm", "aws/test_whole_way",
    )
]  # fmt: skip


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """By file, but for those."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return SHARING.get(file, file)


def pytest_configure() -> None:
    """What runs in the background, or by nohup, has interrupts or hang-ups ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files, then all others, and what takes milliseconds at the end."""

    def rank(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return LONGEST.index(file) if file in LONGEST else len(LONGEST) + file.startswith("tests/unit/")

    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None
