"""Fail2Ban's policy, with real attempts: the fifth failure bans, the fourth does not, and bans outlive restarts.

Each case adds a row to the table of docs/fail2ban.md; the page is held against what was observed, UPDATE=1 writes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from builder import process
from tests.machine.hosts import ROOT, Host, booted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.net import Namespace

pytestmark = pytest.mark.machine

PAGE = ROOT / "docs" / "fail2ban.md"
SITE = "hello.example.com"
# Never banned, by the spec.
IGNORED = "198.51.100.7"
# Case, users asked for, address family, attacker: each has an address of its own.
CASES = [
    ("known user", ("er",) * 5, 4, 1),
    ("known user", ("er",) * 5, 6, 2),
    ("unknown user", ("nobody-here",) * 5, 4, 3),
    ("unknown user", ("nobody-here",) * 5, 6, 10),
    ("root", ("root",) * 5, 6, 4),
    ("known and unknown users in turn", ("er", "nobody-here", "er", "root", "nobody-here"), 4, 11),
]
JAILS = {
    "sshd": ("5", "600", "3600"),
    "er-web-scan": ("5", "600", "3600"),
    "er-web-flood": ("200", "60", "600"),
    "recidive": ("3", "86400", "604800"),
}
KEYS = ("maxretry", "findtime", "bantime")
INTRO = """# Fail2Ban

| jail | failures | within | banned for | from |
|---|---|---|---|---|
| sshd | 5 | 10 minutes | 1 hour | SSH |
| er-web-scan: pages only scanners ask for, and got a 4xx | 5 | 10 minutes | 1 hour | HTTP, HTTPS, HTTP/3 |
| er-web-flood: 4xx of any kind | 200 | 1 minute | 10 minutes | HTTP, HTTPS, HTTP/3 |
| recidive: bans by the others | 3 | 1 day | 7 days | all ports |

One connection that ends unauthenticated is one failure, whoever it asked for. Addresses of `fail2ban.ignore` in the
spec are never banned. Where time has to pass, the test makes the window a hundredth or less of its length while it
looks, and says so. Requests to pages that exist never count: only those answered with 4xx reach Fail2Ban.

The table is written by `tests/machine/test_fail2ban.py`, from real attempts out of other network namespaces.

| case | expected | observed |
|---|---|---|
"""


class Table:
    """Rows of what was expected and what was seen."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def row(self, case: str, expected: str, observed: str) -> None:
        """Add a row; a difference fails the case."""
        self.rows.append(f"| {case} | {expected} | {observed} |\n")
        assert observed == expected, case


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    def ignoring(text: str) -> str:
        return f"{text}\nfail2ban: {{ignore: [{IGNORED}]}}\n"

    with booted("three", tmp_path_factory.mktemp("fail2ban"), edit=ignoring) as host:
        wrong = host.key.parent / "wrong"
        process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)])
        yield host


def fail(host: Host, source: Namespace, user: str, family: int, *words: str) -> None:
    """One real attempt with a key that is not the admin's."""
    stranger = Host(host.spec, host.machine, host.key.parent / "wrong")
    argv = stranger.ssh_argv("true", family=family, user=user)
    done = source.run([argv[0], *words, *argv[1:]], check=False)
    assert done.returncode == 255, done.stdout
    assert "Permission denied" in done.stderr, done.stderr


def client(host: Host, *words: str) -> str:
    return host.machine.run(["fail2ban-client", *words], timeout=30).stdout.strip()


def banned(host: Host, jail: str = "sshd") -> list[str]:
    return client(host, "get", jail, "banip").split()


def seconds(host: Host, address: str, jail: str = "sshd") -> int:
    """For how long an address is banned, as Fail2Ban wrote it down."""
    lines = client(host, "get", jail, "banip", "--with-time").splitlines()
    words = next(line for line in lines if line.split()[0] == address).split()
    return int(words[words.index("+") + 1])


def in_iptables(host: Host, address: str, jail: str) -> bool:
    """The rule that drops this address stands in the chain of the jail."""
    program = "ip6tables" if ":" in address else "iptables"
    rules = host.machine.run([program, "-w", "-S", f"f2b-{jail}"], check=False).stdout.splitlines()
    return any(f" {address}/" in rule and rule.endswith("-j DROP") for rule in rules)


