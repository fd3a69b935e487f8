"""Apps with a socket of their own: what reaches them, what they reach, what a restart, a change and a cut cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import facts
from builder.polling import until
from tests.machine import containment_page, hosts
from tests.machine.clients import Load, get
from tests.server.conftest import Client, client
from tests.sweeps import WHOLE, of_a_sweep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.machine.hosts import Host

pytestmark = pytest.mark.machine

OWN = f"{facts.LISTEN}/site/own/made"
SHOWN = f"{facts.LISTEN}/site/made.sock"
NEIGHBOUR = f"{facts.PROXY_SOCKETS}/shop/web.sock"


@pytest.fixture(scope="module")
def web(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    tmp = tmp_path_factory.mktemp("listen")
    with hosts.booted("listen", tmp) as host:
        yield client(host, tmp)


@pytest.fixture(scope="module")
def host(web: Client) -> Host:
    return web.host


def said(host: Host, name: str, path: str = "/") -> list[str]:
    """The words that a site answers with."""
    reply = get(host, f"https://{name}.example.com{path}")
    assert reply.status == 200, reply
    return reply.body.split()


def site(host: Host, line: str, *, user: str = "er-site") -> str:
    """The output of a shell line of a stack's user."""
    return host.machine.run(["sh", "-ec", line], user=user, timeout=90).stdout


def inside(host: Host, service: str, line: str) -> str:
    """What comes of a shell line in a container, with its errors."""
    done = host.machine.run(["podman", "exec", service, "sh", "-c", line], user="er-site", check=False)
    return done.stdout + done.stderr


def answers(host: Host, name: str) -> bool:
    return host.curl(f"https://{name}.example.com/", "--fail").returncode == 0


def test_each_is_served(host: Host) -> None:
    """A socket made by another user with the usual umask, one that nobody may open by its mode, and passed ones."""
    assert said(host, "made")[0] == "1234"
    assert said(host, "passed")[0] == "0"
    assert " ".join(said(host, "caddy")) == "caddy on its own socket, HTTP/2.0"
    assert " ".join(said(host, "fast")) == "caddy on a passed socket"


def test_no_process_and_no_network_between(host: Host) -> None:
    """Only the service with a port has an ingress."""
    found = host.machine.run("pgrep -u er-site -fa systemd-socket-proxyd").stdout.splitlines()
    assert [line.split()[-1] for line in found] == ["127.0.0.1:3000"]
    assert inside(host, "made", "cat /proc/net/dev | wc -l").split() == ["3"]


def test_the_server_is_content(web: Client) -> None:
    assert web.er("verify", web.spec).returncode == 0
    assert [one for one in web.json("doctor") if not one["ok"]] == []
    assert web.er("apply", web.spec).returncode == 0


# What an app can do with the directory that it has.


LINK = f"ln -s {NEIGHBOUR} /run/er/http.sock"
ATTACKS = {
    "a link to a neighbour's socket": LINK,
    "a link to another socket of its stack": f"ln -s {facts.PROXY_SOCKETS}/site/passed.sock /run/er/http.sock",
    "a link to a link": f"ln -s {NEIGHBOUR} /run/er/a; ln -s a /run/er/http.sock",
    "a file": "echo >/run/er/http.sock",
    "a FIFO": "python3 -c \"import os; os.mkfifo('/run/er/http.sock')\"",
    "a directory": "mkdir /run/er/http.sock",
    "a hard link of a neighbour's socket": f"ln {NEIGHBOUR} /run/er/http.sock",
}


def test_in_place_of_its_socket_nothing_else_is_served(host: Host) -> None:
    rows = []
    for name, line in ATTACKS.items():
        inside(host, "made", f"rm -rf /run/er/*; {line}")
        site(host, f"systemctl --user stop er-listen-made.service; rm -f {SHOWN}")
        left = site(host, f"podman unshare ls -A {OWN}").split()
        refused = "never there"
        if left:
            shown = host.machine.run(
                ["/usr/lib/easyrunner/listen", "show", "made", "http.sock"], user="er-site", check=False
            )
            assert shown.returncode != 0, name
            refused = "refused: not a socket"
        reply = get(host, "https://made.example.com/")
        assert reply.status == 502, (name, reply)
        rows.append({"attempt": f"in place of its own socket: {name}", "outcome": refused})
    rows += [{"attempt": name, "outcome": tried(host, name)} for name in REACHED]
    rows.append(
        {"attempt": "open the file of a passed socket (SIOCUNIXFILE)", "outcome": said(host, "passed", "/file")[0]}
    )
    containment_page.settle("listen", rows)
    restart(host, "made")


