"""What an app can reach from its container, as its user and as its subordinate ids: the web, and what its spec says."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.stack import user
from tests.machine.outside_servers import LOOPBACK, METADATA, OTHER, WEB, link_local, surroundings
from tests.machine.probes import PATIENCE, Agent, container, inside, outside, ping, quic, serving, tcp, udp, undone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine
    from tests.machine.hosts import Host
    from tests.machine.probe_program import Question

pytestmark = pytest.mark.machine
families = pytest.mark.parametrize("family", [4, 6])
STACKS = {"shop": "web", "hello": "web", "notes": "site"}
USERS = ("er-proxy", *(f"er-{stack}" for stack in STACKS))
QUICK = 0.5
"""Seconds in which a refusal must come: an app that waits for a time-out looks broken."""
# Who asks: every stack's container, its user on the host's network, an id of its containers there; the proxy's too.
ASKERS = (
    *(f"container:{stack}" for stack in STACKS),
    *(f"user:{user}" for user in USERS),
    *(f"subid:{user}" for user in USERS),
)
askers = pytest.mark.parametrize("asker", ASKERS)
# A private network of several services has IPv4 only: over IPv6 there is no way out at all.
NO_IPV6 = "container:shop"
REFUSALS = {"refused", "ENETUNREACH"}


@pytest.fixture(scope="module")
def world(three: Host) -> Iterator[None]:
    with surroundings(three.machine):
        yield


@pytest.fixture(scope="module")
def agents(three: Host, world: None) -> Iterator[dict[str, Agent]]:
    """An agent of every asker, and root's."""
    machine = three.machine
    with contextlib.ExitStack() as stack:
        found = {f"container:{name}": container(machine, name, service) for name, service in STACKS.items()}
        found |= {f"user:{user}": inside(machine, user) for user in ("er", *USERS)}
        found |= {f"subid:{user}": inside(machine) for user in USERS}
        found["root"] = inside(machine)
        yield {name: stack.enter_context(Agent(place)) for name, place in found.items()}


def asking(machine: Machine, asker: str, question: Question) -> Question:
    """The question as this asker asks it: an agent of root's asks under a subordinate id."""
    kind, _, name = asker.partition(":")
    if kind != "subid":
        return question
    return {**question, "uid": user.subids(machine.user(name).uid).first + 33}


def there(three: Host, family: int) -> str:
    place = three.machine.attacker(1)
    return place.ipv4 if family == 4 else place.ipv6


@pytest.fixture
def ask(three: Host, agents: dict[str, Agent]) -> Ask:
    return Ask(three.machine, agents)


class Ask:
    """Asks as any asker."""

    def __init__(self, machine: Machine, agents: dict[str, Agent]) -> None:
        self._machine, self._agents = machine, agents

    def timed(self, asker: str, *questions: Question) -> list[tuple[str, float]]:
        asked = [asking(self._machine, asker, question) for question in questions]
        return self._agents[asker].timed(*asked, patience=PATIENCE)

    def all_open(self, asker: str, *questions: Question) -> None:
        got = self.timed(asker, *questions)
        assert [outcome for outcome, _ in got] == ["open"] * len(questions), list(zip(questions, got, strict=True))

    def all_refused(self, asker: str, *questions: Question) -> None:
        """Refused, and at once. Inside a container a refused datagram may be lost without a word."""
        lost = asker.startswith("container:") and all(question["op"] == "udp" for question in questions)
        if lost:
            asked = [asking(self._machine, asker, question) for question in questions]
            got = self._agents[asker].timed(*asked, patience=QUICK)
            assert all(outcome in {"silent", *REFUSALS} for outcome, _ in got), got
            return
        got = self.timed(asker, *questions)
        assert all(outcome in REFUSALS for outcome, _ in got), list(zip(questions, got, strict=True))
        assert max(took for _, took in got) < QUICK


# The way out.


@pytest.mark.parametrize(
    ("asker", "family"), [(asker, family) for asker in ASKERS for family in (4, 6) if (asker, family) != (NO_IPV6, 6)]
)
def test_the_web_and_dns_are_within_reach(three: Host, ask: Ask, asker: str, family: int) -> None:
    address = there(three, family)
    ask.all_open(asker, *(tcp(address, port) for port in WEB), udp(address, 53), udp(address, 443))


@families
@askers
def test_nothing_else_is_and_is_refused_at_once(three: Host, ask: Ask, asker: str, family: int) -> None:
    address = there(three, family)
    # The spec of hello opens 7777 over IPv4: tested below.
    other = [port for port in OTHER if port != 7777 or "hello" not in asker or family == 6]
    ask.all_refused(asker, *(tcp(address, port) for port in other))
    ask.all_refused(asker, *(udp(address, port) for port in [*other, 80]))


