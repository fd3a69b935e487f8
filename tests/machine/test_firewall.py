"""The firewall of a running host, from outside: what answers, what is silent, in both families."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.stack import user
from tests.machine import hosts, probes
from tests.machine.probes import Agent, inside, outside, ping, quic, serving, tcp, udp, undone
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine
families = pytest.mark.parametrize("family", [4, 6])
OPEN = {facts.SSH, facts.HTTP, facts.HTTPS}
TABLES = {4: "iptables", 6: "ip6tables"}
CONTROL = 40_404


@pytest.fixture(scope="module")
def attacker(three: Host) -> Iterator[Agent]:
    with Agent(outside(three.machine.attacker(0))) as agent:
        yield agent


@pytest.fixture(scope="module")
def root(three: Host) -> Iterator[Agent]:
    with Agent(inside(three.machine)) as agent:
        yield agent


@contextlib.contextmanager
def rule(machine: Machine, family: int, *words: str) -> Iterator[None]:
    """A rule of nobody's in front of (-I) or behind (-A) ours for a while."""
    where, chain, *rest = words
    ipt = [TABLES[family], "-w", "10"]
    with undone([[*ipt, where, chain, *rest]], [[*ipt, "-D", chain, *rest]], inside(machine)):
        yield


def ports(found: str) -> set[int]:
    """The ports of nmap's greppable output that are not filtered: open ones and closed ones."""
    return {int(port) for port in re.findall(r"(\d+)/(?:open|closed)/", found)}


def scan_tcp(host: Host, family: int) -> set[int]:
    words = ["-6"] if family == 6 else []
    speed = [
        "--min-rate",
        "20000",
        "--max-retries",
        "2",
        "--initial-rtt-timeout",
        "100ms",
        "--max-rtt-timeout",
        "300ms",
    ]
    argv = ["nmap", *words, "-sS", "-Pn", "-n", "-p-", *speed, "-oG", "-", host.address(family)]
    return ports(host.machine.attacker(0).run(argv, timeout=120).stdout)


# What is open.


@families
def test_of_all_tcp_ports_only_ssh_and_the_web_answer(three: Host, family: int) -> None:
    """One port is let through for the scan's time: closed as it is, it shows that the scan would have seen it."""
    with rule(three.machine, family, "-I", "INPUT", "-p", "tcp", "--dport", str(CONTROL), "-j", "ACCEPT"):
        assert scan_tcp(three, family) == OPEN | {CONTROL}


@families
def test_of_all_udp_ports_only_http3_answers(three: Host, family: int, attacker: Agent) -> None:
    """Every port gets a QUIC greeting twice; answers and errors both count.

    What is dropped cannot be asked again and again, so silence after two is taken for silence.
    """
    with rule(three.machine, family, "-I", "INPUT", "-p", "udp", "--dport", str(CONTROL), "-j", "ACCEPT"):
        assert attacker.scan_udp(three.address(family)) == [facts.HTTPS, CONTROL]


@families
def test_what_is_open_serves(three: Host, family: int, attacker: Agent) -> None:
    address = three.address(family)
    assert three.ssh("true", family=family).returncode == 0
    assert " 200" in three.curl("https://hello.example.com/", family=family).stdout.splitlines()[0]
    assert " 308" in three.curl("http://hello.example.com/", family=family).stdout.splitlines()[0]
    assert attacker.all_open(quic(address, facts.HTTPS)) == []


@families
def test_input_and_forward_drop_by_policy(three: Host, family: int) -> None:
    for chain in ("INPUT", "FORWARD"):
        rules = three.machine.run([TABLES[family], "-S", chain]).stdout.splitlines()
        assert rules[0] == f"-P {chain} DROP"


@families
def test_without_our_chain_nothing_answers(three: Host, family: int, attacker: Agent) -> None:
    """The policy itself: with our jump out of the way even what is open is silent, and back again it answers."""
    address = three.address(family)
    asked = [tcp(address, port) for port in sorted(OPEN)] + [ping(address), udp(address, facts.HTTPS)]
    ipt = [TABLES[family], "-w", "10"]
    jump = ["INPUT", "-j", "ER-INPUT"]
    with undone([[*ipt, "-D", *jump]], [[*ipt, "-A", *jump]], inside(three.machine)):
        assert attacker.all_silent(*asked) == []
    assert attacker.all_open(*asked[:3]) == []


