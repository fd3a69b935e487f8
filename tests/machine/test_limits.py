"""What each user, slice and service may take at most, and is left in any case; whose words are kept where."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from builder import facts
from tests.machine.clients import get

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
    proxy = _number(three, f"user@{facts.PROXY_UID}.service", "MemoryMax")
    assert 0.39 * total < proxy < 0.41 * total, "its own ceiling, not a stack's"


def test_a_stack_at_its_ceiling_leaves_the_others_their_share(three: Host) -> None:
    """Or the kernel would choose what it ends among the processes of all stacks, and take the largest."""
    shares = {manager: _number(three, manager, "MemoryLow") for manager in managers(three)}
    for manager in managers(three):
        others = sum(share for name, share in shares.items() if name != manager)
        assert _number(three, manager, "MemoryMax") + others <= _number(three, "stacks.slice", "MemoryMax")


def test_services_have_no_limits_but_those_of_their_stack(three: Host) -> None:
    """systemd's default for a service would be a part of what the whole host may have."""
    for stack in three.spec.stacks:
        for service in stack.services:
            words = ["systemctl", "--user", "show", "--property=MemoryMax,CPUQuotaPerSecUSec,TasksMax"]
            said = three.machine.run([*words, f"{stack.name}-{service.name}"], user=f"er-{stack.name}").stdout
            assert set(said.split()) == {"MemoryMax=infinity", "CPUQuotaPerSecUSec=infinity", "TasksMax=infinity"}


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


def _score(host: Host, pid: str) -> int:
    return int(host.machine.path(f"/proc/{pid}/oom_score_adj").read_text())


def test_the_kernel_ends_an_app_before_its_manager(three: Host) -> None:
    """The manager holds more than each of many small processes; without it the whole stack is gone."""
    manager = managers(three)[1]
    app = three.machine.run(["podman", "inspect", "--format={{.State.Pid}}", "web"], user="er-hello").stdout.strip()
    assert _score(three, str(_number(three, manager, "MainPID"))) < _score(three, app) <= 100


def test_a_manager_that_was_killed_comes_back_with_its_apps(three: Host) -> None:
    manager = managers(three)[1]
    before = _number(three, manager, "MainPID")
    three.machine.run(["kill", "-9", str(before)])
    three.machine.wait(lambda: _number(three, manager, "MainPID") not in {0, before}, timeout=60, what="the manager")
    site = "https://hello.example.com/"
    three.machine.wait(lambda: get(three, site).status == 200, timeout=60, what=f"{site} to answer")


def test_the_containers_of_a_killed_manager_can_be_removed(three: Host) -> None:
    """By the words with which er-room makes room, without a manager of the stack's user."""
    uid = three.machine.user("er-shop").uid
    room = three.machine.path("/usr/lib/easyrunner/room").read_text()
    words = room[room.index("systemctl stop ") : room.index("for stack in $(stacks); do [ ")]
    three.machine.run(f"systemctl kill --signal=KILL user@{uid}")
    try:
        script = words.replace("rm -f .ballast", "").replace("systemd-run -q", "systemd-run --collect -q")
        done = three.machine.run(["sh", "-c", f"worst=shop uid={uid}\n{script}"], check=False)
        assert done.returncode == 0, done.stderr
    finally:
        three.machine.run(f"systemctl start user@{uid}")
    site = f"https://{three.spec.stacks[0].public[0].domains[0]}/"
    three.machine.wait(lambda: get(three, site).status == 200, timeout=60, what=f"{site} to answer")


def _said(host: Host, where: str, line: str) -> int:
    """How often a line is in a journal."""
    return host.machine.run(["journalctl", "-b", "-q", "-o", "cat", where], check=False).stdout.splitlines().count(line)


def test_what_a_stack_says_is_not_in_the_hosts_own_journal(three: Host) -> None:
    """By its container and by its user's own hand: a flood of it can push out neither logins nor bans."""
    line, hand = "a-line-of-an-app", "a-line-by-hand"
    three.machine.run(["podman", "exec", "web", "sh", "-c", f"echo {line} >/proc/1/fd/1"], user="er-hello")
    three.machine.run(["systemd-run", "--user", "--wait", "-q", "echo", hand], user="er-hello")
    stacks = f"--namespace={facts.JOURNAL}"
    for one in (line, hand):
        three.machine.wait(partial(_said, three, stacks, one), timeout=30, what=one)
        assert _said(three, "--namespace=", one) == 0


def test_the_journal_of_the_stacks_has_limits_of_its_own(three: Host) -> None:
    place = three.machine.run("ls -d /var/log/journal/*").stdout.split()
    assert [path.endswith(f".{facts.JOURNAL}") for path in sorted(place)] == [False, True]
    shown = three.machine.run(f"systemd-analyze cat-config systemd/journald@{facts.JOURNAL}.conf").stdout
    assert "SystemMaxUse=500M" in shown