@families
def test_root_and_the_admin_are_not_restricted(three: Host, ask: Ask, family: int) -> None:
    address = there(three, family)
    everything = [kind(address, port) for kind in (tcp, udp) for port in WEB + OTHER]
    for asker in ("root", "user:er"):
        ask.all_open(asker, *everything)


@pytest.mark.parametrize("asker", [asker for asker in ASKERS if asker.endswith("hello")])
def test_a_stacks_own_egress_is_open_to_it(three: Host, ask: Ask, asker: str) -> None:
    ask.all_open(asker, tcp(there(three, 4), 7777))
    ask.all_refused(asker, udp(there(three, 4), 7777))


def test_a_stacks_own_egress_is_not_for_its_own_host(three: Host, ask: Ask) -> None:
    """Though the host's address is in the network that the spec opens."""
    with serving(inside(three.machine), f"tcp:{three.machine.ipv4}:7777"):
        ask.all_open("root", tcp(three.machine.ipv4, 7777))
        ask.all_refused("user:er-hello", tcp(three.machine.ipv4, 7777))
        outcomes = ask.timed("container:hello", tcp(three.machine.ipv4, 7777))
        assert outcomes[0][0] != "open"


@families
@askers
def test_cloud_metadata_is_refused(three: Host, ask: Ask, asker: str, family: int) -> None:
    """A server answers at these addresses, on ports that are open anywhere else."""
    asked = [tcp(address, port) for address in METADATA[family] for port in (80, 443)]
    ask.all_open("root", *asked)
    ask.all_refused(asker, *asked)
    ask.all_refused(asker, *(udp(address, 53) for address in METADATA[family]))


@pytest.mark.parametrize("asker", [asker for asker in ASKERS if not asker.startswith("container:")])
def test_link_local_is_refused(three: Host, ask: Ask, asker: str) -> None:
    """To ids on the host's network: a container has link-local addresses of its own network only."""
    machine = three.machine
    address = f"{link_local(outside(machine.attacker(1)))}%lan"
    with serving(outside(machine.attacker(1)), f"tcp:{address}:80"):
        ask.all_open("root", tcp(address, 80))
        ask.all_refused(asker, tcp(address, 80))


# The proxy's admin API.


@pytest.mark.parametrize("asker", ["user:er", *(asker for asker in ASKERS if not asker.endswith("er-proxy"))])
def test_the_admin_api_is_closed_to_all_others(three: Host, ask: Ask, asker: str) -> None:
    """By every name of the host: loopback, its addresses, what containers call their host."""
    machine = three.machine
    own = (machine.ipv4, machine.ipv6)
    listeners = [f"tcp:{address}:{facts.PROXY_ADMIN}" for address in (*own, "::1")]
    names = ("127.0.0.1", "::1", *own, *gateways(machine, asker))
    with serving(inside(machine), *listeners):
        ask.all_open("root", *(tcp(address, facts.PROXY_ADMIN) for address in ("127.0.0.1", "::1", *own)))
        got = ask.timed(asker, *(tcp(address, facts.PROXY_ADMIN) for address in names))
        assert "open" not in [outcome for outcome, _ in got], list(zip(names, got, strict=True))


def gateways(machine: Machine, asker: str) -> list[str]:
    """What a container calls its host, and where its network ends: a bridge, or pasta, which may stand for the host."""
    kind, _, name = asker.partition(":")
    if kind != "container":
        return []
    routes = container(machine, name, STACKS[name]).run("ip", "route", "show", "default").splitlines()
    return ["169.254.1.2", *(line.split()[2] for line in routes if line.startswith("default via"))]


@pytest.mark.parametrize("user", ["root", "user:er-proxy"])
def test_the_admin_api_is_open_to_root_and_the_proxy(three: Host, ask: Ask, user: str) -> None:
    ask.all_open(user, tcp("127.0.0.1", facts.PROXY_ADMIN))
    with serving(inside(three.machine), f"tcp:::1:{facts.PROXY_ADMIN}"):
        ask.all_open(user, tcp("::1", facts.PROXY_ADMIN))


# The host and the neighbours.


