"""Fail2Ban's policy, with real attempts: the fifth failure bans, the fourth does not, and bans outlive restarts.

Each case adds a row to the table of docs/fail2ban.md; the page is held against what was observed, UPDATE=1 writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import process, spec
from builder.host.build import build
from tests.machine import hostile_lines
from tests.machine.hosts import ROOT, Host, booted
from tests.sweeps import WHOLE, of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.lab.network import Namespace

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
# One known user, over IPv6, and one of both kinds.
SAMPLE = sample(CASES, (CASES[1], CASES[5]))
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
| recidive: bans by the jail sshd | 3 | 1 day | 7 days | all ports |

**What counts.** One SSH connection that names a user and ends without a login is one failure, whoever it asked for,
and so is one that sshd ends after 30 seconds. Connections that end before a user is named (a port scan, another
program's greeting) are no failures: there sshd's own limits hold, `PerSourceMaxStartups` (5 at a time) on both bases
and `PerSourcePenalties` where there is one, on Debian 13. Of requests only those answered with 4xx count; pages that
exist never do. A wrong password (401, of `basic_auth` or of an app) counts as any 4xx does, for er-web-flood alone: who
types it wrong a few times is not banned, and who guesses has 200 tries in a minute before each ban. Nobody is banned
from SSH, or for a week, for what he asked of a site.

**Who counts.** The address of the connection's socket, which `er-watch` writes at the front of a line of its own;
nothing that a client sends stands before it. An IPv6 client is its /64 and is counted and banned as that, since a
client has all of its addresses; sshd's limits count so as well (`PerSourceNetBlockSize`). Where the host shares its
own /64 with others, they count one by one. The host's own addresses never count. Networks of `fail2ban.ignore` in the
spec are never banned, an IPv6 address there stands for its /64. A host behind a one-to-one NAT, as on EC2, does not
know its public address: name it there if apps ask each other by their public names. Behind an edge it is the visitor
whom the edge names: [edge.md](edge.md).

**Whose fault it is.** What a page made a browser ask for (`Sec-Fetch-Site` says cross-site, same-site or same-origin)
does not count, or any page with five pictures of `/.env` would ban its visitors. Browsers send that header themselves
and no page can set it. A scanner can, and so escapes the web jails; what it is answered stays the same, and it had as
much before by changing its address, or with four pages in ten minutes. A ban from the web keeps noise away, it guards
nothing.

**A site's own pages.** `/wp-admin/` is a scanner's page, and WordPress's own. A stack with an image of WordPress,
phpMyAdmin, Solr or Tomcat has its own pages allowed on its domains, whichever path it has there; others are named in
the spec, and a web jail that
is not wanted is switched off:

```yaml
server: {name: web1}
admin:
  ssh_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop]
stacks:
  - {name: blog, image: docker.io/library/wordpress:6.6-apache, domain: blog.example.com, port: 8080}
fail2ban:
  allow: {blog.example.com: [/wp-admin/, /wp-content/]}
  disable: [web-flood]
```

**Where bans are.** Each jail has a set for each family (`ipset list sshd-6`), which the firewall makes and asks in a
fixed number of rules before all others, however many are banned. Only connections that a banned client opens are
refused: answers to what the host itself asks, and the neighbours' discovery, are not. If the firewall's rules do not
load and only SSH stays open, bans from SSH still hold.

Where time has to pass, the test makes the window a hundredth or less of its length while it looks, and says so. The
table is written by `tests/machine/test_fail2ban.py`, from real attempts out of other network namespaces.

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

    with booted("three", tmp_path_factory.mktemp("fail2ban"), edit=ignoring, timeout=300) as host:
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


def in_firewall(host: Host, address: str, jail: str) -> bool:
    """The set that the firewall drops by has this address or network."""
    name = f"{jail}-{6 if ':' in address else 4}"
    return address in host.machine.run(["ipset", "list", name]).stdout.split()


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
        lambda: in_firewall(host, address, jail) == (address in banned(host, jail)), timeout=10, what="rules to follow"
    )
    reach = {"SSH": reaches_ssh(host, source, family), "HTTPS": reaches_https(host, source, family)}
    open_ = " and ".join(name for name, there in reach.items() if there) or "nothing"
    if address not in banned(host, jail):
        return f"no ban; {open_} open"
    return f"ban for {seconds(host, address, jail)} s, in the firewall; {open_} open"


def known(host: Host, source: Namespace, family: int, count: int, jail: str = "sshd") -> None:
    address = own(source, family)
    host.machine.wait(lambda: found(host, address, jail) >= count, timeout=30, what=f"{count} failures of {address}")


def is_banned(host: Host, source: Namespace, family: int, jail: str = "sshd") -> None:
    address = own(source, family)
    host.machine.wait(lambda: address in banned(host, jail), timeout=30, what=f"the ban of {address} by {jail}")


def test_policy(guarded: Host) -> None:
    assert {jail: tuple(client(guarded, "get", jail, key) for key in KEYS) for jail in JAILS} == JAILS


@pytest.mark.parametrize(
    ("case", "users", "family", "number"), SAMPLE, ids=[f"{case[0].replace(' ', '-')}-v{case[2]}" for case in SAMPLE]
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
    expected = "ban for 3600 s, in the firewall; HTTPS open"
    table.row(f"the 5th, {case}, IPv{family}", expected, verdict(guarded, source, family))
    assert found(guarded, own(source, family)) == 5, "one failure each"


def test_a_login_that_works_is_no_failure(guarded: Host, table: Table) -> None:
    source = guarded.machine.attacker(5)
    for _ in range(6):
        assert guarded.ssh("true", source=source).returncode == 0
    table.row("6 logins with the right key", "no ban; SSH and HTTPS open", verdict(guarded, source, 4))
    assert found(guarded, source.ipv4) == 0


def test_slow_attempts_do_not_ban(guarded: Host, table: Table) -> None:
    """The window is made 3 s: the first four have left it when the fifth comes; four more make it five within.

    Fail2Ban keeps no list of attempts: what is older than the window counts by its share, so four quick ones count for
    nothing only after eight windows. The fifth is forgotten when its own has passed, so the window is put back at once.
    """
    source = guarded.machine.attacker(12)
    client(guarded, "set", "sshd", "findtime", "3")
    try:
        for _ in range(4):
            fail(guarded, source, "er", 4)
        known(guarded, source, 4, 4)
        # The window passes, by the clock that Fail2Ban reads.
        guarded.machine.run("last=$(date +%s); until [ $(date +%s) -gt $((last + 27)) ]; do sleep 0.2; done")
        fail(guarded, source, "er", 4)
        known(guarded, source, 4, 5)
    finally:
        client(guarded, "set", "sshd", "findtime", "600")
    case = "5 attempts, the 5th after the window (600 s made 3 s)"
    table.row(case, "no ban; SSH and HTTPS open", verdict(guarded, source, 4))
    for _ in range(4):
        fail(guarded, source, "er", 4)
    is_banned(guarded, source, 4)
    table.row(
        "4 more in a row: 5 within the window",
        "ban for 3600 s, in the firewall; HTTPS open",
        verdict(guarded, source, 4),
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


@pytest.mark.parametrize(("family", "number"), sample([(4, 14), (6, 15)], [(6, 15)]))
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
    expected = "ban for 3600 s, in the firewall; SSH open"
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
    expected = "ban for 600 s, in the firewall; SSH open"
    table.row("220 answers of 4xx in a minute", expected, verdict(guarded, source, 4, "er-web-flood"))


def provoke(host: Host, source: Namespace, family: int) -> None:
    """Five real failures, the ban, and its end, which an hour would bring."""
    for _ in range(5):
        fail(host, source, "er", family)
    is_banned(host, source, family)
    client(host, "set", "sshd", "unbanip", own(source, family))


@of_a_sweep
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


@pytest.mark.parametrize(("family", "number"), sample([(4, 9), (6, 21)], [(4, 9)]))
def test_three_bans_in_a_day_close_all_ports(guarded: Host, table: Table, family: int, number: int) -> None:
    source = guarded.machine.attacker(number)
    for count in (1, 2):
        provoke(guarded, source, family)
        known(guarded, source, family, count, "recidive")
    expected = "no ban; SSH and HTTPS open"
    table.row(f"2 bans of 5 attempts each, IPv{family}", expected, verdict(guarded, source, family, "recidive"))
    provoke(guarded, source, family)
    is_banned(guarded, source, family, "recidive")
    expected = "ban for 604800 s, in the firewall; nothing open"
    table.row(f"the 3rd within a day, IPv{family}", expected, verdict(guarded, source, family, "recidive"))


def test_web_bans_do_not_lead_to_a_week(guarded: Host, table: Table) -> None:
    source = guarded.machine.attacker(22)
    for count in (1, 2, 3):
        scan(guarded, source, 4)
        known(guarded, source, 4, 5 * count, "er-web-scan")
        is_banned(guarded, source, 4, "er-web-scan")
        client(guarded, "set", "er-web-scan", "unbanip", source.ipv4)
    # The jail of bans reads one journal in order: it has seen these when it has seen one that came later.
    provoke(guarded, guarded.machine.attacker(23), 4)
    known(guarded, guarded.machine.attacker(23), 4, 1, "recidive")
    assert found(guarded, source.ipv4, "recidive") == 0
    expected = "no ban; SSH and HTTPS open"
    table.row("3 bans from the web in a day", expected, verdict(guarded, source, 4, "recidive"))


PAGES = ("/.env", "/wp-login.php", "/.git/config", "/phpmyadmin/", "/cgi-bin/luci")
ELSEWHERE = ("--header", "Host: other.example.com")


def scan(host: Host, source: Namespace, family: int, *words: str) -> None:
    ask(host, source, family, list(PAGES), *ELSEWHERE, *words)


# Hostile clients.


def raw_ssh(host: Host, source: Namespace, family: int, wishes: Sequence[dict[str, Any]]) -> list[int]:
    """SSH connections as wished (ssh_client.py); the local port of each."""
    argv = [sys.executable, str(Path(__file__).with_name("ssh_client.py")), host.address(family)]
    return json.loads(source.run(argv, stdin=json.dumps(wishes).encode()).stdout)  # type: ignore[no-any-return]


def pattern(form: str) -> str:
    """A form of sshd's lines as a regular expression; no text of a client is empty here."""
    return re.sub(r"\\{(\w+)\\}", lambda word: r"\d+" if word[1] == "port" else ".+", re.escape(form))