@families
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_program_that_listens_is_not_reached(
    three: Host, family: int, protocol: str, attacker: Agent, root: Agent
) -> None:
    address = three.address(family)
    anywhere = "::" if family == 6 else "0.0.0.0"
    ask = {"op": protocol, "to": address, "port": CONTROL}
    with serving(inside(three.machine), f"{protocol}:{anywhere}:{CONTROL}"):
        assert root.all_open(ask) == []
        assert attacker.all_silent(ask, *({**ask, "sport": port} for port in (22, 53, 80, 443))) == []


# Forwarding.


@families
def test_the_host_forwards_for_nobody(three: Host, family: int) -> None:
    """Even where the kernel would route: one attacker asks through the host for an address at another."""
    machine = three.machine
    one, other = machine.attacker(0), machine.attacker(1)
    far, bits = ("198.51.100.7", 32) if family == 4 else ("2001:db8:7::7", 128)
    ip = ["ip", f"-{family}"]
    switch = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
    ends = (
        (
            [*ip, "addr", "add", f"{far}/{bits}", "dev", "lan"],
            [*ip, "addr", "del", f"{far}/{bits}", "dev", "lan"],
            other,
        ),
        ([*ip, "route", "add", far, "via", three.address(family)], [*ip, "route", "del", far], one),
    )
    with contextlib.ExitStack() as stack:
        for do, undo, place in ends:
            stack.enter_context(undone([do], [undo], outside(place)))
        on = [[*ip, "route", "add", far, "dev", "lan"], ["sysctl", "-qw", f"{switch}=1"]]
        # A kernel that stops forwarding takes redirects again; the host's own settings follow.
        off = [["sysctl", "-qw", f"{switch}=0"], ["sysctl", "-q", "--system"], [*ip, "route", "del", far]]
        stack.enter_context(undone(on, off, inside(machine)))
        stack.enter_context(serving(outside(other), f"tcp:{far}:80"))
        agent = stack.enter_context(Agent(outside(one)))
        asked = (tcp(far, 80), ping(far))
        assert agent.all_silent(*asked) == []
        accept, drop = ([TABLES[family], "-P", "FORWARD", policy] for policy in ("ACCEPT", "DROP"))
        with undone([accept], [drop], inside(machine)):
            assert agent.all_open(*asked) == [], "the way is there, only the policy bars it"


# The proxy's own ports.


def proxy_ports(address: str) -> list[dict[str, object]]:
    """Straight to where the proxy listens, as anyone and with a disguise."""
    plain = [tcp(address, facts.PROXY_HTTP), tcp(address, facts.PROXY_HTTPS), quic(address, facts.PROXY_HTTPS)]
    return plain + [{**one, "sport": port} for one, port in zip(plain, (80, 443, 443), strict=True)]


@families
def test_the_proxys_ports_are_closed_to_the_outside(three: Host, family: int, attacker: Agent) -> None:
    """While the redirect to the same listeners works, before and after."""
    address = three.address(family)
    through = (tcp(address, facts.HTTP), tcp(address, facts.HTTPS), quic(address, facts.HTTPS))
    assert attacker.all_open(*through) == []
    assert attacker.all_silent(*proxy_ports(address)) == []
    assert attacker.all_open(*through) == []


@families
def test_the_proxys_ports_are_closed_to_the_host_itself(three: Host, family: int, attacker: Agent, root: Agent) -> None:
    loopback = "127.0.0.1" if family == 4 else "::1"
    through = (tcp(three.address(family), facts.HTTPS), quic(three.address(family), facts.HTTPS))
    for address in (loopback, three.address(family)):
        assert root.all_silent(*proxy_ports(address)) == []
    assert attacker.all_open(*through) == []


@families
@pytest.mark.parametrize("port", [facts.PROXY_HTTP, facts.PROXY_HTTPS])
def test_a_redirected_client_gains_no_way_straight_in(three: Host, family: int, port: int, attacker: Agent) -> None:
    """From the very source port whose connection through the redirect is open."""
    address = three.address(family)
    world = {facts.PROXY_HTTP: facts.HTTP, facts.PROXY_HTTPS: facts.HTTPS}[port]
    for sport in (45_001, 45_002):
        assert attacker.all_open(tcp(address, world, sport=sport)) == []
        assert attacker.all_silent(tcp(address, port, sport=sport)) == []