# Each with who tries: a container of the stack, or another user of the host.
REACHED = {
    "see the sockets of the host, from inside": ("made", f"ls {facts.RUN}"),
    "see what the proxy is shown, from inside": ("made", f"ls {facts.LISTEN}"),
    "run a program from the directory of the socket": (
        "made",
        "cp /bin/busybox /run/er/sh && chmod 4755 /run/er/sh && /run/er/sh true",
    ),
    "another stack's user: an app's own socket": ("er-shop", f"curl -sS --unix-socket {SHOWN} http://x/"),
    "another stack's user: the directory where it is made": ("er-shop", f"ls {OWN}"),
    "the admin's user, without sudo: an app's own socket": ("er", f"curl -sS --unix-socket {SHOWN} http://x/"),
}


def tried(host: Host, name: str) -> str:
    """Why it failed."""
    who, line = REACHED[name]
    argv = ["podman", "exec", who, "sh", "-c", line] if "-" not in who and who != "er" else ["sh", "-c", line]
    user = who if argv[0] == "sh" else "er-site"
    done = host.machine.run(argv, user=user, check=False)
    assert done.returncode != 0, (name, done.stdout)
    return done.stderr.strip().splitlines()[-1].rpartition(": ")[2]


def test_a_neighbour_goes_on(host: Host) -> None:
    assert get(host, "https://shop.example.com/").status == 200
    assert said(host, "passed")[0] == "0"


# Restarts, and a new socket without one.


def restart(host: Host, service: str) -> None:
    site(host, f"systemctl --user restart site-{service}")
    until(lambda: answers(host, service), timeout=30, what=service)


def test_a_restart_of_a_service_with_a_passed_socket_loses_nothing(host: Host) -> None:
    """Whatever it was at: what it has begun it ends, the rest waits for the next one."""
    loads = [Load(host, "passed.example.com", interval=0.02, family=family) for family in (4, 6, 4)]
    for line in ("restart site-passed", "kill --signal=SIGKILL site-passed"):
        before = said(host, "passed")
        site(host, f"systemctl --user {line}")
        until(lambda before=before: said(host, "passed") != before, timeout=30, what=line)  # type: ignore[misc]
    found = [one for load in loads for one in load.end()]
    assert {status for status, _ in found} == {"200"}
    assert max(seconds for _, seconds in found) > 0.2, "nobody asked meanwhile"


def test_a_socket_that_is_made_anew_is_served(host: Host) -> None:
    """By a process that its container's own supervisor would start; and after a restart."""
    before = said(host, "made")
    host.machine.run(
        [
            "podman",
            "exec",
            "--detach",
            "made",
            "sh",
            "-c",
            "rm /run/er/http.sock; exec python3 /app/serve.py /run/er/http.sock",
        ],
        user="er-site",
    )
    until(lambda: answers(host, "made") and said(host, "made") != before, timeout=30, what="the other process")
    load = Load(host, "made.example.com")
    restart(host, "made")
    assert {status for status, _ in load.end()} <= {"200", "502"}
    assert said(host, "made")[0] == "1234"


# Sleep.


def state(host: Host, unit: str) -> str:
    return site(host, f"systemctl --user show --property ActiveState --value {unit}").strip()


