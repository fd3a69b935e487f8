"""One client that takes all it gets from the proxy, beside visitors who do not notice; and who is slow for a reason."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.host import firewall
from tests.machine import clients, containment_page
from tests.machine.clients import Load, get
from tests.machine.probes import QUICK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine
_SITE, _URL = "heads.example.com", "https://heads.example.com"
FAMILIES = pytest.mark.parametrize("family", [4, 6])
# What golang.org/x/net/http2 allows on one connection.
_STREAMS = 250


@pytest.fixture(scope="module", autouse=True)
def _unbanned(edge: Host) -> Iterator[None]:
    """Requests that were given up are refusals, and thousands of them a flood: here it is to go on."""
    attacker = edge.machine.attacker(1)
    for word in ("addignoreip", "delignoreip"):
        for address in (attacker.ipv4, attacker.ipv6):
            edge.machine.run(f"fail2ban-client set er-web-flood {word} {address}")
        if word == "addignoreip":
            yield


_ROWS = 7


@pytest.fixture(scope="module")
def tell() -> Iterator[Callable[[str, str], None]]:
    """Adds a row to the table of docs/containment.md; a run of all of them is compared with it."""
    rows: list[dict[str, str]] = []
    columns = containment_page.SECTIONS["client"][2]
    yield lambda *words: rows.append(dict(zip(columns, words, strict=True)))
    if len(rows) == _ROWS:
        containment_page.settle("client", rows)


@contextmanager
def slow(
    host: Host, version: str, connections: int, *, requests: int = 1, size: int = 100, family: int = 4
) -> Iterator[int]:
    """Requests of the second attacker's that never end; how many connections it got."""
    argv = clients.argv("slow", host, _SITE, version, connections, requests, size, family=family)
    client = host.machine.attacker(1).start(argv, stdout=subprocess.PIPE)
    assert client.stdout is not None
    try:
        yield int(client.stdout.readline())
    finally:
        client.terminate()
        client.communicate(timeout=60)


def _held(host: Host) -> int:
    """Connections that the app's ingress holds, by its files: two sockets and two pipes for each."""
    pids = host.machine.run("pgrep -u er-heads -f systemd-socket-proxyd", check=False).stdout.split()
    return sum(len(list(host.machine.path(f"/proc/{pid}/fd").iterdir())) for pid in pids) // 6


@pytest.mark.parametrize(("connections", "size"), [(17, 100), (12, 9_000)], ids=["small", "large"])
def test_thousands_of_slow_requests_of_one_client(
    edge: Host, tell: Callable[[str, str], None], connections: int, size: int
) -> None:
    """Small ones, more than an ingress once took, do not reach the app before they are whole; large ones leave room."""
    reach_the_app = size > 8_192
    with slow(edge, "h2", connections, requests=_STREAMS, size=size) as got:
        assert got == connections
        if reach_the_app:
            edge.machine.wait(lambda: _held(edge) > 2_900, timeout=180, what="the requests at the ingress")
        visitor = Load(edge, _SITE)
        asked = [get(edge, f"{_URL}/", family=family).status for family in (4, 6) for _ in range(10)]
        found = visitor.end()
        assert (_held(edge) > 2_900) == reach_the_app
    assert asked == [200] * 20
    assert {status for status, _ in found} == {"200"}
    kept = (
        "the app has them all, and room for others"
        if reach_the_app
        else "the proxy keeps them, the app has none of them"
    )
    tell(f"{connections * _STREAMS:,} requests that never end, {size:,} bytes of each, over HTTP/2", kept)


@FAMILIES
def test_one_client_has_so_many_connections_and_another_still_its_own(
    edge: Host, tell: Callable[[str, str], None], family: int
) -> None:
    """A client of IPv6 is a network of 64 bits, in which both attackers are."""
    most = facts.CLIENT_CONNECTIONS
    with slow(edge, "http/1.1", most + 10, family=family) as got:
        assert got == most
        assert get(edge, f"{_URL}/", family=4).status == 200
        other = edge.curl(f"{_URL}/", family=6, timeout=3)
        assert (other.returncode == 28) == (family == 6), other.stderr
        assert get(edge, "http://heads.example.com/", source=edge.machine.attacker(0)).status == 308
    edge.machine.wait(lambda: edge.curl(f"{_URL}/", family=6).returncode == 0, timeout=60, what="room again")
    tell(f"{most + 10} connections at a time, IPv{family}", f"{most} of them")


@FAMILIES
def test_one_client_makes_so_many_connections_a_second(
    edge: Host, tell: Callable[[str, str], None], family: int
) -> None:
    """Each of them closed at once; after the burst it waits, and another does not."""
    before = _dropped(edge, family)
    made = int(edge.machine.attacker(1).run(["python3", "-c", QUICK, edge.address(family), "0.3"], timeout=120).stdout)
    assert 2 * facts.CLIENT_RATE <= made < 5_000
    assert _dropped(edge, family) > before
    assert get(edge, f"{_URL}/", family=4).status == 200
    rate = facts.CLIENT_RATE
    tell(f"connections one after the other, IPv{family}", f"{rate} a second, after the first {2 * rate}")


