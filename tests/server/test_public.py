"""What a spec says of public services, by real requests: paths, redirects, headers, passwords, gRPC, late answers."""

from __future__ import annotations

import base64
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.polling import until
from tests.machine import clients, hosts
from tests.machine.clients import Load, get
from tests.machine.conftest import rpc_image_made  # noqa: F401 - a fixture
from tests.server.conftest import Client, client
from tests.sweeps import of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.clients import Reply
    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def web(rpc_image_made: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:  # noqa: F811
    tmp = tmp_path_factory.mktemp("public")
    with hosts.booted("public", tmp) as host:
        yield client(host, tmp)


@pytest.fixture(scope="module")
def host(web: Client) -> Host:
    return web.host


def said(reply: Reply) -> dict[str, str]:
    """What the example app prints of a request."""
    return dict(line.split(": ", 1) for line in reply.body.splitlines() if ": " in line)


# Paths.


@pytest.mark.parametrize(
    ("path", "service"),
    [
        ("/", "web"),
        ("/api", "api"),
        ("/api/", "api"),
        ("/api/x?y=/api/deep", "api"),
        ("/api?x", "api"),
        ("/api/deep", "deep"),
        ("/api/deep/er", "deep"),
        ("/apiary", "web"),
        ("/api-x", "web"),
        ("/api.x", "web"),
        ("/api/deeper", "api"),
        ("/API", "web"),
        ("/x/api", "web"),
        ("/vx2", "web"),
        ("/bare", "bare"),
        ("/v.2/x", "bare"),
        # As an encoding may hide it: the same path.
        ("/%61pi/x", "api"),
        ("/%61%70%69", "api"),
        ("/api%2Fx", "api"),
        ("//api/x", "api"),
        ("/api//deep", "deep"),
        ("/./api", "api"),
        ("/x/../api/x", "api"),
        ("/x/%2e%2e/api/x", "api"),
        ("/api/../x", "web"),
        ("/api/%2e%2e/x", "web"),
        ("/api/deep/../x", "api"),
        ("/api;x", "web"),
        ("/%2561pi", "web"),
        ("/api%00", "web"),
    ],
)
@pytest.mark.parametrize("version", sample(["--http1.1", "--http2"], ["--http2"]))
def test_the_longest_path_of_whole_segments_finds_the_service(
    host: Host, version: str, path: str, service: str
) -> None:
    reply = get(host, f"https://example.com{path}", version, "--path-as-is")
    assert reply.status == 200
    assert said(reply)["greeting"] == service


@pytest.mark.parametrize(
    ("path", "seen"),
    [
        ("/bare", "/"),
        ("/bare/x?y=1&z=%2F", "/x?y=1&z=%2F"),
        ("/bare/bare/x", "/bare/x"),
        ("/v.2/a%20b", "/a%20b"),
        ("/%62are/x", "/x"),
        ("/api/x%2Fy?z", "/api/x%2Fy?z"),
    ],
)
def test_an_app_sees_the_path_as_it_was_or_without_its_own(host: Host, path: str, seen: str) -> None:
    assert said(get(host, f"https://example.com{path}", "--path-as-is"))["uri"] == seen


def test_a_domain_of_paths_alone_is_not_found_elsewhere(host: Host) -> None:
    assert said(get(host, "https://api.example.com/api/x"))["greeting"] == "api"
    reply = get(host, "https://api.example.com/")
    assert (reply.status, reply.body) == (404, "404 Not Found")
    assert reply.header("x-frame-options") == "SAMEORIGIN"
    assert "server" not in reply.names


# Names that lead to others.


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("www.example.com", "example.com"),
        ("www.short.example.com", "short.example.com"),
        ("old.example.net", "short.example.com"),
    ],
)
def test_a_name_leads_to_another_with_path_and_query(host: Host, name: str, target: str) -> None:
    """For good, with a certificate of its own, the method kept."""
    reply = get(host, f"https://{name}/a/b%20c/?d=e&f=%2F", "--request", "POST")
    assert (reply.status, reply.header("location")) == (308, f"https://{target}/a/b%20c/?d=e&f=%2F")
    assert reply.header("strict-transport-security") == "max-age=31536000"
    assert "server" not in reply.names
    assert get(host, f"http://{name}/x").header("location") == f"https://{name}/x"


