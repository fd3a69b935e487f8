"""Caddy, as the world meets it: redirects, certificates, headers, HTTP/3, connections of every kind, restarts."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from builder import facts
from tests.machine import clients
from tests.machine.clients import Steady, get, get_h3

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tests.machine.clients import Reply
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

FAMILIES = pytest.mark.parametrize("family", [4, 6])
_TELLING = {"server", "via", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version", "x-generator", "x-runtime"}
_SECURITY = {
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "strict-origin-when-cross-origin",
}
_NAME = "heads.example.com"
_HEADS = f"https://{_NAME}"


def over_h1(host: Host, path: str, *headers: str, name: str = _NAME) -> Reply:
    return get(host, f"https://{name}{path}", "--http1.1", *_words(headers))


def over_h2(host: Host, path: str, *headers: str, name: str = _NAME) -> Reply:
    return get(host, f"https://{name}{path}", "--http2", *_words(headers))


def over_h3(host: Host, path: str, *headers: str, name: str = _NAME) -> Reply:
    return get_h3(host, name, path, *headers)


def _words(headers: Iterable[str]) -> list[str]:
    return [word for header in headers for word in ("--header", header)]


@pytest.fixture(scope="module")
def bad_gateway(edge: Host) -> dict[Callable[[Host, str], Reply], Reply]:
    """The proxy's own 502 in each version, asked for at once: it tries again for a while before it gives up."""
    with ThreadPoolExecutor() as pool:
        asked = {over: pool.submit(over, edge, "/abort") for over in (over_h1, over_h2, over_h3)}
        return {over: future.result() for over, future in asked.items()}


VERSIONS = pytest.mark.parametrize("over", [over_h1, over_h2, over_h3])


# From HTTP to HTTPS.


@FAMILIES
@pytest.mark.parametrize("name", ["heads.example.com", "nobody.knows.me"])
def test_plain_http_points_to_the_same_place_on_https(edge: Host, family: int, name: str) -> None:
    """Whatever the host's name, path and query come along and the method is kept (308)."""
    reply = get(edge, f"http://{name}/a/b%20c?d=e&f=%2F", "--request", "POST", family=family)
    assert reply.status == 308
    assert reply.header("location") == f"https://{name}/a/b%20c?d=e&f=%2F"


def test_plain_http_never_reaches_an_app(edge: Host) -> None:
    """Also a path that looks like a certificate authority's challenge."""
    for path in ("/", "/.well-known/acme-challenge/guess", "//evil.example.com/"):
        assert get(edge, f"http://heads.example.com{path}").status in {308, 404}


# Certificates.


@FAMILIES
@pytest.mark.parametrize("name", ["heads.example.com", "files.example.com", "socket.example.com"])
def test_every_domain_has_its_certificate(edge: Host, family: int, name: str) -> None:
    """curl checks name and issuer against the host's own CA."""
    assert get(edge, f"https://{name}/", family=family).status in {200, 404}


@FAMILIES
def test_an_unknown_name_is_refused(edge: Host, family: int) -> None:
    """No certificate, no answer: the handshake ends."""
    done = edge.curl("https://nobody.knows.me/", "--insecure", family=family)
    assert done.returncode == 35, done.stderr
    assert done.stdout == ""


# Headers.


@VERSIONS
@pytest.mark.parametrize("path", ["/", "/own", "/error"])
def test_answers_do_not_tell_what_made_them(edge: Host, over: Callable[[Host, str], Reply], path: str) -> None:
    """The app says all of it, Caddy would say some: in an app's answers and its errors."""
    reply = over(edge, path)
    assert reply.status == {"/error": 500}.get(path, 200)
    assert not reply.names & _TELLING, reply
    assert "secret" not in str(reply)
    assert "caddy" not in str(reply).lower()


