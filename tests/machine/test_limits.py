"""What each user, slice and service may take at most, and is left in any case."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import facts

if TYPE_CHECKING:
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine


def _show(host: Host, unit: str, *names: str) -> dict[str, str]:
    words = ["systemctl", "show", *(f"--property={name}" for name in names), unit]
    return dict(line.partition("=")[::2] for line in host.machine.run(words).stdout.splitlines())


def _number(host: Host, unit: str, name: str) -> int:
    return int(_show(host, unit, name)[name])


def managers(host: Host) -> list[str]:
    """The user manager of each stack."""
    return [f"user@{stack.uid}.service" for stack in host.spec.stacks]


def test_one_stack_gets_less_than_all_stacks(three: Host) -> None:
    """systemd's own numbers; what the kernel makes of them, tests/packer/test_attacks.py shows."""
    for name in ("MemoryMax", "MemorySwapMax", "TasksMax"):
        together = _number(three, "stacks.slice", name)
        for manager in managers(three):
            assert 0 < _number(three, manager, name) < together, (manager, name)
    total = int(three.machine.run("awk '/^MemTotal/ { print $2 }' /proc/meminfo").stdout) * 1024
    assert _number(three, "stacks.slice", "MemoryMax") < 0.81 * total


def test_what_is_left_to_each_is_also_left_to_what_it_is_in(three: Host) -> None:
    """Protection that a parent does not have is none."""
    proxy = f"user@{facts.PROXY_UID}.service"
    for unit in (*managers(three), proxy, "ssh.service"):
        found = _show(three, unit, "MemoryLow", "Slice")
        assert found["Slice"] == ("stacks.slice" if unit in managers(three) else "system.slice")
        assert 0 < int(found["MemoryLow"]) < _number(three, found["Slice"], "MemoryLow"), unit
    assert _number(three, "user.slice", "MemoryLow") > 0, "an admin's session"
    assert _number(three, proxy, "MemoryLow") < _number(three, proxy, "MemoryMax")


def test_weights(three: Host) -> None:
    """Each stack as much as another, and all of them together less than what the host itself does."""
    assert {_show(three, manager, "CPUWeight")["CPUWeight"] for manager in managers(three)} == {"100"}
    assert _number(three, "stacks.slice", "CPUWeight") < 100