def _dropped(host: Host, family: int) -> int:
    """Packets that the limit of new connections has dropped."""
    saved = host.machine.run(f"ip{'6' * (family == 6)}tables-save -c -t filter").stdout
    found = re.search(rf"^\[(\d+):\d+\] -A {firewall.WEB} .*hashlimit-above", saved, re.MULTILINE)
    assert found
    return int(found[1])


# Who is slow for a reason.


@pytest.fixture(scope="module")
def impatient(edge: Host) -> Iterator[Host]:
    """The proxy gives a request three seconds to arrive, instead of an hour."""
    before = edge.machine.run(_admin("/config/apps/http/servers")).stdout
    servers = json.loads(before)
    hour = 3600 * 10**9
    assert {server["read_timeout"] for server in servers.values()} == {hour}
    for server in servers.values():
        server["read_timeout"] = 3 * 10**9
    edge.machine.run(_admin("/config/apps/http/servers", "PATCH"), stdin=json.dumps(servers).encode())
    yield edge
    edge.machine.run(_admin("/config/apps/http/servers", "PATCH"), stdin=before.encode())


def _admin(path: str, method: str = "GET") -> list[str]:
    body = ["--header", "Content-Type: application/json", "--data-binary", "@-"] if method != "GET" else []
    return ["curl", "-sS", "--fail-with-body", "-X", method, *body, f"http://127.0.0.1:{facts.PROXY_ADMIN}{path}"]


def test_only_a_request_that_does_not_arrive_in_time_is_ended(
    impatient: Host, tell: Callable[[str, str], None]
) -> None:
    """Beside it a websocket, events and a long poll, each of which takes longer than a request may.

    Over HTTP/2. Of HTTP/1.1, Caddy 2.11.7 lets go of the app at that time, then drains the client's connection with no
    limit (net/http's body.Close): it stays one of the connections that the client may hold.
    """
    client, machine = impatient.machine.attacker(0), impatient.machine
    argv = client.argv(clients.argv("upgrade", impatient, "socket.example.com"))
    upgraded = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    events = client.start(_curl(impatient, "files.example.com", "/cgi-bin/events"), stdout=subprocess.PIPE)
    poll = client.start(_curl(impatient, "socket.example.com", "/late"), stdout=subprocess.PIPE)
    try:
        assert upgraded.stdout is not None
        assert events.stdout is not None
        assert upgraded.stdout.readline() == b"open\n"
        assert events.stdout.readline() == b"data: first\n"
        ended = json.loads(client.run(clients.argv("unfinished", impatient, _SITE), timeout=90).stdout)
        assert ended == "answered"
        machine.run("podman exec files touch /tmp/heard; podman exec socket touch /tmp/now", user="er-wire")
        assert events.stdout.read() == b"\ndata: second\n\n"
        assert poll.communicate(timeout=60)[0].startswith(b"GET /late ")
        assert json.loads(upgraded.communicate(b"\n", timeout=60)[0])["echoes"] == ["one\n", "two\n", "three\n"]
    finally:
        for one in (upgraded, events, poll):
            one.kill()
            one.communicate()
    tell("a request that does not arrive in time: an hour, here three seconds", "answered with an error, over HTTP/2")


def _curl(host: Host, name: str, path: str) -> list[str]:
    argv = ["curl", "-sN", "--max-time", "120", "--cacert", str(host.ca)]
    return [*argv, "--resolve", f"{name}:443:{host.address(4)}", f"https://{name}{path}"]


# Sizes, and how long an answer may take to begin, as services say.


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_the_largest_request_is_the_services_own(edge: Host, version: str, tmp_path: Path) -> None:
    for size, status in ((1 << 20, 200), ((1 << 20) + 1, 413)):
        body = tmp_path / "body"
        body.write_bytes(b"x" * size)
        done = edge.curl(f"{_URL}/echo", version, "--data-binary", f"@{body}", "--header", "Expect:", timeout=60)
        reply = clients.parse(done.stdout)
        assert reply.status == status
        assert len(reply.body) == size or status == 413


def test_an_answer_that_does_not_begin_in_time(edge: Host) -> None:
    """504 after the service's own time; and the app that was only late is well."""
    late = "https://files.example.com/cgi-bin/late"
    assert get(edge, late, "--data", "x").status == 504
    edge.machine.run("podman exec files touch /tmp/now", user="er-wire")
    assert get(edge, "https://files.example.com/cgi-bin/count", "--data", "four").body == "4\n"