@pytest.mark.parametrize(("family", "number"), sample([(4, 24), (6, 26)], [(4, 24)]))
def test_nobody_can_have_another_banned(guarded: Host, table: Table, family: int, number: int) -> None:
    """sshd writes what a client asks for into its lines, an address and the words around it included."""
    source, victim = (guarded.machine.attacker(number + one) for one in (0, 1))
    who = own(victim, family)
    end = f"{who} port 2 [preauth]"
    wishes: list[dict[str, Any]] = [
        {"asks": [["a", "b"], ["a", f" {who} port 2: "]]},
        {"asks": [[f"a {end}", "ssh-connection"]]},
        {"asks": [[f"a\nConnection closed by authenticating user a {end}\n", "ssh-connection"]]},
        {"asks": [["a", f"x) {who} port 2: \u001b[2J"], ["b", f" {who} port 2: "]]},
        {"version": f"SSH-2.0-x {who} port 2", "asks": [["a", "ssh-connection"]]},
    ]
    ports = raw_ssh(guarded, source, family, wishes)
    is_banned(guarded, source, family)
    case = f"5 connections whose user, service and version name another's address, IPv{family}"
    table.row(f"{case}: that one", "no ban; SSH and HTTPS open", verdict(guarded, victim, family))
    expected = "ban for 3600 s, in the firewall; HTTPS open"
    table.row(f"{case}: the sender", expected, verdict(guarded, source, family))
    # With the address, as another may have had the same port.
    sent = re.compile(rf"{re.escape(own(source, family))} port ({'|'.join(map(str, ports))})\b")
    said = guarded.machine.run("journalctl -b -u ssh -o cat").stdout.splitlines()
    ends = [one for one in said if re.match("Disconnect|Connection closed", one) and sent.search(one)]
    assert len(ends) == len(wishes)
    forms = [pattern(form) for form in hostile_lines.ENDINGS]
    assert [one for one in ends if not any(re.fullmatch(form, one) for form in forms)] == [], (
        "forms of the fuzz are real"
    )