def test_a_name_cannot_lead_elsewhere(host: Host) -> None:
    """Whatever stands in the path."""
    for path in ("//evil.example/", "/@evil.example/", "/%0d%0aX-Evil:%20x", "/{http.request.host}"):
        reply = get(host, f"https://www.example.com{path}", "--path-as-is", "--globoff")
        assert str(reply.header("location")).startswith("https://example.com/"), reply
        assert "x-evil" not in reply.names


# Headers.


def test_headers_are_over_what_the_app_and_the_proxy_say(host: Host) -> None:
    reply = get(host, "https://example.com/")
    assert reply.header("x-app") == "set by the spec"
    assert not {"x-gone", "x-frame-options"} & reply.names
    assert reply.header("content-security-policy") == "default-src 'self'; script-src 'self' \"#x\" `"
    assert reply.header("x-content-type-options") == "nosniff"
    assert get(host, "https://example.com/api").header("x-frame-options") == "SAMEORIGIN"
    assert get(host, "https://short.example.com/").header("access-control-allow-origin") == "*"


# Passwords.


def _basic(word: str) -> str:
    return f"Authorization: Basic {base64.b64encode(word.encode()).decode()}"


def test_a_password_is_asked_for_and_the_app_never_sees_it(host: Host) -> None:
    reply = get(host, "https://example.com/staff/x")
    assert (reply.status, reply.body) == (401, "401 Unauthorized")
    assert str(reply.header("www-authenticate")).startswith("Basic realm=")
    for word in ("alice:wrong", "alice:", "bob:correct horse", ":", "alice"):
        assert get(host, "https://example.com/staff/x", "--header", _basic(word)).status == 401, word
    good = get(host, "https://example.com/staff/x", "--header", _basic("alice:correct horse"))
    assert (good.status, said(good)["greeting"]) == (200, "staff")
    assert get(host, "https://example.com/").status == 200


@pytest.mark.parametrize("path", ["/%73taff", "//staff", "/x/../staff", "/staff/", "/./staff/x", "/staff%2Fx"])
def test_no_spelling_gets_past_the_password(host: Host, path: str) -> None:
    assert get(host, f"https://example.com{path}", "--path-as-is").status == 401


def test_the_hash_is_the_proxys_alone(host: Host) -> None:
    """No stack's user can read the sites' files."""
    file = f"{facts.ETC}/caddy/sites/site.caddy"
    assert "$2a$10$" in host.machine.run(["cat", file]).stdout
    for user in ("er-site", "er-short"):
        done = host.machine.run(["cat", file], user=user, check=False)
        assert "Permission denied" in done.stderr
    assert "$2a$10$" in host.machine.run(["cat", file], user=facts.PROXY_USER).stdout


def test_who_types_it_wrong_is_not_banned_and_who_guesses_is(host: Host) -> None:
    """Five wrong ones are nothing; 200 refusals in a minute are a flood, as of any other kind."""
    visitor, guesser = host.machine.attacker(0), host.machine.attacker(1)
    for _ in range(5):
        assert get(host, "https://example.com/staff/", "--header", _basic("alice:x"), source=visitor).status == 401
    url = "https://example.com/staff/[1-220]"
    host.curl(url, "--http1.1", "--output", "/dev/null", source=guesser, timeout=60)

    def banned() -> bool:
        shown = host.machine.run("fail2ban-client get er-web-flood banip").stdout.split()
        assert visitor.ipv4 not in shown
        return guesser.ipv4 in shown

    until(banned, timeout=60, what="the ban")
    host.machine.run("fail2ban-client unban --all")
    assert get(host, "https://example.com/", source=visitor).status == 200


# gRPC.


def test_a_stream_both_ways_over_http2_with_trailers(host: Host) -> None:
    """The second message is sent only when the first has come back: nothing on the way waits for more."""
    argv = clients.argv("talk", host, "rpc.example.com", "/package.Service/Talk")
    found = json.loads(host.machine.attacker(0).run(argv, timeout=60).stdout)
    assert [":status", "200"] in found["headers"]
    assert ["content-type", "application/grpc"] in found["headers"]
    assert found["echoes"] == ["one", "two", "three"]
    assert sorted(found["trailers"]) == [["grpc-message", "well"], ["grpc-status", "0"]]