@VERSIONS
def test_the_proxys_own_error_is_as_clean(
    bad_gateway: dict[Callable[[Host, str], Reply], Reply], over: Callable[[Host, str], Reply]
) -> None:
    """An app that hangs up: 502, which does not tell what made it and has the security headers."""
    reply = bad_gateway[over]
    assert reply.status == 502
    assert not reply.names & _TELLING, reply
    assert {name: reply.header(name) for name in _SECURITY} == _SECURITY
    assert reply.header("alt-svc") == 'h3=":443"; ma=2592000'


@pytest.mark.parametrize("url", ["http://heads.example.com/", "http://nobody.knows.me/"])
def test_the_redirect_does_not_tell_what_made_it(edge: Host, url: str) -> None:
    """The proxy's own 308."""
    reply = get(edge, url)
    assert not reply.names & _TELLING, reply


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_an_answer_for_no_site_does_not_tell_what_made_it(edge: Host, version: str) -> None:
    """A name in the handshake, another in the request: misdirected."""
    reply = get(edge, f"{_HEADS}/", version, "--header", "Host: nobody.knows.me")
    assert reply.status == 421
    assert not reply.names & _TELLING, reply
    assert reply.header("alt-svc") == 'h3=":443"; ma=2592000'


@VERSIONS
@pytest.mark.parametrize("path", ["/", "/error"])
def test_security_headers_are_there(edge: Host, over: Callable[[Host, str], Reply], path: str) -> None:
    """Where the app sets none, the usual ones are set; once."""
    reply = over(edge, path)
    assert {name: reply.header(name) for name in _SECURITY} == _SECURITY


@VERSIONS
def test_the_apps_own_security_headers_win(edge: Host, over: Callable[[Host, str], Reply]) -> None:
    """They are set only where the app is silent."""
    reply = over(edge, "/own")
    found = {name: reply.header(name) for name in _SECURITY}
    assert list(found.values()) == ["max-age=7", "own", "DENY", "no-referrer"]


def test_an_app_that_sets_one_has_the_others_set(edge: Host) -> None:
    """Each by itself."""
    reply = over_h2(edge, "/one")
    assert {name: reply.header(name) for name in _SECURITY} == {**_SECURITY, "x-frame-options": "DENY"}


# What apps and frameworks believe because only a proxy says it. `_` and `.` are `-` to CGI and its heirs.
_CLAIMS = """
    Forwarded Forwarded-For X-Forwarded X-Forwarded-By X-Forwarded-Client-Cert X-Forwarded-For X-Forwarded-Host
    X-Forwarded-Path X-Forwarded-Port X-Forwarded-Prefix X-Forwarded-Proto X-Forwarded-Protocol X-Forwarded-Scheme
    X-Forwarded-Server X-Forwarded-Ssl X-Forwarded-Uri X-Forwarded-User X-Forward-For X-Original-Forwarded-For
    CF-Connecting-IP CF-Connecting-IPv6 CF-IPCountry CF-Pseudo-IPv4 CF-Visitor Client-IP EO-Client-IP
    Fastly-Client-IP Fly-Client-IP Incap-Client-IP Proxy-Client-IP True-Client-IP WL-Proxy-Client-IP
    X-Azure-ClientIP X-Client-IP X-ClientIP X-Cluster-Client-IP X-Envoy-External-Address X-Real-IP X-Remote-Addr
    X-Remote-IP X-Sucuri-ClientIP
    Script-Name X-Envoy-Original-Path X-MS-Original-URL X-Original-Host X-Original-URI
    X-Original-URL X-Rewrite-URL X-Scheme X-Script-Name
    CF-Access-Authenticated-User-Email Remote-Email Remote-Groups Remote-User
    X-Authenticated-User
    X-Goog-Authenticated-User-Email X-Remote-User
    Proxy X-Accel-Mapping X-Accel-Redirect X-Middleware-Subrequest X-Middleware-Subrequest-Id X-Sendfile-Type
    X_Forwarded_For X-Forwarded_Host X_Real_IP Remote_User HTTP_HOST X.Real.IP X.Forwarded-For
"""
# What clients say of themselves, however alike it looks.
_THEIR_OWN = """
    Accept-Language Authorization Cookie If-None-Match Origin Range Referer Sec-CH-Prefers-Color-Scheme Via X-API-Key
    X-CSRF-Token X-HTTP-Method-Override X-IP-Note X-Middleware-Prefetch X-Original-Filename X-Request-ID
    X-Requested-With Traceparent
"""


