"""First boot: what it says, and that it may be repeated."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder.lab import trial
from tests.machine import hosts
from tests.machine.clients import get

if TYPE_CHECKING:
    from pathlib import Path

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

# What every machine makes for itself, backups of files that are compared, the lab's, and a file with a date in it.
_OWN = (
    "50-lab\\.conf|90-cloud-init-users|ssh_host_|machine-id|"
    "/(passwd|group|shadow|gshadow|subuid|subgid)-|\\.pwd\\.lock|ld\\.so\\.cache|\\.updated|/adjtime"
)


@pytest.fixture(scope="module")
def host(three: Host) -> Host:
    return three


def tree(host: Host) -> list[str]:
    """/etc: every path with type, mode, owner and content."""
    look = "find /etc -xdev -printf '%p %y %m %u %g %l\\n' | grep -vE \"$OWN\" | LC_ALL=C sort"
    read = "find /etc -xdev -type f | grep -vE \"$OWN\" | LC_ALL=C sort | tr '\\n' '\\0' | xargs -0 sha256sum"
    return host.machine.run(f"{look}; {read}", env={"OWN": _OWN}).stdout.splitlines()


def identities(host: Host) -> list[str]:
    """Users, ranges, linger and the state of the directories of ours; which managers have started since is no such."""
    lines = (
        "getent passwd | grep ^er; getent group | grep ^er; grep -h ^er- /etc/subuid /etc/subgid;"
        " grep -hv '^#' /etc/sudoers.d/*; "
        "ls /var/lib/systemd/linger"
    )
    dirs = "find /var/lib/easyrunner /run/easyrunner /var/log/easyrunner -maxdepth 3 -printf '%p %y %m %u %g\\n'"
    others = "containers|home/[^/]*/\\.|caddy/|room/|dirty/"
    return host.machine.run(f"{lines}; {dirs} | grep -vE '{others}' | LC_ALL=C sort").stdout.splitlines()


def answers(host: Host) -> None:
    """Every domain, over both families, and SSH."""
    for stack in host.spec.stacks:
        for service in stack.public:
            for domain in service.domains:
                for family in (4, 6):
                    assert get(host, f"https://{domain}/", family=family).status == 200
    assert host.ssh("true").returncode == 0


def test_it_says_that_it_is_ready_once_a_boot(host: Host) -> None:
    """With the server's name and the number of its stacks."""
    lines = [line for line in host.machine.console_text().splitlines() if trial.READY in line]
    assert len(lines) == 1
    assert "name=web1 stacks=3 " in lines[0]


def test_the_console_shows_the_fingerprints_of_the_host_keys(host: Host) -> None:
    """Of each key that sshd uses, so that an owner can compare."""
    console = host.machine.console_text()
    keys = host.machine.run("for key in /etc/ssh/ssh_host_*_key.pub; do ssh-keygen -l -f $key; done").stdout.split("\n")
    shown = [key for key in keys if key]
    assert shown
    for fingerprint in shown:
        assert f"easyrunner: ssh {fingerprint}" in console


def test_a_second_run_changes_nothing(host: Host) -> None:
    """Every step may be repeated."""
    before = tree(host), identities(host)
    host.machine.run("/usr/lib/easyrunner/first-boot", timeout=60)
    assert (tree(host), identities(host)) == before
    host.machine.run("/usr/lib/easyrunner/provision", timeout=120)
    assert (tree(host), identities(host)) == before


def test_cloud_init_has_nothing_to_complain_about(host: Host) -> None:
    """No error, no warning that it recovered from, no deprecated key."""
    status = json.loads(host.machine.run("cloud-init status --format json", check=False).stdout)
    assert status["status"] == "done"
    assert status["errors"] == []
    assert status["recoverable_errors"] == {}


def test_no_unit_has_failed(host: Host) -> None:
    """Of the host, and of every user manager."""
    assert host.machine.run("systemctl --failed --quiet --no-legend").stdout == ""
    assert host.machine.run("systemctl is-system-running").stdout == "running\n"
    for user in ("er-proxy", *(f"er-{stack.name}" for stack in host.spec.stacks)):
        assert host.machine.run("systemctl --user --failed --quiet --no-legend", user=user).stdout == "", user


def test_systemd_finds_no_fault_with_our_units(host: Host) -> None:
    """The host's and every user's."""
    done = host.machine.run("systemd-analyze verify /usr/lib/systemd/system/er-*.service", check=False)
    assert "er-" not in done.stderr, done.stderr
    for stack in host.spec.stacks:
        units = f"/etc/easyrunner/units/{stack.uid}/*.service /etc/easyrunner/units/{stack.uid}/*.socket"
        path = f"/etc/easyrunner/units/{stack.uid}:/run/user/{stack.uid}/systemd/generator:/usr/lib/systemd/user"
        line = f"ls {units} 2>/dev/null | xargs systemd-analyze --user verify"
        done = host.machine.run(line, user=f"er-{stack.name}", env={"SYSTEMD_UNIT_PATH": path}, check=False)
        assert "er-ingress" not in done.stderr, done.stderr


def test_uids_do_not_move_when_stacks_come_and_go(host: Host, tmp_path: Path) -> None:
    """A spec with one stack of the three gives it the same user."""

    def fewer(text: str) -> str:
        head, _, rest = text.partition("  - name: shop\n")
        return head + rest[rest.index("  - name: hello") :]

    with hosts.booted("three", tmp_path, edit=fewer, start=False) as other:
        assert {stack.name for stack in other.spec.stacks} == {"hello", "notes"}
        wanted = {stack.name: stack.uid for stack in host.spec.stacks}
        assert all(wanted[stack.name] == stack.uid for stack in other.spec.stacks)