def test_a_request_cannot_hide_behind_its_length(guarded: Host, table: Table) -> None:
    """journald splits a line at 48 KiB: the status stood behind that, and neither web jail saw it.

    Caddy itself refuses headers of 60 kB; bytes that are no UTF-8 take six times their room in its log.
    """
    expected = "ban for 3600 s, in the firewall; SSH open"
    long, number = "\udcff" * 15_000, 28
    for name in sample(("Cookie", "User-Agent", "Sec-Fetch-Site"), ("Cookie",)):
        source = guarded.machine.attacker(number)
        ask(guarded, source, 4, list(PAGES), *ELSEWHERE, "--http1.1", "--header", f"{name}: {long}")
        is_banned(guarded, source, 4, "er-web-scan")
        case = f"5 scanner's pages with a header {name} that takes 90 kB in a log"
        table.row(case, expected, verdict(guarded, source, 4, "er-web-scan"))
        assert found(guarded, source.ipv4, "er-web-flood") == 5
        number += 12
    log = guarded.machine.path("/var/log/easyrunner/caddy/access.log").read_text().splitlines()
    assert not [line for line in log if '"Cookie"' in line], "headers are not logged"
    header = ("--http1.1", "--header", f"Cookie: {'a' * 60_000}")
    source = guarded.machine.attacker(29)
    for host in (ELSEWHERE, ()):
        assert guarded.curl(f"https://{SITE}/.env", *host, *header, source=source).stdout.startswith("HTTP/1.1 431")


