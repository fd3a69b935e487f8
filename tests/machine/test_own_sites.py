"""An app that calls its own or a neighbour's public URL from inside its container: served as a visitor, no more."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts, process
from tests.machine import hosts
from tests.machine.clients import get
from tests.machine.egress_host import within
from tests.machine.probes import QUICK, Agent, end, inside, outside, quic, serving, tcp
from tests.server.conftest import client
from tests.sweeps import WHOLE, sample

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.machine.hosts import Host
    from tests.machine.probes import Place

pytestmark = pytest.mark.machine
families = pytest.mark.parametrize("family", [4, 6])
NAMES = ("blog.example.com", "www.blog.example.com", "shop.example.com", "hermit.example.com")
CALLERS = ("blog", "shop")
callers = pytest.mark.parametrize("caller", CALLERS)
OWN = dict(zip((4, 6), facts.OWN_SITES, strict=True))
"""What the host's domains are in its containers."""
# From inside a container, with its own resolver: URLs, by which family each, with which headers.
_GET = """
import json, socket, ssl, sys, urllib.request
ca, questions = json.load(sys.stdin)
look_up = socket.getaddrinfo
class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None
secure = urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=ca))
opener = urllib.request.build_opener(secure, Stay)
def get(url, family, headers):
    kind = {4: socket.AF_INET, 6: socket.AF_INET6}.get(family, 0)
    socket.getaddrinfo = lambda host, port, *rest, **more: look_up(host, port, kind, socket.SOCK_STREAM)
    try:
        opened = opener.open(urllib.request.Request(url, headers=headers), timeout=10)
    except urllib.error.HTTPError as error:
        opened = error
    except urllib.error.URLError as error:
        return 0, type(error.reason).__name__
    return opened.status, opened.headers.get("Location") or opened.read().decode()
print(json.dumps([get(*question) for question in questions]))
"""