def found(host: Host, address: str, jail: str = "sshd") -> int:
    """How many failures the journal holds, by Fail2Ban's own account."""
    argv = ["journalctl", "-b", "-u", "fail2ban", "-o", "cat", "--grep", rf"\[{jail}\] Found {address} ", "-q"]
    return len(host.machine.run(argv, check=False).stdout.splitlines())


def own(source: Namespace, family: int) -> str:
    return source.ipv4 if family == 4 else source.ipv6


def reaches_ssh(host: Host, source: Namespace, family: int) -> bool:
    """A TCP connection to port 22 opens."""
    connect = f"exec 3<>/dev/tcp/{host.address(family)}/22"
    return source.run(["timeout", "2", "bash", "-c", connect], check=False).returncode == 0


def reaches_https(host: Host, source: Namespace, family: int) -> bool:
    done = host.curl(f"https://{SITE}/", source=source, family=family, timeout=3)
    return done.stdout.startswith("HTTP/2 200")


def ask(host: Host, source: Namespace, family: int, paths: list[str], *words: str) -> None:
    """Many requests over one connection; what they are answered does not matter here."""
    target = f"[{host.machine.ipv6}]" if family == 6 else host.machine.ipv4
    argv = [
        "curl",
        "--silent",
        "--max-time",
        "60",
        "--cacert",
        str(host.ca),
        "--resolve",
        f"{SITE}:443:{target}",
        *words,
    ]
    source.run([*argv, *(f"https://{SITE}{path}" for path in paths)], check=False, timeout=90)


def verdict(host: Host, source: Namespace, family: int, jail: str = "sshd") -> str:
    """Banned or not, for how long, where it is seen, and what the address can still reach."""
    address = own(source, family)
    host.machine.wait(
        lambda: in_iptables(host, address, jail) == (address in banned(host, jail)), timeout=10, what="rules to follow"
    )
    reach = {"SSH": reaches_ssh(host, source, family), "HTTPS": reaches_https(host, source, family)}
    open_ = " and ".join(name for name, there in reach.items() if there) or "nothing"
    if address not in banned(host, jail):
        return f"no ban; {open_} open"
    return f"ban for {seconds(host, address, jail)} s, in iptables; {open_} open"


def known(host: Host, source: Namespace, family: int, count: int, jail: str = "sshd") -> None:
    address = own(source, family)
    host.machine.wait(lambda: found(host, address, jail) >= count, timeout=30, what=f"{count} failures of {address}")


def is_banned(host: Host, source: Namespace, family: int, jail: str = "sshd") -> None:
    address = own(source, family)
    host.machine.wait(lambda: address in banned(host, jail), timeout=30, what=f"the ban of {address} by {jail}")


def test_policy(guarded: Host) -> None:
    assert {jail: tuple(client(guarded, "get", jail, key) for key in KEYS) for jail in JAILS} == JAILS


@pytest.mark.parametrize(
    ("case", "users", "family", "number"), CASES, ids=[f"{case[0].replace(' ', '-')}-v{case[2]}" for case in CASES]
)
def test_four_failures_do_not_ban_and_the_fifth_does(
    guarded: Host, table: Table, case: str, users: tuple[str, ...], family: int, number: int
) -> None:
    source = guarded.machine.attacker(number)
    for user in users[:4]:
        fail(guarded, source, user, family)
    known(guarded, source, family, 4)
    table.row(f"4 attempts, {case}, IPv{family}", "no ban; SSH and HTTPS open", verdict(guarded, source, family))
    fail(guarded, source, users[4], family)
    is_banned(guarded, source, family)
    expected = "ban for 3600 s, in iptables; HTTPS open"
    table.row(f"the 5th, {case}, IPv{family}", expected, verdict(guarded, source, family))
    assert found(guarded, own(source, family)) == 5, "one failure each"


def test_a_login_that_works_is_no_failure(guarded: Host, table: Table) -> None:
    source = guarded.machine.attacker(5)
    for _ in range(6):
        assert guarded.ssh("true", source=source).returncode == 0
    table.row("6 logins with the right key", "no ban; SSH and HTTPS open", verdict(guarded, source, 4))
    assert found(guarded, source.ipv4) == 0