def _said(over: Callable[..., Reply], host: Host, *headers: str) -> list[tuple[str, str]]:
    """The headers that reach an app which prints what it reads, byte for byte."""
    reply = over(host, "/", *headers, name="socket.example.com")
    assert reply.status == 200
    pairs = (line.partition(":") for line in reply.body.splitlines()[1:] if line)
    return [(name.lower(), value.strip()) for name, _, value in pairs]


@VERSIONS
def test_no_client_can_say_what_only_a_proxy_may(edge: Host, over: Callable[..., Reply]) -> None:
    """All of them at once, in one request; the app hears what the proxy says, once, and what is the client's own."""
    own = [f"{name}: own-{number}" for number, name in enumerate(_THEIR_OWN.split())]
    said = _said(over, edge, *(f"{name}: claimed" for name in _CLAIMS.split()), *own)
    assert [name for name, value in said if "claimed" in value] == []
    assert {f"{name}: {value}" for name, value in said} >= {header.lower() for header in own}
    client = edge.machine.attacker(0).ipv4
    proxys = [(name, value) for name, value in said if name.startswith("x-forwarded") or name == "x-real-ip"]
    assert sorted(proxys) == [
        ("x-forwarded-for", client),
        ("x-forwarded-host", "socket.example.com"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", client),
    ]


def test_no_client_can_have_removed_what_the_proxy_says(edge: Host) -> None:
    """A header that `Connection` names is for one hop only, and would be taken away on the next."""
    said = _said(over_h1, edge, "Connection: close, X-Real-IP, X-Forwarded-For, X-Forwarded-Proto")
    client = edge.machine.attacker(0).ipv4
    assert set(said) >= {("x-real-ip", client), ("x-forwarded-for", client), ("x-forwarded-proto", "https")}


# HTTP/3.


@FAMILIES
def test_http3_answers(edge: Host, family: int) -> None:
    """Over UDP 443, with the site's certificate, and the app hears of the client's address."""
    reply = get_h3(edge, "heads.example.com", "/over/quic", family=family)
    client = edge.machine.attacker(0)
    assert reply.status == 200
    assert "uri: /over/quic" in reply.body
    assert f"forwarded-for: {client.ipv4 if family == 4 else client.ipv6}\n" in reply.body


@pytest.mark.parametrize("path", ["/", "/own"])
def test_http3_is_advertised_on_the_port_the_world_knows(edge: Host, path: str) -> None:
    """Not on the socket's own high port, and not where the app says."""
    reply = over_h2(edge, path)
    assert [value for key, value in reply.headers if key == "alt-svc"] == ['h3=":443"; ma=2592000']


# Where a request came from.


@FAMILIES
@pytest.mark.parametrize("number", [0, 1])
def test_the_app_hears_of_the_clients_address(edge: Host, family: int, number: int) -> None:
    """Only of what the proxy saw: a forwarded-for of the client's own is dropped."""
    client = edge.machine.attacker(number)
    reply = get(edge, f"{_HEADS}/", "--header", "X-Forwarded-For: 8.8.8.8", family=family, source=client)
    address = client.ipv4 if family == 4 else client.ipv6
    assert f"forwarded-for: {address}\n" in reply.body
    assert "forwarded-proto: https\n" in reply.body
    assert "forwarded-host: heads.example.com\n" in reply.body


@FAMILIES
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_access_log_has_the_clients_address(edge: Host, family: int, scheme: str) -> None:
    """One line for each request, redirects too."""
    client = edge.machine.attacker(1)
    mark = f"/logged-{scheme}-{family}"
    get(edge, f"{scheme}://heads.example.com{mark}", family=family, source=client)
    log = edge.machine.path("/var/log/easyrunner/caddy/access.log")

    def lines() -> list[dict[str, dict[str, str]]]:
        return [json.loads(line) for line in log.read_text().splitlines() if mark in line]

    found = edge.machine.wait(lines, timeout=10, what="the line in the access log")
    address = client.ipv4 if family == 4 else client.ipv6
    assert [line["request"]["remote_ip"] for line in found] == [address]


# Connections of every kind.


def test_an_upgraded_connection_stays_open_both_ways(edge: Host) -> None:
    """A websocket handshake through proxy, socket and app, then bytes to and fro."""
    client = edge.machine.attacker(0)
    claims = [f"{name}: claimed" for name in _CLAIMS.split()]
    said = client.run(clients.argv("upgrade", edge, "socket.example.com", *claims), timeout=30).stdout
    found = json.loads(said.removeprefix("open\n"))
    assert found["head"][0] == "HTTP/1.1 101 Switching Protocols"
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in found["head"]
    assert found["echoes"] == ["one\n", "two\n", "three\n"]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_events_arrive_when_they_are_sent(edge: Host, version: str) -> None:
    """The app sends its second event only after the test has heard the first: nothing on the way waits for the end."""
    address = edge.address(4)
    argv = ["curl", "-sN", version, "--max-time", "30", "--cacert", str(edge.ca), "--resolve"]
    argv += [f"files.example.com:443:{address}", "https://files.example.com/cgi-bin/events"]
    client = edge.machine.attacker(0).start(argv, stdout=subprocess.PIPE)
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == b"data: first\n"
        edge.machine.run("podman exec files touch /tmp/heard", user="er-wire")
        assert client.stdout.read() == b"\ndata: second\n\n"
        assert client.wait(20) == 0
    finally:
        client.kill()
        client.communicate()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_large_answer_comes_whole(edge: Host, version: str) -> None:
    """100 MiB down."""
    words = ["--output", "/dev/null", "--write-out", "%{http_code} %{size_download}"]
    done = edge.curl("https://files.example.com/cgi-bin/large", version, "--no-include", *words, timeout=60)
    assert done.stdout == f"200 {100 * 2**20}", done.stderr


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_large_request_goes_whole(edge: Host, version: str, tmp_path: Path) -> None:
    """100 MiB up."""
    body = tmp_path / "body"
    with body.open("wb") as file:
        file.truncate(100 * 2**20)
    url = "https://files.example.com/cgi-bin/count"
    done = edge.curl(url, version, "--data-binary", f"@{body}", "--header", "Expect:", timeout=60)
    assert done.returncode == 0, done.stderr
    assert clients.parse(done.stdout).body.strip() == str(100 * 2**20)


# Configuration: files, and the admin API until the next restart.


def _admin(host: Host, path: str, body: bytes | None = None) -> str:
    words = ["curl", "-sS", "--fail-with-body", "--max-time", "10"]
    words += ["-X", "POST", "-H", "Content-Type: text/caddyfile", "--data-binary", "@-"] if body else []
    return host.machine.run([*words, f"http://127.0.0.1:{facts.PROXY_ADMIN}{path}"], stdin=body).stdout


def _restart_proxy(host: Host) -> None:
    host.machine.run("systemctl --user restart er-proxy.service", user=facts.PROXY_USER)


def test_files_are_the_truth_after_a_restart(edge: Host) -> None:
    """Root may load another configuration through the admin API; a restart brings the files' back."""
    before = _admin(edge, "/config/")
    assert "heads/app.sock" in before
    other = (
        b'{\n\tadmin fd/6\n\tpersist_config off\n\tauto_https off\n}\nhttp:// {\n\tbind fd/3\n\trespond "other"\n}\n'
    )
    try:
        _admin(edge, "/load", other)
        assert get(edge, "http://heads.example.com/").body == "other"
        assert "heads" not in _admin(edge, "/config/")
    finally:
        _restart_proxy(edge)
    assert json.loads(_admin(edge, "/config/")) == json.loads(before)
    assert get(edge, "http://heads.example.com/").status == 308
    assert get(edge, f"{_HEADS}/").status == 200


def test_connections_made_while_the_proxy_restarts_are_queued(edge: Host) -> None:
    """The listeners are systemd's: nobody is refused, and nobody waits in vain."""
    steady = Steady(edge, "heads.example.com")
    _restart_proxy(edge)
    results = steady.results()
    assert len(results) == 100
    assert {result for result in results if not any(end in result for end in _OF_A_RESTART)} == {"200"}, results
    assert results[49::50] == ["200"] * 2, results


# Caddy's own, for those that it has taken from the queue: one that ends forgets who was accepted while its server shut
# down (net/http's Shutdown waits for connections that it knows), one that starts has no certificate for a moment.
_OF_A_RESTART = ("closed connection without response", "alert internal error")


def test_a_stopped_proxy_is_started_by_its_first_client(edge: Host) -> None:
    """Its sockets go on listening."""
    edge.machine.run("systemctl --user stop er-proxy.service", user=facts.PROXY_USER)
    assert get(edge, "http://heads.example.com/").status == 308
    assert get(edge, f"{_HEADS}/").status == 200


# What the proxy itself may do.


def _caddy(host: Host) -> str:
    """The process id of Caddy, as the machine counts."""
    found = host.machine.run(f"pgrep -u {facts.PROXY_USER} -x caddy").stdout.split()
    assert len(found) == 1
    return found[0]


def _status(host: Host, pid: str) -> dict[str, str]:
    text = host.machine.path(f"/proc/{pid}/status").read_text()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def test_caddy_has_one_capability_and_gains_none(edge: Host) -> None:
    """A rootless container of its own user: only what the official binary's file capability asks for (bit 10)."""
    status = _status(edge, _caddy(edge))
    assert set(status["Uid"].split()) == {str(facts.PROXY_UID)}
    assert status["NoNewPrivs"] == "1"
    assert {int(status[key], 16) for key in ("CapBnd", "CapPrm", "CapEff", "CapInh", "CapAmb")} <= {0, 1 << 10}
    assert int(status["CapBnd"], 16) == 1 << 10


def _mounts(host: Host, pid: str) -> dict[str, set[str]]:
    lines = host.machine.path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    return {line.split()[4]: set(line.split()[5].split(",")) for line in lines}


def test_caddy_writes_to_its_certificates_and_logs_only(edge: Host) -> None:
    """Its root, its configuration and the sockets' directory are mounted read-only."""
    mounts = _mounts(edge, _caddy(edge))
    for place in ("/", "/etc/caddy", facts.PROXY_SOCKETS):
        assert "ro" in mounts[place], place
    for place in ("/data", "/var/log/caddy", "/config"):
        assert "rw" in mounts[place], place
    assert {"noexec", "nosuid", "nodev"} <= mounts["/config"]


def test_caddy_lives_in_a_network_and_user_namespace_of_its_own(edge: Host) -> None:
    """Rootless: not the host's namespaces."""
    pid = _caddy(edge)
    for kind in ("net", "user", "mnt", "pid"):
        shown = edge.machine.run(["readlink", f"/proc/{pid}/ns/{kind}", f"/proc/1/ns/{kind}"]).stdout.split()
        assert len(set(shown)) == 2, kind


def test_only_high_ports_are_bound(edge: Host) -> None:
    """Below 1024 the host listens on SSH and its own DNS only."""
    shown = edge.machine.run(["ss", "-Hltun"]).stdout.splitlines()
    local = {line.split()[4] for line in shown}
    ports = {int(address.rpartition(":")[2]) for address in local}
    assert {facts.PROXY_HTTP, facts.PROXY_HTTPS, facts.PROXY_ADMIN} <= ports
    low = {address for address in local if int(address.rpartition(":")[2]) < 1024}
    outside = {address for address in low if not address.startswith(("127.", "[::1]"))}
    assert {address.rpartition(":")[2] for address in outside} == {str(facts.SSH)}