def test_an_app_of_http2_may_be_asked_over_http1(host: Host) -> None:
    reply = get(host, "https://rpc.example.com/", "--http1.1", "--data", "word")
    assert reply.status == 200
    assert reply.body.startswith("word")


# Answers that come late, and apps that are not there.


def _patient(host: Host, name: str, path: str, *words: str) -> str:
    argv = ["curl", "--silent", "--max-time", "120", "--include", "--cacert", str(host.ca), *words]
    argv += ["--resolve", f"{name}:443:{host.address(4)}", f"https://{name}{path}"]
    return host.machine.attacker(0).run(argv, check=False, timeout=150).stdout


def test_a_late_answer_is_not_cut_and_an_app_that_is_gone_is_told_in_a_minute(host: Host) -> None:
    """The answer begins after 70 seconds. Another app's start fails: who asks meanwhile hears so after 60."""
    [uid] = [stack.uid for stack in host.spec.stacks if stack.name == "short"]
    drop_in = f"{facts.ETC}/units/{uid}/short-web.service.d/99-dead.conf"
    with ThreadPoolExecutor() as pool:
        begun = time.monotonic()
        asked = pool.submit(_patient, host, "late.example.com", "/cgi-bin/late")
        host.machine.files.write(drop_in, b"[Service]\nExecStartPre=/bin/false\n")
        host.machine.run("systemctl --user daemon-reload && systemctl --user stop short-web.service", user="er-short")
        try:
            gone = _patient(host, "short.example.com", "/", "--data", "x")
            waited = time.monotonic() - begun
        finally:
            host.machine.run(["rm", drop_in])
            host.machine.run("systemctl --user daemon-reload", user="er-short")
        assert clients.parse(gone).status == 504
        assert 55 < waited < 75
        time.sleep(max(0, begun + 70 - time.monotonic()))
        assert not asked.done()
        host.machine.run("podman exec late touch /tmp/now", user="er-site")
        assert clients.parse(asked.result()).body == "at last\n"
    until(lambda: get(host, "https://short.example.com/").status == 200, timeout=60, what="the app that is back")


def test_an_ingress_that_ends_says_so(host: Host) -> None:
    """A file tells the proxy whether the app has been there since; it is gone with the ingress."""
    file = host.machine.path(f"{facts.PROXY_SOCKETS}/short/web.up")
    until(lambda: get(host, "https://short.example.com/").status == 200, timeout=60, what="the app")
    assert file.exists()
    host.machine.run("systemctl --user stop er-ingress-web.service", user="er-short")
    assert not file.exists()
    assert get(host, "https://short.example.com/").status == 200
    assert file.exists()


# A changed value.


@of_a_sweep
def test_a_changed_value_is_loaded_without_a_lost_request(web: Client) -> None:
    """A header, a path and a redirect change under load; then they are put back."""
    load = Load(web.host, "short.example.com", interval=0.2)
    changed = web.edited('Access-Control-Allow-Origin: "*"', "X-New: new").read_text()
    changed = changed.replace("path: /api}", "path: /v3}").replace("old.example.net", "new.example.net")
    file = web.spec.with_name("changed.yaml")
    file.write_text(changed)
    done = web.er("apply", file, "--yes")
    assert done.returncode == 0, done.stderr
    assert get(web.host, "https://short.example.com/").header("x-new") == "new"
    assert said(get(web.host, "https://example.com/v3"))["greeting"] == "api"
    assert said(get(web.host, "https://example.com/api"))["greeting"] == "web"
    assert get(web.host, "https://new.example.net/x").header("location") == "https://short.example.com/x"
    done = web.er("apply", web.spec, "--yes")
    assert done.returncode == 0, done.stderr
    assert {status for status, _ in load.end()} == {"200"}
    assert said(get(web.host, "https://example.com/api"))["greeting"] == "api"
    assert web.host.curl("https://new.example.net/").returncode == 35
