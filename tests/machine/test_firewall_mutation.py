"""Each rule of the firewall earns its place: without it, something that was promised no longer holds.

One rule at a time is taken out of the running host's files, in both families, and the firewall is reloaded; then the
same probes are asked, all at once, and one of them must fail. `pytest -rP` prints which. `make sweeps` tries each rule
of the base, a run of the tests every sixth and all of the host's own.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.host import firewall
from builder.host.firewall import FAMILIES
from builder.stack import user
from tests.machine.outside_servers import LOOPBACK, METADATA, link_local, surroundings
from tests.machine.probes import Agent, inside, outside, ping, quic, serving, tcp, udp, undone
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine
    from tests.machine.hosts import Host
    from tests.machine.probe_program import Question

pytestmark = pytest.mark.machine

BASE = [file for file in firewall.base_files() if not file.path.startswith(firewall.LOCKDOWN)]
RULES = list(dict.fromkeys(line for file in BASE for line in file.content.decode().splitlines() if line[0] == "-"))
UNSEEN: dict[str, str] = (
    {line: "takes thousands of connections: `make attacks` makes them" for line in RULES if "connlimit-above" in line}
    | {
        line: "refuses what `egress:` to everywhere would let through: test_own_sites.py has the limit itself"
        for line in RULES
        if line == "-A ER-OUT-GUARD -m conntrack --ctstate DNAT --ctdir ORIGINAL -j ER-OUT-DENY"
    }
    | {line: "takes a hundred of them: test_slow_clients.py" for line in RULES if firewall.WEB in line}
)
"""Rules that no probe can tell apart, with the reason."""
JAILS = ("sshd", "er-web-scan", "er-web-flood", "recidive")
BANNED = {jail: {4: f"198.51.100.{at}", 6: f"2001:db8:b:{at}::1"} for at, jail in enumerate(JAILS, 20)}
"""An address of the attacker's in each set of bans."""
FAST, SURE, QUICK = 0.4, 1.2, 0.5
STRANGER = 30_000
"""A user of our range without rules of its own."""
OPENED = 40_405
"""A port that somebody opened behind our rules."""


@dataclass(frozen=True)
class Probe:
    """A question, from the attacker or from the host under some user's id, and what must come of it."""

    name: str
    family: int
    agent: str
    question: Question
    wanted: str

    def holds(self, outcome: str, took: float) -> bool:
        """A refusal must be quick too."""
        return outcome == self.wanted and (outcome != "refused" or took < QUICK)


