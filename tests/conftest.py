"""Files of tests that share what takes minutes to make go to one worker; the longest begin first."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from xdist.scheduler import LoadFileScheduling  # type: ignore[import-untyped]

from tests import processor_seconds

if TYPE_CHECKING:
    import pytest
    from _pytest.terminal import TerminalReporter
    from xdist.remote import Producer  # type: ignore[import-untyped]

# The image that test_bake.py bakes is booted by the others as well, and likewise those of test_same_host.py and of
# aws/test_replace_booted.py; several files look at the hosts of the specs `three` and `edge`. Another worker would have
# to make them again.
SHARED = {
    "packer/test_bake": ("packer/test_attacks", "packer/test_two_bakes"),
    "packer/test_same_host": ("packer/test_steps",),
    "machine/test_firewall": (
        "machine/test_firewall_mutation", "machine/test_hardening", "machine/test_hardening_in_force",
        "machine/test_isolation", "machine/test_limits",
    ),
    "machine/test_stacks": ("machine/test_proxy", "machine/test_slow_clients"),
    "aws/test_replace_booted": ("aws/test_restore_booted",),
    "server/test_commands": ("server/test_connection",),
}  # fmt: skip
SHARING = {f"tests/{name}.py": f"tests/{first}.py" for first, names in SHARED.items() for name in names}
# Minutes each, longest first: begun last, they would keep one worker busy while the others have nothing to do.
LONGEST = [
    f"tests/{name}.py"
    for name in (
        "packer/test_bake", "server/test_restore", "machine/test_firewall", "aws/test_replace_booted",
        "server/test_releases", "server/test_move", "server/test_really_run", "server/test_backup",
        "server/test_git_push", "packer/test_same_host", "server/test_apply", "server/test_registries",
        "server/test_stack_files", "server/test_deploy", "server/test_build_on_server", "machine/test_fail2ban",
        "server/test_ecr", "machine/test_data", "packer/test_data_devices", "machine/test_disk", "server/test_build",
        "server/test_push", "server/test_exec", "audit/test_audits", "server/test_commands",
        "machine/test_power_cuts", "machine/test_stacks", "server/test_public", "server/test_proxy_image",
        "machine/test_own_sites", "machine/test_imagecheck", "machine/test_egress_names", "server/test_apply_table",
        "server/test_secret_env", "packer/test_failures", "machine/test_registry", "aws/test_launch",
        "aws/test_replace", "aws/test_faults", "datasource/test_boots", "machine/test_stock", "packer/test_clouds",
        "datasource/test_other_boots", "packer/test_vm", "aws/test_whole_way", "cli/test_cli", "packer/test_disk",
    )
]  # fmt: skip


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """By file, but for those."""

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
    """The longest files, then all others, and what takes milliseconds at the end."""

    def rank(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return LONGEST.index(file) if file in LONGEST else len(LONGEST) + file.startswith("tests/unit/")

    items.sort(key=rank)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


PAGE = Path(__file__).parents[1] / "docs/tests.md"
# A file of so many seconds is worth a line of its own.
WORTH = 10


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """What a run cost: the seconds of each file, fixtures included, of a processor and on the clock."""
    spent: Counter[str] = Counter()
    clock: Counter[str] = Counter()
    single: Counter[str] = Counter()
    for report in (report for reports in terminalreporter.stats.values() for report in reports):
        test = getattr(report, "nodeid", "").removeprefix("tests/")
        file = test.partition("::")[0]
        single[test] += processor_seconds.of(report)
        spent[file] += processor_seconds.of(report)
        clock[file] += getattr(report, "duration", 0)
    if os.environ.get("ER_TESTS"):
        Path(os.environ["ER_TESTS"]).write_text("".join(f"{s:8.2f} {t}\n" for t, s in single.most_common()))
    terminalreporter.section("seconds of a processor, and of the clock, by file")
    for file, seconds in spent.most_common():
        if seconds >= WORTH:
            terminalreporter.write_line(f"{seconds:6.0f} {clock[file]:6.0f}  {file}")
    terminalreporter.write_line(f"{spent.total():6.0f} {clock.total():6.0f}  all")


def with_times(page: str, seconds: Counter[str]) -> str:
    """The page with these in the last column of its table of files."""
    rows = dict(re.findall(r"^(\| (\S+\.py) \| \d+ \|).*\n", page, re.MULTILINE))
    named = {file: round(seconds[file]) for file in rows.values()}
    for start, file in rows.items():
        page = re.sub(rf"^{re.escape(start)}.*$", f"{start} {named[file]} |", page, flags=re.MULTILINE)
    others = round(seconds.total()) - sum(named.values())
    return re.sub(r"^(\| all others \| \d+ \|).*$", rf"\g<1> {others} |", page, flags=re.MULTILINE)
