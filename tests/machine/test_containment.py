"""Attacks from inside containers of two stacks: what is tried, what comes of it, what the host's admin sees of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts
from tests.machine import containment_page
from tests.machine.egress_host import FAMILIES, HERE, STACKS, Walls, within
from tests.machine.outside_servers import WEB
from tests.machine.probes import inside, ping, quic, serving, tcp, udp

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.machine.probe_program import Question

pytestmark = pytest.mark.machine


# Ways out.


@dataclass(frozen=True)
class Attempt:
    """A way out that no stack has; `question` is of a family, and None where there is no such thing."""

    name: str
    question: Callable[[Walls, int], Question | None]


def at(*ends: str | None) -> Callable[[Walls, int], str | None]:
    """An address of each family."""
    return lambda _, family: ends[FAMILIES.index(family)]


def host(walls: Walls, family: int) -> str:
    return walls.host.address(family)


def gateway(_: Walls, family: int) -> str | None:
    """What a container calls its host."""
    return "169.254.1.2" if family == 4 else None


def link_local(_: Walls, family: int) -> str | None:
    return "169.254.7.7" if family == 4 else None


def to(where: Callable[[Walls, int], str | None], port: int, kind: Callable[..., Question] = tcp) -> Any:
    def question(walls: Walls, family: int) -> Question | None:
        address = where(walls, family)
        return None if address is None else kind(address, port)

    return question


def neighbour(walls: Walls, family: int) -> str:
    return walls.there(family)


def echo(walls: Walls, family: int) -> Question:
    return ping(walls.there(family), plain=True)


ATTEMPTS = (
    Attempt("metadata: AWS, OpenStack and most others, HTTP", to(at("169.254.169.254", "fd00:ec2::254"), 80)),
    Attempt("metadata: the same, HTTPS", to(at("169.254.169.254", "fd00:ec2::254"), 443)),
    Attempt("metadata: the same, DNS over UDP", to(at("169.254.169.254", "fd00:ec2::254"), 53, udp)),
    Attempt("metadata: ECS (IPv4), Google (IPv6)", to(at("169.254.170.2", "fd20:ce::254"), 80)),
    Attempt("metadata: Azure's WireServer", to(at("168.63.129.16", None), 80)),
    Attempt("metadata: as an IPv4 address in IPv6", to(at(None, "::ffff:169.254.169.254"), 80)),
    Attempt("another link-local address", to(link_local, 80)),
    Attempt("SSH of the host, at its own address", to(host, facts.SSH)),
    Attempt("the proxy's own port, at the host's address", to(host, facts.PROXY_HTTP)),
    Attempt("the same for HTTPS", to(host, facts.PROXY_HTTPS)),
    Attempt("the same for HTTP/3", to(host, facts.PROXY_HTTPS, quic)),
    Attempt("the proxy's admin API, at loopback", to(at("127.0.0.1", "::1"), facts.PROXY_ADMIN)),
    Attempt("the proxy's admin API, at the host's address", to(host, facts.PROXY_ADMIN)),
    Attempt("SSH, by what containers call their host", to(gateway, facts.SSH)),
    Attempt("the proxy's admin API, by what containers call their host", to(gateway, facts.PROXY_ADMIN)),
    Attempt("SSH, by what the host's domains are in containers", to(at(*facts.OWN_SITES), facts.SSH)),
    Attempt("the proxy's own port, by the same", to(at(*facts.OWN_SITES), facts.PROXY_HTTPS)),
    Attempt("UDP of the host, by the same", to(at(*facts.OWN_SITES), facts.HTTP, udp)),
    Attempt("the host's resolver, at another port (LLMNR)", to(at("127.0.0.53", None), 5355)),
    Attempt("a server on the host's loopback", to(at("127.0.0.1", "::1"), 9998)),
    Attempt("the other stack's app, at the host's address", to(host, 3001)),
    Attempt("mail (SMTP) to the world", to(neighbour, 25)),
    Attempt("SSH to a neighbour", to(neighbour, 22)),
    Attempt("a neighbour's web, at another port", to(neighbour, 8080)),
    Attempt("a neighbour, UDP at a port that is open over TCP", to(neighbour, 7777, udp)),
    Attempt("a neighbour, HTTP over UDP", to(neighbour, 80, udp)),
    Attempt("a neighbour, UDP at an odd port", to(neighbour, 22, udp)),
    Attempt("ping a neighbour", echo),
)


def test_ways_out_that_no_stack_has(walls: Walls) -> None:
    """Each is refused from inside both, and counted for the stack that tried, alone."""
    rows = []
    with serving(inside(walls.machine), *(f"tcp:{end}:9998" for end in ("127.0.0.1", "::1"))):
        for attempt in ATTEMPTS:
            cells = {f"IPv{family}": tried(walls, attempt, family) for family in FAMILIES}
            rows.append({"attempt": attempt.name, **cells})
    containment_page.settle("network", rows)


def tried(walls: Walls, attempt: Attempt, family: int) -> str:
    """What came of it from both stacks, and whether it was counted; a cell of the table."""
    question = attempt.question(walls, family)
    if question is None:
        return ""
    found = set()
    for stack in STACKS:
        before = walls.refused()
        outcome = walls.outcome(stack, question)
        after = walls.refused()
        assert outcome != "open", (attempt.name, stack, family)
        others = {name: after[name] - before[name] for name in STACKS if name != stack}
        assert set(others.values()) == {0}, (attempt.name, stack, family)
        found.add("refused, counted" if after[stack] > before[stack] else "refused in the container")
    assert len(found) == 1, (attempt.name, family, found)
    return found.pop()


def test_the_web_and_dns_are_open_to_both(walls: Walls) -> None:
    """So what is refused is not refused because nothing works."""
    for stack in STACKS:
        for family in FAMILIES:
            assert all(walls.open(stack, tcp(walls.there(family), port)) for port in WEB), (stack, family)
            assert walls.open(stack, udp(walls.there(family), 53)), (stack, family)


def test_status_counts_each_stacks_own(walls: Walls) -> None:
    """What `er server status` shows is what the rules counted, and a reload begins anew and says since when."""

    def shown() -> dict[str, Any]:
        return {row["user"]: row for row in walls.client.json("status")["egress"]}

    assert walls.client.er("reapply-firewall").returncode == 1, "gone.example.com"
    since = shown()["er-blog"]["since"]
    assert {user: row["refused"] for user, row in shown().items()} == {"er-proxy": 0, "er-blog": 0, "er-shop": 0, "": 0}
    assert abs(since - walls.machine.path("/run/er-firewall.loaded").stat().st_mtime) < 1
    for stack, count in (("blog", 3), ("shop", 2)):
        for _ in range(count):
            assert walls.outcome(stack, tcp(walls.there(4), 25)) == "refused"
            assert walls.outcome(stack, tcp(walls.there(6), 25)) == "refused"
    walls.machine.run(f"curl -s http://127.0.0.1:{facts.PROXY_ADMIN}/", user="er", check=False)
    assert {user: row["refused"] for user, row in shown().items()} == {"er-proxy": 0, "er-blog": 6, "er-shop": 4, "": 1}
    lines = [line.split() for line in walls.client.er("status").stdout.splitlines()]
    assert ["er-blog", "6"] in lines
    assert ["er-shop", "4"] in lines
    assert ["other", "users", "1"] in lines


def test_an_address_of_egress_is_open_to_its_stack_alone(walls: Walls) -> None:
    for family in FAMILIES:
        assert walls.open("blog", tcp(walls.there(family), 7777))
        assert walls.outcome("shop", tcp(walls.there(family), 7777)) != "open"


# Rights, files, kernel.


def test_rights_files_and_kernel(walls: Walls) -> None:
    program = (HERE / "container_attacks.py").read_text()
    found = json.loads(within(walls.machine, "blog").run("python3", "-c", program))
    assert [name for name, outcome in found.items() if outcome == "done"] == []
    containment_page.settle("inside", [{"attempt": name, "outcome": outcome} for name, outcome in found.items()])


UNITS = {
    "a unit in its home": "{write} ~/.config/systemd/user && {start}",
    "a unit in its runtime directory": "{write} $XDG_RUNTIME_DIR/systemd/user.control && {start}",
    "settings for its manager": "mkdir -p ~/.config/systemd && echo >~/.config/systemd/user.conf",
    "settings for its Podman": "mkdir -p ~/.config/containers && echo >~/.config/containers/containers.conf",
    "settings where both look": "mkdir -p $XDG_CONFIG_HOME/systemd && echo >$XDG_CONFIG_HOME/systemd/user.conf",
    "a program for its message bus": "mkdir -p ~/.local/share/dbus-1 && echo >~/.local/share/dbus-1/mine",
    "its own units": "echo >>{quadlets}/{uid}/blog-web.container",
    "another unit beside its own": "echo >{quadlets}/{uid}/mine.container",
    "the ids that its containers get": "echo >>{stacks}/blog/subids",
    "its own way out": "echo >>{firewall}/30-blog.filter",
    "rules of its own": "echo >{firewall}/99-mine.filter",
    "names of its own": "echo >>{firewall}/30-blog.names",
    "answers for its names": "echo >>{answers}/db.example.com",
    "the firewall's own commands": "iptables -F ER-NO-{uid}",
    "the proxy's configuration": "echo >>{etc}/caddy/Caddyfile",
    "the other stack's socket": "curl -sS --unix-socket {sockets}/shop/web.sock http://x/",
    "the other stack's directory of sockets": "ls {sockets}/shop",
    "the other stack's data": "ls {homes}/shop",
    "the other stack's units and their environment": "cat {quadlets}/{other}/shop-web.container",
    "the other stack's files": "ls {stacks}/shop",
    "the other stack's processes": "pgrep -u er-shop",
    "the admin's commands": "sudo -n true",
    "the journal": "journalctl -q -n 1 -u ssh 2>/dev/null | grep .",
}


def test_out_of_the_container(walls: Walls) -> None:
    """The stack's user holds nothing that makes it more than its containers."""
    places = {
        "quadlets": facts.QUADLETS,
        "stacks": facts.STACKS,
        "firewall": facts.FIREWALL,
        "answers": facts.ANSWERS,
        "etc": facts.ETC,
        "sockets": facts.PROXY_SOCKETS,
        "homes": facts.HOMES,
        "uid": walls.machine.user("er-blog").uid,
        "other": walls.machine.user("er-shop").uid,
        "write": "unit() { mkdir -p $1 && printf '[Service]\\nExecStart=sleep 1' >$1/mine.service; }; unit",
        "start": "systemctl --user daemon-reload && systemctl --user start mine",
    }
    rows = []
    for name, line in UNITS.items():
        done = walls.machine.run(line.format(**places), user="er-blog", check=False)
        assert done.returncode != 0, (name, done.stdout)
        rows.append({"attempt": name, "outcome": words_of(done.stderr)})
    containment_page.settle("user", rows)


def words_of(stderr: str) -> str:
    """The reason, without the place."""
    return stderr.strip().splitlines()[-1].rpartition(": ")[2].rstrip(".") if stderr.strip() else "nothing to see"