# The proxy's admin API.


@families
def test_the_admin_port_is_closed_to_the_outside(three: Host, family: int, attacker: Agent, root: Agent) -> None:
    """With a real listener on the outer address, and even where somebody opened the port behind our rules."""
    address = three.address(family)
    asked = (tcp(address, facts.PROXY_ADMIN), tcp(address, facts.PROXY_ADMIN, sport=facts.HTTPS))
    assert attacker.all_silent(*asked) == []
    with serving(inside(three.machine), f"tcp:{address}:{facts.PROXY_ADMIN}"):
        assert root.all_open(asked[0]) == []
        assert attacker.all_silent(*asked) == []
        behind = ("-A", "INPUT", "-p", "tcp", "--dport", str(facts.PROXY_ADMIN), "-j", "ACCEPT")
        with rule(three.machine, family, *behind):
            assert attacker.all_silent(*asked) == []


# ICMP.


@families
def test_the_host_answers_pings(three: Host, family: int, attacker: Agent) -> None:
    assert attacker.all_open(ping(three.address(family))) == []


@families
def test_neighbours_are_found_again(three: Host, family: int, attacker: Agent, root: Agent) -> None:
    """Both ends forget each other; then each finds the other, whoever asks first."""
    machine = three.machine
    here, there = three.address(family), machine.attacker(0)
    theirs = there.ipv4 if family == 4 else there.ipv6
    for first, target, second, back in ((attacker, here, root, theirs), (root, theirs, attacker, here)):
        machine.run(["ip", f"-{family}", "neigh", "flush", "dev", "lan"])
        there.run(["ip", f"-{family}", "neigh", "flush", "dev", "lan"])
        assert first.all_open(ping(target)) == []
        assert second.all_open(ping(back)) == []


@families
def test_an_error_about_a_packet_of_its_own_reaches_the_host(three: Host, family: int, root: Agent) -> None:
    """A router of the attacker's side reports a smaller path: the host believes it, for it sent that packet."""
    machine = three.machine
    one, other = machine.attacker(0), machine.attacker(1)
    far, bits = ("198.51.100.8", 32) if family == 4 else ("2001:db8:8::8", 128)
    via = one.ipv4 if family == 4 else one.ipv6
    hop = other.ipv4 if family == 4 else other.ipv6
    ip = ["ip", f"-{family}"]
    switch = "net.ipv4.ip_forward" if family == 4 else "net.ipv6.conf.all.forwarding"
    with contextlib.ExitStack() as stack:
        add, gone = (
            [*ip, "addr", "add", f"{far}/{bits}", "dev", "lan"],
            [*ip, "addr", "del", f"{far}/{bits}", "dev", "lan"],
        )
        stack.enter_context(undone([add], [gone], outside(other)))
        narrow = [[*ip, "route", "add", far, "via", hop, "mtu", "lock", "1300"], ["sysctl", "-qw", f"{switch}=1"]]
        wide = [["sysctl", "-qw", f"{switch}=0"], [*ip, "route", "del", far]]
        stack.enter_context(undone(narrow, wide, outside(one)))
        route = [[*ip, "route", "add", far, "via", via]]
        stack.enter_context(undone(route, [[*ip, "route", "del", far]], inside(machine)))
        kind = "AF_INET" if family == 4 else "AF_INET6"
        send = f"import socket as s; s.socket(s.{kind}, s.SOCK_DGRAM).sendto(bytes(1400), ('{far}', 9))"
        machine.run(["python3", "-c", send])
        machine.wait(
            lambda: "mtu 1300" in machine.run([*ip, "route", "get", far]).stdout, timeout=5, what="the smaller path"
        )


# Fail2Ban, connections and SSH's sources.