@families
@askers
def test_services_of_the_host_are_out_of_reach(three: Host, ask: Ask, asker: str, family: int) -> None:
    """On its loopback and on its addresses; its sites are another matter."""
    machine = three.machine
    addresses = (LOOPBACK[family], three.address(family))
    asked = [tcp(address, port) for address in addresses for port in (9999, 81)]
    with serving(inside(machine), *(f"tcp:{one['to']}:{one['port']}" for one in asked)):
        ask.all_open("root", *asked)
        asked += [tcp(three.address(family), port) for port in (facts.SSH, facts.PROXY_HTTP, facts.PROXY_HTTPS)]
        host_name = [tcp("169.254.1.2", port) for port in (9999, 81, facts.SSH)]
        got = ask.timed(asker, *asked, *host_name)
        assert "open" not in [outcome for outcome, _ in got], list(zip([*asked, *host_name], got, strict=True))


@families
@askers
def test_the_hosts_sites_are_for_its_stacks_alone(three: Host, ask: Ask, asker: str, family: int) -> None:
    """Not for the proxy, which would call itself, nor for ids of containers on the host's own network."""
    address = three.address(family)
    asked = (tcp(address, facts.HTTP), tcp(address, facts.HTTPS), quic(address, facts.HTTPS))
    if asker.startswith("subid:") or asker.endswith("er-proxy") or (asker, family) == (NO_IPV6, 6):
        got = ask.timed(asker, *asked)
        assert "open" not in [outcome for outcome, _ in got], list(zip(asked, got, strict=True))
    else:
        ask.all_open(asker, *asked)


@pytest.mark.parametrize("asker", [asker for asker in ASKERS if asker.startswith("container:")])
def test_a_container_finds_no_other_stack(three: Host, ask: Ask, asker: str) -> None:
    """Neither at another container's address nor at a port of the host."""
    machine = three.machine
    mine = asker.partition(":")[2]
    own = set(addresses_of(machine, mine))
    others = [address for stack in STACKS if stack != mine for address in addresses_of(machine, stack)]
    targets = [tcp(address, 3000) for address in others if address not in own]
    targets += [tcp(address, port) for address in (machine.ipv4, machine.ipv6, "169.254.1.2") for port in (3000, 4000)]
    got = ask.timed(asker, *targets)
    assert "open" not in [outcome for outcome, _ in got], list(zip(targets, got, strict=True))
    ask.all_open(asker, tcp("127.0.0.1", 3000))


def addresses_of(machine: Machine, stack: str) -> list[str]:
    """Every global address of a stack's public container."""
    place = container(machine, stack, STACKS[stack])
    lines = place.run("ip", "-o", "addr", "show", "scope", "global").splitlines()
    return [line.split()[3].split("/")[0] for line in lines]


@pytest.mark.parametrize("stack", STACKS)
def test_a_stacks_user_cannot_enter_its_neighbours_socket(three: Host, stack: str) -> None:
    machine = three.machine
    for other, service in STACKS.items():
        if other == stack:
            continue
        folder = f"{facts.PROXY_SOCKETS}/{other}"
        for words in (["ls", folder], ["stat", f"{folder}/{service}.sock"], ["touch", f"{folder}/mine.sock"]):
            refused = machine.run(words, user=f"er-{stack}", check=False)
            assert "Permission denied" in refused.stderr, words
        curl = ["curl", "-sS", "--max-time", "5", "--unix-socket", f"{folder}/{service}.sock", "http://x/"]
        refused = machine.run(curl, user=f"er-{stack}", check=False)
        assert refused.returncode == 7, refused
        assert machine.run(curl, user="er-proxy").returncode == 0, "the way is there for the proxy"


def test_the_sockets_of_all_stacks_are_not_for_the_admin(three: Host) -> None:
    for stack in STACKS:
        refused = three.machine.run(["ls", f"{facts.PROXY_SOCKETS}/{stack}"], user="er", check=False)
        assert "Permission denied" in refused.stderr


def test_no_app_is_reached_past_the_proxy(three: Host) -> None:
    """From outside, a route by the host to a container's own address leads nowhere."""
    machine = three.machine
    hosts_own = inside(machine).run("ip", "-o", "addr").split()
    found = {address for stack in STACKS for address in addresses_of(machine, stack)}
    private = sorted(address for address in found if f"{address}/24" not in hosts_own and ":" not in address)
    assert private, "the private network of shop"
    with contextlib.ExitStack() as stack:
        place = outside(machine.attacker(0))
        for address in private:
            ways = [["ip", "route", word, address, "via", machine.ipv4] for word in ("add", "del")]
            stack.enter_context(undone(ways[:1], ways[1:], place))
        agent = stack.enter_context(Agent(place))
        assert agent.all_silent(*(one for address in private for one in (tcp(address, 3000), ping(address)))) == []