class Probes:
    """All probes of a host, and the agents that ask them."""

    def __init__(self, machine: Machine, agents: dict[str, Agent]) -> None:
        self.machine, self.agents = machine, agents
        self.hello = machine.user("er-hello").uid
        self.neighbour = machine.user("er-notes").uid
        self.admin = machine.user("er").uid
        self.local = {"host": link_local(inside(machine)), "attacker": link_local(outside(machine.attacker(0)))}
        self.probes = [probe for family in (4, 6) for probe in (*self.outer(family), *self.inner(family))]
        self.probes += self.link()
        self._hops = 100

    def outer(self, family: int) -> Iterator[Probe]:
        """From outside."""
        host = self.machine.ipv4 if family == 4 else self.machine.ipv6
        stray = {"op": "stray", "to": host, "port": OPENED, "flags": 0x12}
        for name, question, wanted in (
            ("ssh", tcp(host, facts.SSH), "open"),
            ("http", tcp(host, facts.HTTP), "open"),
            ("https", tcp(host, facts.HTTPS), "open"),
            ("http/3", quic(host, facts.HTTPS), "open"),
            ("ping", ping(host), "open"),
            ("a port opened behind", tcp(host, OPENED), "refused"),
            ("a segment of no connection to it", stray, "silent"),
            ("admin API opened behind", tcp(host, facts.PROXY_ADMIN), "silent"),
            ("proxy's port", tcp(host, facts.PROXY_HTTPS), "silent"),
        ):
            yield Probe(f"from outside: {name}", family, "attacker", question, wanted)
        for jail, asked in (
            ("sshd", tcp(host, facts.SSH)),
            ("recidive", tcp(host, facts.SSH)),
            *(
                (jail, question)
                for jail in JAILS[1:3]
                for question in (tcp(host, facts.HTTPS), quic(host, facts.HTTPS))
            ),
        ):
            question = {**asked, "source": BANNED[jail][family]}
            yield Probe(f"banned by {jail}: {asked['op']} {asked['port']}", family, "attacker", question, "silent")

    def inner(self, family: int) -> Iterator[Probe]:
        """From the host, under different ids."""
        there = self.machine.attacker(1).ipv4 if family == 4 else self.machine.attacker(1).ipv6
        here = LOOPBACK[family]
        proxy, hello = facts.PROXY_UID, self.hello
        rows: list[tuple[str, int, Question, str]] = [
            ("its own loopback", 0, tcp(here, 80), "open"),
            ("answers from the network", 0, tcp(there, 9999), "open"),
            ("proxy's HTTP port", 0, tcp(here, facts.PROXY_HTTP), "silent"),
            ("proxy's HTTPS port", 0, tcp(here, facts.PROXY_HTTPS), "silent"),
            ("proxy's HTTP/3 port", 0, quic(here, facts.PROXY_HTTPS), "silent"),
            ("admin API as root", 0, tcp(here, facts.PROXY_ADMIN), "open"),
            ("admin API as the proxy", proxy, tcp(here, facts.PROXY_ADMIN), "open"),
            ("admin API as the admin", self.admin, tcp(here, facts.PROXY_ADMIN), "refused"),
            ("a stranger's web", STRANGER, tcp(there, 443), "refused"),
            ("a strange subid's web", (STRANGER - facts.UID_BASE) * facts.SUBID_SIZE, tcp(there, 443), "refused"),
        ]
        for who, uid in (("proxy", proxy), ("hello", hello)):
            for name, number in ((who, uid), (f"{who}'s subid", user.subids(uid).first + 33)):
                rows += [
                    (f"{name} to HTTPS", number, tcp(there, 443), "open"),
                    (f"{name} to DNS", number, udp(there, 53), "open"),
                    (f"{name} to another port", number, tcp(there, 9999), "refused"),
                    (f"{name} to another UDP port", number, udp(there, 9999), "refused"),
                    (f"{name} to the host's own", number, tcp(here, 81), "refused"),
                    *((f"{name} to {end}", number, tcp(end, 80), "refused") for end in METADATA[family]),
                ]
        own_site = facts.OWN_SITES[FAMILIES.index(family)]
        rows += [
            ("hello to its own sites over HTTP", hello, tcp(here, facts.HTTP), "open"),
            ("hello to its own sites by name", hello, tcp(own_site, facts.HTTPS), "open"),
            ("hello to its own sites over HTTP/3", hello, quic(own_site, facts.HTTPS), "open"),
            ("hello to what its own sites are, elsewhere", hello, tcp(own_site, 53), "refused"),
            ("proxy to the host's sites", proxy, tcp(here, facts.HTTP), "refused"),
        ]
        # The kernel sends few ICMP errors at a time, so only resets refuse each of these at once.
        rows += [("hello to another port, often", hello, {**tcp(there, 9999), "op": "burst", "count": 300}, "refused")]
        own = ("open", "refused") if family == 4 else ("refused", "refused")
        rows += [
            ("hello's own egress", hello, tcp(there, 7777), own[0]),
            ("hello's own egress for another", self.neighbour, tcp(there, 7777), own[1]),
        ]
        if family == 4:
            for resolver in ("127.0.0.53", "127.0.0.54"):
                rows += [(f"{resolver} over TCP", hello, tcp(resolver, 53), "open")]
                rows += [(f"{resolver} over UDP", hello, udp(resolver, 53, say="dns"), "open")]
        else:
            beside = f"{link_local(outside(self.machine.attacker(1)))}%lan"
            rows += [("hello to a link-local address", hello, tcp(beside, 80), "refused")]
        for name, uid, question, wanted in rows:
            yield Probe(f"from the host: {name}", family, "host", {**question, "uid": uid}, wanted)

    def link(self) -> Iterator[Probe]:
        """What IPv6 needs of its neighbours, from where they say it."""
        host, router = (f"{self.local[name]}%lan" for name in ("host", "attacker"))
        dhcp = udp(host, 546, sport=547, source=router, loose=True)
        yield Probe("from the link: an answer of DHCPv6", 6, "attacker", dhcp, "open")
        listeners = {"op": "listeners", "to": "ff02::1", "host": self.local["host"]}
        yield Probe("from the link: a query for listeners", 6, "attacker", listeners, "open")

    def ask(self, probes: list[Probe], patience: float) -> list[Probe]:
        """The probes that do not hold."""
        for agent in self.agents.values():
            agent.run("ip", "-6", "neigh", "flush", "dev", "lan")
        for name, agent in self.agents.items():
            agent.send({"ask": [probe.question for probe in probes if probe.agent == name], "patience": patience})
        failed = []
        for name, agent in self.agents.items():
            asked = [probe for probe in probes if probe.agent == name]
            failed += [probe for probe, got in zip(asked, agent.receive(), strict=True) if not probe.holds(*got)]
        return failed

    def red(self, patience: float = FAST) -> list[tuple[int, str]]:
        """Family and name of what fails, when asked again with more patience: a busy machine is not a missing rule."""
        failed = self.ask(self.probes, patience)
        failed = self.ask(failed, SURE) if failed else []
        found = [(probe.family, probe.name) for probe in failed]
        return found + [(6, "from the link: a router's word")] * (not self.believed()) + self.unlogged()

    def reload(self) -> None:
        """Load the firewall's files as they are now."""
        self.agents["host"].run("systemctl", "reload", "er-firewall")

    def believed(self) -> bool:
        """Whether the host takes a router's announced hop limit."""
        self._hops += 1
        setting = "/proc/sys/net/ipv6/conf/lan/hop_limit"
        for patience in (0.1, 0.3, 1.0):
            self.agents["attacker"].ask({"op": "router", "to": "ff02::1", "hops": self._hops}, patience=patience)
            if int(self.agents["host"].read(setting)) == self._hops:
                return True
        return False

    def unlogged(self) -> list[tuple[int, str]]:
        """The families in which refusals are not counted each, or not logged, for whom they are."""
        found = []
        for family, table in ((4, "iptables"), (6, "ip6tables")):
            before, _ = self.refusals(table)
            self.refused_once_and_twice(family)
            after, lines = self.refusals(table)
            found += [
                (family, f"the count of {name}")
                for name, count in (("hello", 3), ("proxy", 3), ("others", 1))
                if after.get(name, 0) - before.get(name, 0) != count
            ]
            found += [
                (family, f"a line in the log for {name}") for name in ("hello", "proxy", "others") if not lines[name]
            ]
        return found

    def refused_once_and_twice(self, family: int) -> None:
        """One packet of a user, two of its subordinate ids: a count tells which are missing. One of a stranger."""
        other = self.machine.attacker(1)
        there = other.ipv4 if family == 4 else other.ipv6
        asked = [{**tcp(there, 9999), "uid": STRANGER}]
        for uid in (self.hello, facts.PROXY_UID):
            subid = user.subids(uid).first + 33
            asked += [{**tcp(there, 9999), "uid": one} for one in (uid, subid, subid)]
        self.agents["host"].ask(*asked, patience=SURE)

    def refusals(self, table: str) -> tuple[dict[str, int], dict[str, int]]:
        """Packets refused and lines logged since the reload, by whose they were."""
        saved = self.agents["host"].run(f"{table}-save", "-c", "-t", "filter")
        chains = {f"ER-NO-{self.hello}": "hello", f"ER-NO-{facts.PROXY_UID}": "proxy", "ER-OUT-DENY": "others"}
        found: dict[str, dict[str, int]] = {"ER-OUT-REJECT": {}, "LOG": dict.fromkeys(chains.values(), 0)}
        for count, chain, target in re.findall(r"^\[(\d+):\d+\] -A (\S+) .*?-j (\S+)", saved, re.MULTILINE):
            if chain in chains and target in found:
                found[target][chains[chain]] = int(count)
        return found["ER-OUT-REJECT"], found["LOG"]