@pytest.fixture(scope="module")
def sites(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts.booted("sites", tmp_path_factory.mktemp("sites")) as host:
        yield host


def fetch(host: Host, caller: str, url: str, family: int = 0, **headers: str) -> list[Any]:
    """Status, and Location or body; or 0 and the kind of error."""
    [found] = fetch_all(host, caller, [(url, family, headers)])
    return found


def fetch_all(host: Host, caller: str, questions: list[tuple[str, int, dict[str, str]]]) -> list[list[Any]]:
    """The same of several URLs, one after another; family 0 is whatever the app takes first."""
    argv = ["podman", "exec", "-i", "web", "python3", "-c", _GET]
    order = json.dumps([host.ca.read_text(), questions]).encode()
    return json.loads(host.machine.run(argv, user=f"er-{caller}", stdin=order).stdout)  # type: ignore[no-any-return]


def reachable(caller: str) -> tuple[int, ...]:
    """The families that a caller's network has: one of several services has IPv4 only."""
    return (4,) if caller == "shop" else (4, 6)


def own_addresses(host: Host, family: int) -> set[str]:
    shown = host.machine.run(["ip", f"-{family}", "-o", "addr", "show", "scope", "global"]).stdout
    return {line.split()[3].split("/")[0] for line in shown.splitlines()}


def field(body: str, name: str) -> str:
    """What the example app says of a request."""
    return next(line.partition(": ")[2] for line in body.splitlines() if line.startswith(f"{name}: "))


def assert_served(host: Host) -> None:
    """Every name, from every stack that has a way out, by each family and by whatever the app takes first."""
    for caller in CALLERS:
        asked = [(name, family) for name in NAMES for family in (0, *reachable(caller))]
        found = fetch_all(host, caller, [(f"https://{name}/", family, {}) for name, family in asked])
        for (name, family), (status, body) in zip(asked, found, strict=True):
            assert status == 200, (caller, name, family, body)
            assert field(body, "host") == name
        redirected = fetch_all(host, caller, [(f"http://{name}/x", 0, {}) for name in NAMES])
        assert redirected == [[308, f"https://{name}/x"] for name in NAMES]


def test_an_app_reaches_its_own_and_its_neighbours_urls(sites: Host) -> None:
    """By name, with the certificate checked, whatever DNS says: nothing here has a name server."""
    assert_served(sites)


@callers
def test_the_call_comes_from_the_host_and_nobody_can_say_otherwise(sites: Host, caller: str) -> None:
    for family in reachable(caller):
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Real-IP": "203.0.113.9", "X-Forwarded-Proto": "ftp"}
        _, body = fetch(sites, caller, "https://hermit.example.com/", family, **forged)
        assert field(body, "forwarded-for") in own_addresses(sites, family)
        assert field(body, "forwarded-proto") == "https"


@callers
@families
def test_http3_and_the_hosts_own_addresses(sites: Host, caller: str, family: int) -> None:
    """An address that the container itself has is its own: that is why names lead elsewhere."""
    if family not in reachable(caller):
        return
    with Agent(within(sites.machine, caller)) as agent:
        for address in (OWN[family], sites.address(family)):
            asked = (tcp(address, facts.HTTP), tcp(address, facts.HTTPS), quic(address, facts.HTTPS))
            assert agent.all_open(*asked) == []


def places(host: Host, caller: str) -> list[Place]:
    """In its container, and as its user on the host's own network."""
    return [within(host.machine, caller), inside(host.machine, f"er-{caller}")]


@families
@pytest.mark.parametrize("caller", [*CALLERS, "hermit"])
def test_nothing_else_of_the_host_is_reached(sites: Host, caller: str, family: int) -> None:
    """Straight to the proxy, its admin API, SSH, and whatever else listens there."""
    machine = sites.machine
    loopback = "127.0.0.1" if family == 4 else "::1"
    here = (sites.address(family), loopback)
    ports = (facts.SSH, facts.PROXY_HTTP, facts.PROXY_HTTPS, facts.PROXY_ADMIN, 9999)
    listeners = [f"tcp:{one}:9999" for one in here] + [f"tcp:{here[0]}:{facts.PROXY_ADMIN}"]
    with serving(inside(machine), *listeners):
        for place in places(sites, caller):
            with Agent(place) as agent:
                asked = [tcp(one, port) for one in (OWN[family], *here) for port in ports]
                asked += [quic(one, facts.PROXY_HTTPS) for one in (OWN[family], *here)]
                outcomes = agent.ask(*asked)
                assert "open" not in outcomes, list(zip(asked, outcomes, strict=True))


@families
def test_without_a_way_out_there_is_none_to_the_hosts_sites(sites: Host, family: int) -> None:
    """Refused at once; what others ask of that stack is answered."""
    for place in places(sites, "hermit"):
        with Agent(place) as agent:
            for address in (OWN[family], sites.address(family)):
                asked = (tcp(address, facts.HTTP), tcp(address, facts.HTTPS), quic(address, facts.HTTPS))
                outcomes = agent.ask(*asked)
                assert "open" not in outcomes, list(zip(asked, outcomes, strict=True))
    assert fetch(sites, "hermit", "https://hermit.example.com/")[0] == 0
    assert fetch(sites, "blog", "https://hermit.example.com/")[0] == 200
    assert sites.machine.run("pgrep -u er-hermit pasta", check=False).stdout == ""


@families
def test_only_stacks_are_redirected(sites: Host, family: int) -> None:
    """Not the proxy itself, which would call itself, nor ids of containers on the host's own network."""
    hello = sites.machine.user("er-blog").uid
    strangers = (facts.PROXY_UID, (hello - facts.UID_BASE) * facts.SUBID_SIZE + 33)
    with Agent(inside(sites.machine)) as root:
        for uid in strangers:
            asked = [{**tcp(one, facts.HTTPS), "uid": uid} for one in (sites.address(family), OWN[family])]
            assert root.ask(*asked) == ["refused", "refused"]


_HOLD = """
import socket, sys, time
held = []
try:
    for number in range(int(sys.argv[3])):
        held.append(socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5))
        time.sleep(0.006)
except OSError as error:
    print(len(held), type(error).__name__, flush=True)
else:
    print(len(held), "all", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("family", sample((4, 6), (6,)))
def test_a_stack_has_so_many_connections_and_others_still_theirs(sites: Host, family: int) -> None:
    """One more than it may have is refused, counted and logged as its own; neighbours and visitors are served."""
    most = facts.STACK_CONNECTIONS
    argv = within(sites.machine, "blog").argv(["python3", "-c", _HOLD, OWN[family], "443", str(most + 10)])
    running = process.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        held, why = running.stdout.readline().decode().split()
        assert why == "ConnectionRefusedError"
        # What was asked a moment ago, over UDP above all, counts for a while.
        assert most - 10 <= int(held) <= most
        assert fetch(sites, "shop", "https://blog.example.com/")[0] == 200
        assert get(sites, "https://blog.example.com/", family=family).status == 200
    finally:
        end(running)
    sites.machine.wait(
        lambda: fetch(sites, "blog", "https://shop.example.com/", family)[0] == 200, timeout=60, what="room again"
    )


@pytest.mark.parametrize("family", sample((4, 6), (4,)))
def test_a_stack_makes_so_many_connections_a_second(sites: Host, family: int) -> None:
    argv = ["podman", "exec", "web", "python3", "-c", QUICK, OWN[family], "3"]
    made = int(sites.machine.run(argv, user="er-blog").stdout)
    assert facts.STACK_RATE <= made < 4_999
    sites.machine.wait(
        lambda: fetch(sites, "blog", "https://shop.example.com/", family)[0] == 200, timeout=10, what="its turn again"
    )


@pytest.mark.parametrize("family", sample((4, 6), (6,)))
def test_a_call_is_never_banned(sites: Host, family: int) -> None:
    """Not for what bans a visitor, who asks the same from outside: that one is, and the host's address is not."""
    own = own_addresses(sites, family)
    order = ["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "3"]
    for caller in CALLERS:
        target = f"[{OWN[family]}]" if family == 6 else OWN[family]
        for _ in range(12):
            # The certificate is for another site: 421, as for whoever looks for sites.
            argv = [*order, "--resolve", f"blog.example.com:443:{target}", "-H", "Host: nobody.example.com"]
            assert sites.machine.run([*argv, "https://blog.example.com/.env"], user=f"er-{caller}").stdout == "421"
    visitor = sites.machine.attacker(1)
    with Agent(outside(visitor)) as agent:
        for _ in range(12):
            sites.curl("https://blog.example.com/.env", "-H", "Host: nobody.example.com", family=family, source=visitor)
        sites.machine.wait(
            lambda: agent.ask(tcp(sites.address(family), facts.HTTPS)) == ["silent"], timeout=20, what="the ban"
        )
    listed = sites.machine.run(["ipset", "list", f"er-web-scan-{family}"]).stdout
    assert not any(address in listed for address in own), listed
    assert_served(sites)
    sites.machine.run(["fail2ban-client", "unban", "--all"])


def test_a_new_domain_restarts_nobody_and_is_known_from_the_next_start(sites: Host, tmp_path: Path) -> None:
    """Of a neighbour's; the change restarts no other stack. In the sweep it is taken away and forgotten as well."""
    laptop = client(sites, tmp_path)
    started = sites.machine.run(["podman", "inspect", "--format={{.Id}}", "web"], user="er-blog").stdout
    changed = laptop.edited("domain: hermit.example.com", "domains: [hermit.example.com, cell.example.com]")
    for file, there in ((changed, 200), (laptop.spec, 0))[: None if WHOLE else 1]:
        done = laptop.er("apply", file, "--yes")
        assert done.returncode == 0, done.stderr
        before = sites.machine.run(["podman", "inspect", "--format={{.Id}}", "web"], user="er-blog").stdout
        assert there == 0 or before == started
        assert laptop.er("restart", "blog").returncode == 0
        assert fetch(sites, "blog", "https://cell.example.com/")[0] == there
        assert fetch(sites, "blog", "https://hermit.example.com/")[0] == 200


def test_the_way_is_there_again_after_a_reload_and_a_boot(sites: Host) -> None:
    """All rules are the same after a boot: machine/test_firewall.py. So the boot is of the sweep."""
    for word in ("reload", "restart")[: None if WHOLE else 1]:
        sites.machine.run(["systemctl", word, "er-firewall"])
        assert_served(sites)
    if WHOLE:
        sites.reboot()
        assert_served(sites)