@pytest.mark.parametrize("site", sample(["cross-site", "same-site", "same-origin"], ["cross-site"]))
def test_a_page_cannot_ban_its_visitors(guarded: Host, table: Table, site: str) -> None:
    numbers = {"cross-site": 30, "same-site": 31, "same-origin": 32}
    source = guarded.machine.attacker(numbers[site])
    scan(guarded, source, 4, "--header", f"Sec-Fetch-Site: {site}", "--header", "Sec-Fetch-Dest: image")
    scan(guarded, source, 4, "--header", f"Sec-Fetch-Site: {site}", "--header", "Sec-Fetch-Dest: iframe")
    ask(guarded, source, 4, ["/.env"], *ELSEWHERE, "--header", "Sec-Fetch-Site: none")
    known(guarded, source, 4, 1, "er-web-scan")
    case = f"10 scanner's pages that a page asked for ({site})"
    table.row(case, "no ban; SSH and HTTPS open", verdict(guarded, source, 4, "er-web-scan"))
    assert [found(guarded, source.ipv4, jail) for jail in ("er-web-scan", "er-web-flood")] == [1, 1]


# A client of IPv6 has 2^64 addresses.

ROTATING = "2001:db8:77:1::"


@contextlib.contextmanager
def rotating(host: Host, source: Namespace, count: int) -> Iterator[list[str]]:
    """An attacker with addresses of a /64 of its own, and the way back to it."""
    addresses = [f"{ROTATING}{one:x}:1" for one in range(1, count + 1)]
    for address in addresses:
        source.run(["ip", "addr", "add", f"{address}/128", "dev", "lan", "nodad"])
    host.machine.run(["ip", "-6", "route", "replace", f"{ROTATING}/64", "via", source.ipv6])
    yield addresses
    host.machine.run(["ip", "-6", "route", "del", f"{ROTATING}/64"])


def test_a_client_that_changes_its_address_is_stopped(guarded: Host, table: Table) -> None:
    source, prefix = guarded.machine.attacker(33), f"{ROTATING}/64"
    with rotating(guarded, source, 12) as addresses:
        for address in addresses[:5]:
            fail(guarded, source, "er", 6, "-b", address)
        guarded.machine.wait(lambda: prefix in banned(guarded), timeout=30, what="the ban of the /64")
        assert in_firewall(guarded, prefix, "sshd")
        sixth = ["ssh", "-b", addresses[5], "-o", "ConnectTimeout=2", "-o", "BatchMode=yes", guarded.address(6)]
        observed = "a ban of the /64; the 6th gets no answer"
        assert "timed out" in source.run(sixth, check=False).stderr
        table.row("5 attempts from 5 addresses of a /64", "a ban of the /64; the 6th gets no answer", observed)
        for address, page in zip(addresses[6:11], PAGES, strict=True):
            ask(guarded, source, 6, [page], *ELSEWHERE, "--interface", address)
        guarded.machine.wait(lambda: prefix in banned(guarded, "er-web-scan"), timeout=30, what="the ban of the /64")
        last = guarded.curl(f"https://{SITE}/", "--interface", addresses[11], source=source, family=6, timeout=2)
        assert last.returncode == 28, "no answer"
        table.row("5 scanner's pages from 5 addresses of a /64", observed, observed)
        for jail in ("sshd", "er-web-scan"):
            client(guarded, "set", jail, "unbanip", prefix)