def test_slow_attempts_do_not_ban(guarded: Host, table: Table) -> None:
    """The window is made 1 s: the first four have left it when the fifth comes; four more make it five within.

    Fail2Ban keeps no list of attempts: what is older than the window counts by its share, so four quick ones count for
    nothing only after eight windows.
    """
    source = guarded.machine.attacker(12)
    client(guarded, "set", "sshd", "findtime", "1")
    try:
        for _ in range(4):
            fail(guarded, source, "er", 4)
        known(guarded, source, 4, 4)
        # The window passes, by the clock that Fail2Ban reads.
        guarded.machine.run("last=$(date +%s); until [ $(date +%s) -gt $((last + 10)) ]; do sleep 0.2; done")
        fail(guarded, source, "er", 4)
        known(guarded, source, 4, 5)
        case = "5 attempts, the 5th after the window (600 s made 1 s)"
        table.row(case, "no ban; SSH and HTTPS open", verdict(guarded, source, 4))
    finally:
        client(guarded, "set", "sshd", "findtime", "600")
    for _ in range(4):
        fail(guarded, source, "er", 4)
    is_banned(guarded, source, 4)
    table.row(
        "4 more in a row: 5 within the window", "ban for 3600 s, in iptables; HTTPS open", verdict(guarded, source, 4)
    )


def test_ignored_addresses_are_not_banned(guarded: Host, table: Table) -> None:
    source = guarded.machine.attacker(13)
    source.run(["ip", "addr", "add", f"{IGNORED}/32", "dev", "lan"])
    guarded.machine.run(["ip", "route", "add", IGNORED, "via", source.ipv4])
    for _ in range(7):
        fail(guarded, source, "er", 4, "-b", IGNORED)
    guarded.machine.wait(
        lambda: "Ignore 198.51.100.7" in guarded.machine.run("journalctl -b -u fail2ban -o cat").stdout,
        timeout=20,
        what="Fail2Ban to see the attempts",
    )
    observed = "ban" if IGNORED in banned(guarded) else "no ban"
    table.row("7 attempts from an address of fail2ban.ignore", "no ban", observed)


@pytest.mark.parametrize(("family", "number"), [(4, 14), (6, 15)])
def test_scanners_are_banned_by_their_own_address(guarded: Host, table: Table, family: int, number: int) -> None:
    source = guarded.machine.attacker(number)
    paths = ["/.env", "/wp-login.php", "/.git/config", "/phpmyadmin/", "/cgi-bin/luci"]
    elsewhere = ["--header", "Host: other.example.com"]
    ask(guarded, source, family, paths[:4], *elsewhere)
    known(guarded, source, family, 4, "er-web-scan")
    case = f"4 scanner's pages, answered with 4xx, IPv{family}"
    table.row(case, "no ban; SSH and HTTPS open", verdict(guarded, source, family, "er-web-scan"))
    ask(guarded, source, family, paths[4:], *elsewhere)
    is_banned(guarded, source, family, "er-web-scan")
    expected = "ban for 3600 s, in iptables; SSH open"
    table.row(f"the 5th, IPv{family}", expected, verdict(guarded, source, family, "er-web-scan"))


def test_visitors_are_not_banned(guarded: Host, table: Table) -> None:
    """Many pages, some missing, and pages that scanners look for but which this site has."""
    source = guarded.machine.attacker(16)
    ask(guarded, source, 4, [f"/page/{number}" for number in range(300)])
    ask(guarded, source, 4, ["/wp-login.php", "/.well-known/security.txt"] * 20)
    missing = [f"/missing/{number}.png" for number in range(40)]
    ask(guarded, source, 4, missing, "--header", "Host: other.example.com")
    known(guarded, source, 4, 40, "er-web-flood")
    for jail in ("er-web-scan", "er-web-flood"):
        case = f"a visitor: 340 pages, 40 missing; {jail}"
        table.row(case, "no ban; SSH and HTTPS open", verdict(guarded, source, 4, jail))