@families
def test_reapplying_keeps_bans_and_connections(three: Host, family: int) -> None:
    machine = three.machine
    bad, good = machine.attacker(1), machine.attacker(0)
    address = three.address(family)
    banned = bad.ipv4 if family == 4 else bad.ipv6
    ban, unban = (["fail2ban-client", "set", "sshd", f"{word}ip", banned] for word in ("ban", "unban"))
    with Agent(outside(bad)) as enemy, Agent(outside(good)) as friend, undone([ban], [unban], inside(machine)):
        machine.wait(lambda: not enemy.all_silent(tcp(address, facts.SSH)), timeout=10, what="the ban")
        with Session(three, family) as session:
            assert session.says("before") == "before"
            machine.run(["systemctl", "reload", "er-firewall"])
            assert session.says("after") == "after"
        assert enemy.all_silent(tcp(address, facts.SSH)) == []
        assert friend.all_open(tcp(address, facts.SSH)) == []
        assert banned in machine.run(["ipset", "list", f"sshd-{family}"]).stdout
        machine.run(["systemctl", "restart", "er-firewall"])
        assert enemy.all_silent(tcp(address, facts.SSH)) == []
    with Agent(outside(bad)) as enemy:
        assert enemy.all_open(tcp(address, facts.SSH)) == []