# Bans are sets.


def rules(host: Host, family: int) -> list[str]:
    program = "ip6tables-save" if family == 6 else "iptables-save"
    return [line for line in host.machine.run([program]).stdout.splitlines() if line.startswith("-A")]


@pytest.mark.parametrize(("family", "number"), sample([(4, 34), (6, 35)], [(6, 35)]))
def test_ten_thousand_bans_are_no_rule_more(guarded: Host, table: Table, family: int, number: int) -> None:
    """What a packet has to pass is the number of rules; a set is asked in one step."""
    source = guarded.machine.attacker(number)
    before = rules(guarded, family)
    base = "198.18.{0}.{1}" if family == 4 else "2001:db8:{0:x}:{1:x}::/64"
    many = [base.format(one // 250, one % 250 + 1) for one in range(10_000)]
    name = f"sshd-{family}"
    guarded.machine.run(["ipset", "restore"], stdin="".join(f"add {name} {one} timeout 600\n" for one in many).encode())
    try:
        for _ in range(5):
            fail(guarded, source, "er", family)
        is_banned(guarded, source, family)
        assert in_firewall(guarded, many[-1], "sshd")
        more = len(rules(guarded, family)) - len(before)
        assert rules(guarded, family) == before
        case = f"10,001 bans: more rules on the way, IPv{family}"
        table.row(case, "0", str(more))
        assert not reaches_ssh(guarded, source, family)
        assert guarded.ssh("true", family=family).returncode == 0
    finally:
        guarded.machine.run(["ipset", "restore"], stdin="".join(f"del {name} {one}\n" for one in many).encode())


def test_bans_hold_where_the_firewall_fails_closed(guarded: Host, table: Table) -> None:
    source, file = guarded.machine.attacker(36), guarded.machine.path("/etc/easyrunner/firewall.d/20-ssh.filter")
    for _ in range(5):
        fail(guarded, source, "er", 4)
    is_banned(guarded, source, 4)
    good = file.read_bytes()
    file.write_bytes(good + b"-A ER-INPUT --nonsense\n")
    try:
        guarded.machine.run("systemctl restart er-firewall", check=False)
        assert not reaches_https(guarded, guarded.machine.attacker(0), 4), "it has failed closed"
        expected = "ban for 3600 s, in the firewall; nothing open"
        table.row("a ban where the firewall does not load", expected, verdict(guarded, source, 4))
        assert reaches_ssh(guarded, guarded.machine.attacker(0), 4)
        # As at a boot: nothing of ours is loaded yet.
        guarded.machine.run("iptables -D INPUT ! -i lo -m conntrack --ctdir ORIGINAL -j ER-BANS; iptables -F ER-BANS")
        guarded.machine.run("systemctl restart er-firewall", check=False)
        assert not reaches_ssh(guarded, source, 4)
    finally:
        file.write_bytes(good)
        guarded.machine.run("systemctl restart er-firewall")


def test_the_hosts_own_addresses_do_not_count(guarded: Host, table: Table) -> None:
    """As when an app asks for its neighbour's public name."""
    machine = guarded.machine
    for family in (4, 6):
        address = guarded.address(family)
        target = f"[{address}]" if family == 6 else address
        argv = ["curl", "-sk", "--connect-to", f"::{target}:", "--interface", address, *ELSEWHERE]
        # From here the redirect is passed by: the firewall lets the host's root reach Caddy's port for this.
        rule = ["ip6tables" if family == 6 else "iptables", "-t", "nat"]
        to = ["OUTPUT", "-p", "tcp", "-d", address, "--dport", "443", "-j", "REDIRECT", "--to-ports", "8443"]
        machine.run([*rule, "-A", *to])
        try:
            status = machine.run(
                [*argv, "-w", "%{http_code} ", *(f"https://{SITE}{page}" for page in PAGES * 2)], check=False
            )
        finally:
            machine.run([*rule, "-D", *to])
        assert status.stdout.count("421") == 10
        after = machine.attacker(37)
        ask(guarded, after, family, ["/.env"], *ELSEWHERE)
        known(guarded, after, family, 1, "er-web-scan")
        assert found(guarded, address, "er-web-scan") == 0
        assert not in_firewall(guarded, address, "er-web-scan")
        prefix = hostile_lines.counted(address)
        observed = "banned" if {address, prefix} & set(banned(guarded, "er-web-scan")) else "no ban"
        table.row(f"10 scanner's pages from the host's own address, IPv{family}", "no ban", observed)


# The journal.


@pytest.mark.parametrize(
    "unit", sample(["ssh", "er-watch@ssh", "er-watch@web", "fail2ban"], ["er-watch@ssh", "fail2ban"])
)
def test_an_app_cannot_write_what_fail2ban_reads(guarded: Host, unit: str) -> None:
    """A local user chooses its program's name and all fields but those that journald itself sets."""
    machine = guarded.machine
    victim = f"203.0.113.{10 + len(unit)}"
    forger = Path(__file__).with_name("journal_forger.py").read_text()
    machine.run(["python3", "-c", forger, victim, f"{unit}.service"], user="er-hello")
    machine.wait(lambda: victim in machine.run("journalctl -b -o cat -n 4000").stdout, timeout=20, what="the forgeries")
    # Each jail reads in order: what came later has been seen.
    later = machine.attacker(38)
    before = found(guarded, later.ipv4), found(guarded, later.ipv4, "er-web-scan")
    fail(guarded, later, "er", 4)
    ask(guarded, later, 4, ["/.env"], *ELSEWHERE)
    known(guarded, later, 4, before[0] + 1)
    known(guarded, later, 4, before[1] + 1, "er-web-scan")
    said = machine.run("journalctl -b -u fail2ban -o cat").stdout
    assert victim not in said
    for jail in JAILS:
        client(guarded, "set", jail, "unbanip", later.ipv4)


# What sshd does by itself.


def test_a_source_holds_few_connections_without_a_login(guarded: Host, table: Table) -> None:
    """Connections that end before they name a user are no failures; sshd limits how many there are at a time."""
    source = guarded.machine.attacker(39)
    count = """
import socket, sys
held = [socket.create_connection((sys.argv[1], 22), timeout=20) for _ in range(8)]
print(sum(one.recv(8).startswith(b"SSH-") for one in held))
"""
    for family in (4, 6):
        held = source.run([sys.executable, "-c", count, guarded.address(family)]).stdout.strip()
        table.row(f"8 connections at a time that name no user, IPv{family}", "5 answered", f"{held} answered")
    assert found(guarded, source.ipv4) == 0


# The filters, by Fail2Ban's own code.


def read_lines(host: Host, lines: Sequence[str], *, folder: str = "/etc/fail2ban") -> dict[str, Any]:
    """Whom each jail that is on finds in these lines (fail2ban_reads.py)."""
    program = Path(__file__).with_name("fail2ban_reads.py").read_text()
    argv = ["python3", "-c", program, folder]
    return json.loads(host.machine.run(argv, stdin=json.dumps(lines).encode()).stdout)  # type: ignore[no-any-return]


def watched(host: Host, lines: Sequence[str]) -> list[str]:
    """What er-watch makes of lines, as Fail2Ban gets it."""
    argv = ["mawk", "-Winteractive", "-f", "/usr/lib/easyrunner/watch.awk"]
    told = host.machine.run(argv, stdin="".join(f"{line}\n" for line in lines).encode()).stdout
    return [f"web1 er-watch[7]: {line}" for line in told.splitlines()]


@pytest.mark.parametrize(
    ("kind", "count", "jail"),
    [("ssh", 4_000, "sshd"), ("web", 10_000, "er-web-flood"), ("fail2ban", 10_000, "recidive")],
)
def test_the_address_that_counts_is_the_sockets(guarded: Host, kind: str, count: int, jail: str) -> None:
    """Lines of both families for every jail that is on, each with hostile texts at every place; whole, 10,000."""
    share = 1 if WHOLE else 10
    made = list(hostile_lines.cases(kind, count // share, seed=20_260_101))
    lines = [line for case in made for line in case.lines]
    assert len(lines) >= 10_000 // share
    read = read_lines(guarded, watched(guarded, lines) if kind != "fail2ban" else lines)
    assert set(read) == set(JAILS), "every jail that is on, and the test knows them all"
    expected = [case.who for case in made if case.who]
    assert [who for _, who in read[jail]["found"]] == expected
    assert {who for one in read.values() for _, who in one["found"]} <= set(expected)
    assert {":" in who for who in expected} == {True, False}
    others = [one for one in JAILS if one != jail and not (kind == "web" and one == "er-web-scan")]
    assert [read[one]["found"] for one in others] == [[]] * len(others)


def test_jails_match_only_what_journald_vouches_for(guarded: Host) -> None:
    """A field with an underscore is journald's; of those `_COMM` is what a process calls itself."""
    assert {jail: one["journal"] for jail, one in read_lines(guarded, []).items()} == {
        "sshd": ["_SYSTEMD_UNIT=er-watch@ssh.service"],
        "er-web-scan": ["_SYSTEMD_UNIT=er-watch@web.service"],
        "er-web-flood": ["_SYSTEMD_UNIT=er-watch@web.service"],
        "recidive": ["_SYSTEMD_UNIT=fail2ban.service"],
    }


WORDPRESS = """
server: {name: web1}
admin: {ssh_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f me"]}
fail2ban: {disable: [web-flood], allow: {shop.example.org: [/actuator/health, /pma/]}}
stacks:
  - {name: blog, image: "docker.io/library/wordpress:6.6-apache", domain: blog.example.org, port: 8080}
  - {name: shop, image: "docker.io/library/nginx:1.27", domain: shop.example.org, port: 8080}
"""
# Domain, path, and whether er-web-scan counts it.
OF_A_SITE = (
    ("blog.example.org", "/wp-content/uploads/2024/01/gone.jpg", False),
    ("blog.example.org", "/wp-admin/admin-ajax.php", False),
    ("blog.example.org", "/sub/wp-login.php", False),
    ("blog.example.org", "/wp-config.php.bak", True),
    ("blog.example.org", "/.env", True),
    ("blog.example.org", "/.env?/wp-content/", True),
    ("shop.example.org", "/wp-login.php", True),
    ("shop.example.org", "/actuator/health", False),
    ("shop.example.org", "/actuator/env", True),
    ("shop.example.org", "/x/pma/", True),
    ("blog.example.org.evil.example", "/wp-login.php", True),
    ("other.example.org", "/wp-login.php", True),
)


def test_a_site_may_have_pages_that_scanners_look_for(guarded: Host) -> None:
    """Read from another spec's configuration, on this host."""
    built = build(spec.loads(WORDPRESS, Path("easyrunner.yaml"))[0])
    local = next(file for file in built.files if file.path.endswith("jail.d/20-host.local"))
    folder = "/tmp/er-fail2ban"
    guarded.machine.run(f"rm -rf {folder}; cp -r /etc/fail2ban {folder}")
    guarded.machine.path(f"{folder}/jail.d/20-host.local").write_bytes(local.content)
    lines = [f"web1 er-watch[7]: 198.18.0.{at} 404 //{domain}{path}" for at, (domain, path, _) in enumerate(OF_A_SITE)]
    read = read_lines(guarded, lines, folder=folder)
    assert set(read) == {"sshd", "er-web-scan", "recidive"}, "er-web-flood is off"
    assert [at for at, _ in read["er-web-scan"]["found"]] == [at for at, one in enumerate(OF_A_SITE) if one[2]]


def test_bans_outlive_restarts_of_fail2ban_and_the_firewall_and_the_host(guarded: Host, table: Table) -> None:
    """The boot is of the sweep: `machine/test_data.py` has bans that even another machine takes over."""
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
            expected = "ban for 3600 s, in the firewall; HTTPS open"
            table.row(f"after {act}, IPv{family}", expected, verdict(guarded, source, family))

    for act in ("systemctl restart fail2ban", "systemctl restart er-firewall", "systemctl reload er-firewall"):
        guarded.machine.run(act, timeout=60)
        holds(f"`{act}`")
    if WHOLE:
        guarded.reboot()
        holds("a reboot")
    assert guarded.ssh("true").returncode == 0, "others still get in"


def test_the_page_says_what_was_observed(table: Table) -> None:
    """Runs last: the page in docs is the table of the sweep; rows of a run are rows of it, in that order."""
    page = INTRO + "".join(table.rows)
    if os.environ.get("UPDATE") and WHOLE:
        PAGE.write_text(page)
    text = PAGE.read_text()
    assert text.startswith(INTRO)
    rows = text.removeprefix(INTRO).splitlines(keepends=True)
    assert table.rows == ([row for row in rows if row in table.rows] if not WHOLE else rows)
