"""Fail2Ban's policy, with real SSH attempts: the fifth failure bans, the fourth does not, and bans outlive restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import process
from tests.machine.hosts import Host, booted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.net import Namespace

pytestmark = pytest.mark.machine

# Case, user asked for, address family, attacker: each has an address of its own.
CASES = [
    ("known user", "er", 4, 1),
    ("known user", "er", 6, 2),
    ("unknown user", "nobody-here", 4, 3),
    ("root", "root", 6, 4),
]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with booted("three", tmp_path_factory.mktemp("fail2ban")) as host:
        wrong = host.key.parent / "wrong"
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)])
        yield host


def fail(host: Host, source: Namespace, user: str, family: int) -> None:
    """One real attempt with a key that is not the admin's."""
    wrong = host.key.parent / "wrong"
    stranger = Host(host.spec, host.machine, wrong)
    done = stranger.ssh("true", source=source, family=family, user=user)
    assert done.returncode == 255, done.stdout
    assert "Permission denied" in done.stderr, done.stderr


def client(host: Host, *words: str) -> str:
    return host.machine.run(["fail2ban-client", *words], timeout=30).stdout.strip()


def banned(host: Host, jail: str = "sshd") -> list[str]:
    return client(host, "get", jail, "banip").split()


def found(host: Host, address: str) -> int:
    """How many failures the journal holds, by Fail2Ban's own account."""
    argv = ["journalctl", "-b", "-u", "fail2ban", "-o", "cat", "--grep", rf"\[sshd\] Found {address} ", "-q"]
    return len(host.machine.run(argv, check=False).stdout.splitlines())


def own(source: Namespace, family: int) -> str:
    return source.ipv4 if family == 4 else source.ipv6


def reaches_ssh(host: Host, source: Namespace, family: int) -> bool:
    """A TCP connection to port 22 opens."""
    connect = f"exec 3<>/dev/tcp/{host.address(family)}/22"
    return source.run(["timeout", "2", "bash", "-c", connect], check=False).returncode == 0


def reaches_https(host: Host, source: Namespace, family: int) -> bool:
    done = host.curl("https://hello.example.com/", source=source, family=family, timeout=3)
    return done.stdout.startswith("HTTP/2 200")


def test_policy(guarded: Host) -> None:
    keys = ("maxretry", "findtime", "bantime")
    assert {jail: [client(guarded, "get", jail, key) for key in keys] for jail in JAILS} == JAILS


JAILS = {"sshd": ["5", "600", "3600"], "recidive": ["3", "86400", "604800"]}


@pytest.mark.parametrize(("case", "user", "family", "number"), CASES, ids=[f"{case[0]}-v{case[2]}" for case in CASES])
def test_four_failures_do_not_ban_and_the_fifth_does(
    guarded: Host, case: str, user: str, family: int, number: int
) -> None:
    source = guarded.machine.attacker(number)
    address = own(source, family)
    for _ in range(4):
        fail(guarded, source, user, family)
    guarded.machine.wait(lambda: found(guarded, address) == 4, timeout=20, what=f"four failures of {case}")
    assert address not in banned(guarded)
    assert reaches_ssh(guarded, source, family)
    fail(guarded, source, user, family)
    guarded.machine.wait(lambda: address in banned(guarded), timeout=20, what=f"the ban of {case}")
    guarded.machine.wait(lambda: not reaches_ssh(guarded, source, family), timeout=10, what="the ban to be felt")
    # The sshd jail takes away SSH; a visitor behind the same address still gets the page.
    assert reaches_https(guarded, source, family)
    assert found(guarded, address) == 5


def test_a_login_that_works_is_no_failure(guarded: Host) -> None:
    source = guarded.machine.attacker(5)
    for _ in range(6):
        assert guarded.ssh("true", source=source).returncode == 0
    assert found(guarded, source.ipv4) == 0
    assert source.ipv4 not in banned(guarded)


def test_bans_outlive_restarts_of_fail2ban_and_the_firewall_and_the_host(guarded: Host) -> None:
    sources = {family: guarded.machine.attacker(6 + family) for family in (4, 6)}
    for family, source in sources.items():
        client(guarded, "set", "sshd", "banip", own(source, family))

    def felt() -> bool:
        return not any(reaches_ssh(guarded, source, family) for family, source in sources.items())

    guarded.machine.wait(felt, timeout=10, what="the bans")
    for act in ("systemctl restart fail2ban", "systemctl restart er-firewall", "systemctl reload er-firewall"):
        guarded.machine.run(act, timeout=60)
        guarded.machine.wait(felt, timeout=15, what=f"the bans after {act}")
    guarded.reboot()
    guarded.machine.wait(felt, timeout=30, what="the bans after a reboot")
    assert guarded.ssh("true").returncode == 0, "others still get in"


def test_three_bans_in_a_day_close_all_ports(guarded: Host) -> None:
    source = guarded.machine.attacker(9)
    assert reaches_https(guarded, source, 4)
    for round_ in range(3):
        client(guarded, "set", "sshd", "banip", source.ipv4)
        client(guarded, "set", "sshd", "unbanip", source.ipv4)
        assert round_ == 2 or source.ipv4 not in banned(guarded, "recidive")
    guarded.machine.wait(lambda: source.ipv4 in banned(guarded, "recidive"), timeout=20, what="the recidive ban")
    guarded.machine.wait(lambda: not reaches_https(guarded, source, 4), timeout=10, what="the ban to be felt on 443")
    assert not reaches_ssh(guarded, source, 4)