@contextlib.contextmanager
def banned(machine: Machine, name: str, family: int, address: str) -> Iterator[None]:
    """An address more for the attacker, the way back to it, and its ban."""
    ip, whole = ["ip", f"-{family}"], 32 if family == 4 else 128
    there, back = ([[*ip, "addr", word, f"{address}/{whole}", "dev", "lan"]] for word in ("add", "del"))
    way = [[*ip, "route", "add", address, "dev", "lan"], ["ipset", "add", name, address]]
    gone = [[*ip, "route", "del", address, "dev", "lan"], ["ipset", "del", name, address]]
    with undone(there, back, outside(machine.attacker(0))), undone(way, gone, inside(machine)):
        yield


@pytest.fixture(scope="module")
def probes(three: Host) -> Iterator[Probes]:
    machine = three.machine
    local = link_local(inside(machine))
    beside = link_local(outside(machine.attacker(1)))
    admin = [f"tcp:{address}:{facts.PROXY_ADMIN}" for address in (machine.ipv4, machine.ipv6, "::1")]
    own = [f"tcp:{address}:{port}" for port in (80, 81) for address in LOOPBACK.values()]
    behind = [
        [table, "-w", "10", word, "INPUT", "-p", "tcp", "--dport", str(port), "-j", "ACCEPT"]
        for word in ("-A", "-D")
        for table in ("iptables", "ip6tables")
        for port in (OPENED, facts.PROXY_ADMIN)
    ]
    hops = "net.ipv6.conf.lan.hop_limit"
    with contextlib.ExitStack() as stack:
        for jail, addresses in BANNED.items():
            for family, address in addresses.items():
                stack.enter_context(banned(machine, f"{jail}-{family}", family, address))
        stack.enter_context(surroundings(machine))
        stack.enter_context(serving(inside(machine), *admin, *own, f"aside:{local}%lan:546"))
        stack.enter_context(serving(outside(machine.attacker(1)), f"tcp:{beside}%lan:80"))
        stack.enter_context(undone(behind[:4], [*behind[4:], ["sysctl", "-qw", f"{hops}=64"]], inside(machine)))
        places = {"attacker": outside(machine.attacker(0)), "host": inside(machine)}
        agents = {name: stack.enter_context(Agent(place)) for name, place in places.items()}
        probes = Probes(machine, agents)
        stack.callback(probes.reload)
        yield probes