class Session:
    """An SSH connection that stays, echoing lines."""

    def __init__(self, host: Host, family: int) -> None:
        self._words = host.ssh_argv("cat", family=family)
        self._place = host.machine.attacker(0)

    def __enter__(self) -> Session:
        self._process = probes.talking(self._place.argv(self._words))
        return self

    def __exit__(self, *_: object) -> None:
        probes.end(self._process)

    def says(self, word: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


# A host of its own, for what cannot be shared: SSH narrowed in the spec, rules broken, power off.

ALLOWED = {4: "192.0.2.10", 6: "2001:db8:9::10"}
NEIGHBOUR = {4: "192.0.2.11", 6: "2001:db8:9::11"}
NETWORK = {4: "192.0.2.0/24", 6: "2001:db8:9::/64"}


@pytest.fixture(scope="module")
def narrow(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """`three` with SSH for one address of each family."""
    ssh = f'ssh: {{allow_from: ["{ALLOWED[4]}/32", "{ALLOWED[6]}/128"]}}\n'
    with hosts.booted("three", tmp_path_factory.mktemp("narrow"), edit=lambda text: text + ssh) as host:
        for family in (4, 6):
            for number, address in enumerate((ALLOWED[family], NEIGHBOUR[family])):
                bits = 32 if family == 4 else 128
                host.machine.attacker(number).run(["ip", "addr", "add", f"{address}/{bits}", "dev", "lan"])
        yield host


@pytest.fixture
def ways(narrow: Host) -> None:
    """The host's routes to these addresses, which end with its network."""
    for family in (4, 6):
        narrow.machine.run(["ip", f"-{family}", "route", "replace", NETWORK[family], "dev", "lan"])


@families
def test_only_the_named_source_may_use_ssh(narrow: Host, ways: None, family: int) -> None:
    one, other = narrow.machine.attacker(0), narrow.machine.attacker(1)
    ask = tcp(narrow.address(family), facts.SSH)
    web = tcp(narrow.address(family), facts.HTTPS)
    with Agent(outside(one)) as agent:
        assert agent.all_open({**ask, "source": ALLOWED[family]}, web) == []
        assert agent.all_silent(ask) == []
    with Agent(outside(other)) as agent:
        assert agent.all_open({**web, "source": NEIGHBOUR[family]}) == []
        assert agent.all_silent(ask, {**ask, "source": NEIGHBOUR[family]}) == []


BASE = "/usr/lib/easyrunner/firewall.d/base/10-base"
LOCKDOWN = "/usr/lib/easyrunner/firewall.d/lockdown/10-lockdown"
SSH_RULES = "/etc/easyrunner/firewall.d/20-ssh.filter"
# The line that breaks a file: nonsense in both families, or in one of them alone.
BROKEN = {
    "host": ("", [SSH_RULES]),
    "host-v4": ("-4 ", [SSH_RULES]),
    "host-v6": ("-6 ", [SSH_RULES]),
    "base-v4": ("-4 ", [f"{BASE}.filter"]),
    "nat-v6": ("-6 ", [f"{BASE}.nat"]),
    "base-and-lockdown-v4": ("-4 ", [f"{BASE}.filter", f"{LOCKDOWN}.filter"]),
    "both-everywhere": ("", [f"{BASE}.filter", f"{LOCKDOWN}.filter"]),
}


@contextlib.contextmanager
def broken(machine: Machine, files: list[str], mark: str = "") -> Iterator[None]:
    """Rule files with a line that no iptables understands, for the family that the mark names or for both."""
    before = {file: machine.path(file).read_bytes() for file in files}
    try:
        for file, text in before.items():
            machine.path(file).write_bytes(text + f"{mark}-A ER-INPUT --nonsense\n".encode())
        yield
    finally:
        for file, text in before.items():
            machine.path(file).write_bytes(text)


def uids_of(host: Host) -> list[int]:
    """Ids that a stack's processes have: its user's, and one of its containers' users'."""
    uid = host.machine.user("er-hello").uid
    return [uid, user.subids(uid).first + 33]


def assert_locked(host: Host) -> None:
    """Only SSH answers, of all that listens; no app gets out; and the failure shows."""
    machine = host.machine
    with Agent(outside(machine.attacker(1))) as agent, Agent(inside(machine)) as root:
        for family in (4, 6):
            address = host.address(family)
            with serving(inside(machine), f"tcp:{address}:{CONTROL}", f"udp:{address}:{CONTROL}"):
                machine.attacker(1).run(["ip", f"-{family}", "neigh", "flush", "dev", "lan"])
                assert agent.all_open(tcp(address, facts.SSH)) == []
                web = (facts.HTTP, facts.HTTPS, facts.PROXY_HTTP, facts.PROXY_HTTPS, facts.PROXY_ADMIN, CONTROL)
                datagrams = (quic(address, facts.HTTPS), quic(address, facts.PROXY_HTTPS), udp(address, CONTROL))
                assert agent.all_silent(*(tcp(address, port) for port in web), *datagrams) == []
            there = machine.attacker(1).ipv4 if family == 4 else machine.attacker(1).ipv6
            with serving(outside(machine.attacker(1)), f"tcp:{there}:443"):
                assert "open" not in root.ask(*(tcp(there, 443, uid=uid) for uid in uids_of(host)))
    state = machine.run(["systemctl", "is-failed", "er-firewall"], check=False).stdout.strip()
    assert state == "failed"
    log = machine.run(["journalctl", "-b", "-u", "er-firewall", "--no-pager"]).stdout
    assert "the rules did not load; only SSH stays open" in log


def assert_well(host: Host) -> None:
    """The web answers, SSH is narrow, and the unit is content."""
    with Agent(outside(host.machine.attacker(1))) as agent:
        for family in (4, 6):
            address = host.address(family)
            assert agent.all_open(tcp(address, facts.HTTP), quic(address, facts.HTTPS)) == []
            assert agent.all_silent(tcp(address, facts.SSH), tcp(address, facts.PROXY_HTTPS)) == []
            assert " 200" in host.curl("https://hello.example.com/", family=family).stdout.splitlines()[0]
    assert host.machine.run(["systemctl", "is-active", "er-firewall"]).stdout == "active\n"


# What is left out differs from these in the family or the file.
@pytest.mark.parametrize("kind", sample(BROKEN, ("host-v6", "base-and-lockdown-v4")))
def test_rules_that_do_not_load_leave_only_ssh(narrow: Host, kind: str) -> None:
    machine = narrow.machine
    mark, files = BROKEN[kind]
    with broken(machine, files, mark):
        assert machine.run(["systemctl", "restart", "er-firewall"], check=False).returncode != 0
        assert_locked(narrow)
    machine.run(["systemctl", "restart", "er-firewall"])
    assert_well(narrow)


def test_a_boot_with_broken_rules_leaves_only_ssh(narrow: Host) -> None:
    machine = narrow.machine
    with broken(machine, BROKEN["both-everywhere"][1]):
        machine.cut()
        machine.boot()
        machine.wait(machine.started, timeout=60, what="the end of start-up")
        assert_locked(narrow)
    machine.run(["systemctl", "restart", "er-firewall"])
    assert_well(narrow)


def rules(machine: Machine) -> list[str]:
    """Every rule and policy of ours, in both families, without counters."""
    tables = [f"{name}-save -t {table}" for name in TABLES.values() for table in ("filter", "nat")]
    saved = [line for table in tables for line in machine.run(table).stdout.splitlines()]
    return [line.split(" [")[0] for line in saved if "ER-" in line or re.match(":(INPUT|FORWARD|OUTPUT) DROP", line)]