def test_what_a_client_sends_cannot_ban_another(guarded: Host, table: Table) -> None:
    """Addresses and fields in a URL or a header are not taken for the log's own."""
    source, victim = guarded.machine.attacker(18), guarded.machine.attacker(19)
    forged = f'{{"level":"info","msg":"handled request","request":{{"remote_ip":"{victim.ipv4}","status":404}}}}'
    words = [
        "--header",
        "Host: other.example.com",
        "--header",
        f"X-Forwarded-For: {victim.ipv4}",
        "--user-agent",
        forged,
    ]
    ask(guarded, source, 4, ["/.env"] * 6, *words)
    is_banned(guarded, source, 4, "er-web-scan")
    table.row("another's address in headers", "no ban; SSH and HTTPS open", verdict(guarded, victim, 4, "er-web-scan"))


def test_a_flood_of_errors_is_banned(guarded: Host, table: Table) -> None:
    source = guarded.machine.attacker(17)
    ask(guarded, source, 4, [f"/missing/{number}" for number in range(220)], "--header", "Host: other.example.com")
    is_banned(guarded, source, 4, "er-web-flood")
    expected = "ban for 600 s, in iptables; SSH open"
    table.row("220 answers of 4xx in a minute", expected, verdict(guarded, source, 4, "er-web-flood"))


def provoke(host: Host, source: Namespace, family: int) -> None:
    """Five real failures, the ban, and its end, which an hour would bring."""
    for _ in range(5):
        fail(host, source, "er", family)
    is_banned(host, source, family)
    client(host, "set", "sshd", "unbanip", own(source, family))


def test_bans_more_than_a_day_apart_are_no_recidive(guarded: Host, table: Table) -> None:
    source = guarded.machine.attacker(20)
    client(guarded, "set", "recidive", "findtime", "4")
    try:
        provoke(guarded, source, 4)
        known(guarded, source, 4, 1, "recidive")
        provoke(guarded, source, 4)
        known(guarded, source, 4, 2, "recidive")
        guarded.machine.run("last=$(date +%s); until [ $(date +%s) -gt $((last + 5)) ]; do sleep 0.2; done")
        provoke(guarded, source, 4)
        known(guarded, source, 4, 3, "recidive")
        case = "3 bans, the 3rd after the window (1 day made 4 s)"
        table.row(case, "no ban; SSH and HTTPS open", verdict(guarded, source, 4, "recidive"))
    finally:
        client(guarded, "set", "recidive", "findtime", "86400")


@pytest.mark.parametrize(("family", "number"), [(4, 9), (6, 21)])
def test_three_bans_in_a_day_close_all_ports(guarded: Host, table: Table, family: int, number: int) -> None:
    source = guarded.machine.attacker(number)
    for count in (1, 2):
        provoke(guarded, source, family)
        known(guarded, source, family, count, "recidive")
    expected = "no ban; SSH and HTTPS open"
    table.row(f"2 bans of 5 attempts each, IPv{family}", expected, verdict(guarded, source, family, "recidive"))
    provoke(guarded, source, family)
    is_banned(guarded, source, family, "recidive")
    expected = "ban for 604800 s, in iptables; nothing open"
    table.row(f"the 3rd within a day, IPv{family}", expected, verdict(guarded, source, family, "recidive"))


def test_bans_outlive_restarts_of_fail2ban_and_the_firewall_and_the_host(guarded: Host, table: Table) -> None:
    sources = {family: guarded.machine.attacker(6 + family) for family in (4, 6)}
    for family, source in sources.items():
        for _ in range(5):
            fail(guarded, source, "er", family)
        is_banned(guarded, source, family)

    def felt() -> bool:
        return not any(reaches_ssh(guarded, source, family) for family, source in sources.items())

    def holds(act: str) -> None:
        guarded.machine.wait(felt, timeout=30, what=f"the bans after {act}")
        for family, source in sources.items():
            is_banned(guarded, source, family)
            expected = "ban for 3600 s, in iptables; HTTPS open"
            table.row(f"after {act}, IPv{family}", expected, verdict(guarded, source, family))

    for act in ("systemctl restart fail2ban", "systemctl restart er-firewall", "systemctl reload er-firewall"):
        guarded.machine.run(act, timeout=60)
        holds(f"`{act}`")
    guarded.reboot()
    holds("a reboot")
    assert guarded.ssh("true").returncode == 0, "others still get in"


def test_the_page_says_what_was_observed(table: Table) -> None:
    """Runs last: the page in docs is this run's table."""
    page = INTRO + "".join(table.rows)
    if os.environ.get("UPDATE"):
        PAGE.write_text(page)
    assert PAGE.read_text() == page