@contextlib.contextmanager
def without(probes: Probes, line: str, paths: list[str]) -> Iterator[set[int]]:
    """The host's firewall with a rule taken out of every file that has it; gives the families that had it.

    The files are whole again at the end; who asks next loads them.
    """
    before = {path: probes.machine.path(path).read_text() for path in paths}
    try:
        for path, text in before.items():
            rest = [one for one in text.splitlines(keepends=True) if one.rstrip() != line]
            probes.machine.path(path).write_text("".join(rest))
        probes.reload()
        yield {int(line[1])} if line[:2] in ("-4", "-6") else set(FAMILIES)
    finally:
        for path, text in before.items():
            probes.machine.path(path).write_text(text)


def test_all_is_well_with_every_rule_in_place(probes: Probes) -> None:
    probes.reload()
    assert probes.red() == []


@pytest.mark.parametrize("line", sample(RULES, RULES[::6]))
def test_a_rule_of_the_base_is_missed(probes: Probes, line: str) -> None:
    assert_missed(probes, line, [file.path for file in BASE])


def test_every_rule_of_this_host_is_missed(three: Host, probes: Probes) -> None:
    """Who may use SSH, and what the stack hello may reach."""
    paths = [f"{firewall.HOST}/{name}.filter" for name in ("20-ssh", "30-hello")]
    lines = [line for path in paths for line in three.machine.path(path).read_text().splitlines() if line[0] == "-"]
    for line in dict.fromkeys(lines):
        assert_missed(probes, line, paths)


def assert_missed(probes: Probes, line: str, paths: list[str]) -> None:
    """Some probe fails in each family that had the rule, unless none is known to."""
    with without(probes, line, paths) as families:
        # An echo request whose random id met a live connection's passes as part of it: two in a row do not. And where
        # silence is right, a refusal that a busy machine sends late is taken for it.
        red = probes.red() or probes.red(SURE)
    for family in sorted(families):
        caught = [name for which, name in red if which == family]
        print(f"IPv{family} {line}\n    {'; '.join(caught) or UNSEEN.get(line, 'nothing')}")
        assert bool(caught) != (line in UNSEEN), f"IPv{family}"
    assert {family for family, _ in red} <= families, "the other family is as it was"


def test_all_is_well_again(probes: Probes) -> None:
    probes.reload()
    assert probes.red() == []
