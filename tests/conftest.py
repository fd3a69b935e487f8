"""Files of tests that share what takes minutes to make go to one worker; the longest begin first."""

from __future__ import annotations

import gc
import os
import re
import signal
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests import processor_seconds

if TYPE_CHECKING:
    import pytest
    from _pytest.terminal import TerminalReporter
    from xdist.remote import Producer  # type: ignore[import-untyped]
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

# The image that test_bake.py bakes is booted by the others as well, and likewise those of test_same_host.py and of
# aws/test_replace_booted.py; several files look at the hosts of the specs `three` and `edge`, and those of AWS ask one
# moto, by clients that are made once. Another worker would have to make them again. They run in this order: the first
# of test_first_boot.py sees a host that nobody has changed, and test_push.py leaves one whose disk is another.
SHARED = {
    "packer/test_bake": ("packer/test_attacks", "packer/test_two_bakes"),
    "packer/test_same_host": ("packer/test_steps",),
    "packer/test_failures": ("packer/test_clouds",),
    "machine/test_firewall": (
        "machine/test_firewall_mutation", "machine/test_hardening", "machine/test_hardening_in_force",
        "machine/test_isolation", "machine/test_limits",
    ),
    "machine/test_containment": ("machine/test_egress_names",),
    "machine/test_first_boot": (
        "machine/test_proxy", "machine/test_reboot", "machine/test_slow_clients", "machine/test_stacks",
    ),
    "aws/test_launch": ("aws/test_errors", "aws/test_faults", "aws/test_policy", "aws/test_restore", "aws/test_roles"),
    "aws/test_fleet": ("aws/test_fleet_faults", "aws/test_replace", "aws/test_replace_zone"),
    "aws/test_replace_booted": ("aws/test_restore_booted", "aws/test_whole_way"),
    "server/test_commands": (
        "server/test_connection", "server/test_report", "server/test_secret_env", "server/test_switch",
        "server/test_push",
    ),
}  # fmt: skip
ORDER = {f"tests/{name}.py": at for names in SHARED.values() for at, name in enumerate(names, 1)}
SHARING = {f"tests/{name}.py": f"tests/{first}.py" for first, names in SHARED.items() for name in names}
PAGE = Path(__file__).parents[1] / "docs/tests.md"
ROW = re.compile(r"^\| (\S+\.py) \| (\d+) \| (\d+) \|$\n", re.MULTILINE)


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """By file, but for those. A worker takes the next one when it is at the last test of its own."""

    def _reschedule(self, node: WorkerController) -> None:
        if node.shutting_down or not self.workqueue or self._pending_of(self.assigned_work[node]) <= 1:
            super()._reschedule(node)

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return SHARING.get(file, file)


def pytest_configure(config: pytest.Config) -> None:
    """What runs in the background, or by nohup, has interrupts or hang-ups ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if os.geteuid() == 0 and _INOTIFY.exists() and int(_INOTIFY.read_text()) < _INSTANCES:
        _INOTIFY.write_text(str(_INSTANCES))
    processor_seconds.metered(config)


# A booted host takes a dozen, all of this machine's root. Of its usual 128 the twelfth host at a time gets too few: its
# systemd ends at once ("Failed to allocate manager object"), or runs with units that failed.
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INSTANCES = 1024


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that took longest in the run of docs/tests.md, then all others, and what takes milliseconds at the end.

    Begun last, a long one would keep one worker busy while the others have nothing to do.
    """
    seconds: dict[str, int] = defaultdict(int)
    for name, _, clock in ROW.findall(PAGE.read_text()):
        seconds[SHARING.get(f"tests/{name}", f"tests/{name}")] += int(clock)

    def rank(item: pytest.Item) -> tuple[bool, int, str, int]:
        file = item.nodeid.partition("::")[0]
        first = SHARING.get(file, file)
        return file.startswith("tests/unit/"), -seconds[first], first, ORDER.get(file, 0)

    items.sort(key=rank)


def pytest_collection_finish() -> None:
    """What was loaded by then stays: the collector looks at it no more, which took a tenth of the unit tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


# A file of so many seconds of a processor is worth a line of its own, and one that takes so long: begun last, it would
# be waited for.
WORTH, LONG = 10, 20


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """What a run cost: the seconds of each file, fixtures included, of a processor and on the clock."""
    spent: dict[str, float] = defaultdict(float)
    clock: dict[str, float] = defaultdict(float)
    tests: dict[str, float] = defaultdict(float)
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        test = getattr(report, "nodeid", "").removeprefix("tests/")
        file = test.partition("::")[0]
        tests[test] += processor_seconds.of(report)
        spent[file] += processor_seconds.of(report)
        clock[file] += getattr(report, "duration", 0)
    if os.environ.get("ER_TESTS"):
        lines = (f"{seconds:8.2f} {test}\n" for test, seconds in sorted(tests.items(), key=lambda one: -one[1]))
        Path(os.environ["ER_TESTS"]).write_text("".join(lines))
    if sum(spent.values()) < WORTH:
        return
    if os.environ.get("ER_TIMES"):
        PAGE.write_text(with_times(PAGE.read_text(), spent, clock))
    terminalreporter.section("seconds of a processor, and on the clock")
    for file, seconds in sorted(spent.items(), key=lambda one: -one[1]):
        if seconds >= WORTH or clock[file] >= LONG:
            terminalreporter.write_line(f"{seconds:6.0f} {clock[file]:6.0f}  {file}")
    terminalreporter.write_line(f"{sum(spent.values()):6.0f} {sum(clock.values()):6.0f}  all")
    for test, seconds in sorted(tests.items(), key=lambda one: -one[1])[:20]:
        terminalreporter.write_line(f"{seconds:6.0f}         {test}")


def with_times(page: str, spent: dict[str, float], clock: dict[str, float]) -> str:
    """The page with the rows of these files instead of the ones it has, the dearest first."""
    rows = [
        f"| {file} | {seconds:.0f} | {clock[file]:.0f} |\n"
        for file, seconds in sorted(spent.items(), key=lambda one: -one[1])
        if seconds >= WORTH or clock[file] >= LONG
    ]
    first = ROW.search(page)
    assert first is not None
    return page[: first.start()] + "".join(rows) + ROW.sub("", page[first.start() :])