def test_one_that_sleeps_is_woken_and_sleeps_again(host: Host) -> None:
    """The socket that it is passed is there while it is awake."""
    units = f"{facts.ETC}/units/{host.machine.user('er-site').uid}"
    host.machine.run(f"sed -i 's/ 60 / 2 /' {units}/er-ingress-doze.service")
    site(host, "systemctl --user daemon-reload")
    assert state(host, "site-doze.service") == state(host, "er-passed-doze.socket") == "inactive"
    for _ in range(2 if WHOLE else 1):
        assert said(host, "doze")[0] == "0"
        assert state(host, "er-passed-doze.socket") == "active"
        until(lambda: state(host, "site-doze.service") == "inactive", timeout=120, what="sleep")
        assert state(host, "er-passed-doze.socket") == "inactive"


@of_a_sweep
def test_what_a_crash_leaves_in_its_queue_starts_nothing(host: Host) -> None:
    """Of one that sleeps once nobody asks; `machine/test_sleep.py` has one with a port that crashes."""
    loads = [Load(host, "doze.example.com", family=family) for family in (4, 6)]
    site(host, "systemctl --user kill --signal=SIGKILL site-doze.service")
    found = [one for load in loads for one in load.end()]
    # Who had got as far as the app is told so, as in a crash of any app.
    assert {status for status, _ in found} <= {"200", "502"}
    # Failed is what is left where nobody came any more; the next visitor wakes it all the same.
    ends = {"inactive", "failed"}
    until(lambda: state(host, "site-doze.service") in ends, timeout=120, what="sleep after a crash")
    assert state(host, "er-passed-doze.socket") == "inactive"
    assert said(host, "doze")[0] == "0"


# Changes.


def turned(web: Client, where: str) -> str:
    """`turn` listens elsewhere: what apply said."""
    compose = web.spec.parent / "site" / "compose.yaml"
    head, _, tail = compose.read_text().rpartition("/app/serve.py, ")
    compose.write_text(f'{head}/app/serve.py, "{where}"{tail[tail.index("]") :]}')
    lines = [line for line in web.spec.read_text().splitlines(keepends=True) if "turn:" not in line]
    listen = "" if where.isdigit() else f", listen: {where}"
    at = next(number for number, line in enumerate(lines) if "fast:" in line)
    lines.insert(at, f"      turn: {{domains: turn.example.com{listen}}}\n")
    web.spec.write_text("".join(lines))
    done = web.er("apply", web.spec, "--yes")
    assert done.returncode == 0, done.stderr
    return done.stderr + done.stdout


def left(host: Host) -> list[str]:
    """What is where the proxy looks for `turn`, and what is left of next containers."""
    look = "cd /run/easyrunner/proxy/site; ls | grep turn; ls -A /run/systemd/user"
    return host.machine.run(look, check=False).stdout.split()


@of_a_sweep
def test_a_service_comes_from_a_port_to_a_socket_and_back(web: Client) -> None:
    """Each time it restarts in place: a next container would stand where only its own socket can be.

    On the way another service changes that has a passed socket, and loses nothing.
    """
    before = said(web.host, "passed")
    compose = web.spec.parent / "site" / "compose.yaml"
    compose.write_text(compose.read_text().replace("passed:\n", "passed:\n    environment: {CHANGED: once}\n", 1))
    load = Load(web.host, "passed.example.com")
    told = turned(web, "/run/own/turn.sock")
    assert {status for status, _ in load.end()} == {"200"}
    assert said(web.host, "passed") != before
    assert "it has a socket of its own" in told
    assert answers(web.host, "turn")
    assert left(web.host) == ["turn.sock", "turn.up"]
    turned(web, "3000")
    assert answers(web.host, "turn")
    assert left(web.host) == ["turn.sock", "turn.up"]


def test_a_link_would_be_followed_where_the_proxy_looks(host: Host) -> None:
    """So what is refused above is not refused because nothing could come of it. The proxy keeps the connection."""
    place = f"{facts.PROXY_SOCKETS}/site/made.sock"
    site(host, f"ln -sfT {NEIGHBOUR} {place}")
    assert "uri: /" in get(host, "https://made.example.com/").body


@of_a_sweep
def test_all_is_there_again_after_a_cut(host: Host) -> None:
    """Sockets of before lie on the disk, and belong to nobody."""
    host.machine.cut()
    host.boot()
    for name in ("made", "passed", "caddy", "fast", "turn"):
        assert answers(host, name), name
