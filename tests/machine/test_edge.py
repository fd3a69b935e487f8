"""A host behind an edge: the visitor's address is the one that the edge names, and nobody else can claim one.

One host, whose edge speaks the PROXY protocol first, then a header of its own as Cloudflare's, then X-Forwarded-For on
a host that answers to the edge `only`.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import facts, process
from builder.lab import trial
from tests.machine import edge_proxy, hosts
from tests.machine.clients import get
from tests.machine.edge_proxy import ADDRESS, NETWORKS, OWN, PORTS, Edge
from tests.machine.egress_host import within
from tests.machine.probes import Agent, inside, outside, quic, tcp
from tests.machine.test_acme import NAME, PORT, Pebble, authority
from tests.machine.test_fail2ban import fail
from tests.server.conftest import Client, client
from tests.sweeps import WHOLE, of_a_sweep, sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.lab.network import Namespace
    from tests.machine.hosts import Host
    from tests.machine.probes import Place

pytestmark = pytest.mark.machine

SITE = "blog.example.com"
FAMILIES = (4, 6)
families = pytest.mark.parametrize("family", FAMILIES)
# Whom spoofers claim to be, and scanners' pages, which nobody has here.
VICTIM = {4: "203.0.113.9", 6: "2001:db8:bad:7::9"}
PAGES = ("/.env", "/wp-login.php", "/.git/config", "/phpmyadmin/", "/cgi-bin/luci")
_CLIENT = Path(__file__).with_name("raw_client.py").read_text()


@dataclass
class Site:
    """The host, what stands before it, and its admin."""

    host: Host
    edge: Edge
    admin: Client

    def through(self, namespace: Namespace, *paths: str, family: int = 4, hop: int = 4, **more: Any) -> list[Any]:
        """What a visitor is answered who comes through the edge."""
        port = PORTS[hop][more.pop("tls", SITE) is not None]
        questions = [question(self.edge.address(family), port, path, **more) for path in paths]
        return ask(outside(namespace), questions)

    def logged(self, mark: str) -> list[str]:
        """Of each request for a path with this mark, the client as the access log has it."""
        log = self.host.machine.path("/var/log/easyrunner/caddy/access.log").read_text()
        return [json.loads(line)["request"]["client_ip"] for line in log.splitlines() if mark in line]

    def is_logged(self, mark: str) -> list[str]:
        """The same, once there is any."""
        return self.host.machine.wait(lambda: self.logged(mark), timeout=20, what=f"{mark} in the access log")

    def banned(self, jail: str = "er-web-scan") -> list[str]:
        return self.host.machine.run(["fail2ban-client", "get", jail, "banip"]).stdout.split()

    def refused(self) -> dict[str, list[str]]:
        """Whom Caddy refuses, and the jails that say so."""
        found = self.host.machine.path(facts.REFUSED)
        return {one.name: sorted(jail.name for jail in one.iterdir()) for one in found.iterdir()}

    def refuse(self, what: str, *addresses: str) -> None:
        """What Fail2Ban's action does, for many."""
        lines = "".join(f"{facts.LIB}/refuse {what} er-web-scan {one} &&\n" for one in addresses)
        self.host.machine.run(f"{lines}:")

    def behind(self, speech: edge_proxy.Speech, section: str) -> None:
        """Another edge takes over, and the host is told of it as its admin would."""
        self.edge.start(speech)
        text = self.admin.spec.read_text()
        old = next(line for line in text.splitlines() if line.startswith("  behind:"))
        self.admin.spec.write_text(text.replace(old, section))
        done = self.admin.er("apply", self.admin.spec, "--yes")
        assert done.returncode == 0, done.stderr


def question(to: str, port: int, path: str, *, tls: str | None = SITE, **more: Any) -> dict[str, Any]:
    name = tls if port in (443, 1443, facts.PROXY_HTTPS) else None
    return {"to": to, "port": port, "path": path, "host": SITE, "tls": name, **more}


def ask(place: Place, questions: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ask from a place with raw_client.py."""
    argv = place.argv(["python3", "-c", _CLIENT])
    done = process.run(argv, stdin=json.dumps(questions).encode(), timeout=120)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def address_of(namespace: Namespace, family: int) -> str:
    return namespace.ipv4 if family == 4 else namespace.ipv6


def field(body: str, name: str = "forwarded-for") -> str:
    """What the example app says of a request; nothing where it was not the app that answered."""
    return next((line.partition(": ")[2] for line in body.splitlines() if line.startswith(f"{name}: ")), "")


@pytest.fixture(scope="module")
def site(toolbox_image: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The host with an edge, and an authority that reaches it through the edge alone."""
    for program in ("pebble", "haproxy"):
        assert shutil.which(program), f"apt-get install {program}"
    tmp = tmp_path_factory.mktemp("behind")
    authority(tmp)

    def edit(text: str) -> str:
        shutil.copy(tmp / "root.pem", tmp / "behind" / "root.pem")
        return text.replace("{ca: internal}", f'{{ca: "https://{NAME}:{PORT}/dir", ca_root: root.pem}}')

    with hosts.booted("behind", tmp, edit=edit, start=False) as host:
        edge = Edge(host.machine, tmp)
        pebble = Pebble(host, host.machine.attacker(40), tmp, edge=edge.place.ipv4)
        known = host.machine.files.path("/etc/hosts").read_text()
        host.machine.files.write("/etc/hosts", f"{known}\n{pebble.place.ipv4} {NAME}\n".encode())
        edge.lay_addresses()
        running = pebble.start()
        try:
            edge.start("proxy")
            boot(host, edge)
            root = host.machine.wait(pebble.root, what="pebble")
            assert root is not None
            host.ca = root
            yield Site(host, edge, client(host, tmp))
        finally:
            edge.stop()
            for each in running:
                each.kill()
                each.wait()


def boot(host: Host, edge: Edge) -> None:
    """Power on; the way back to the edge is there before anything serves."""
    before = host.machine.console_text().count(trial.READY)
    host.machine.boot()
    edge.lay_routes()
    host.machine.wait(
        lambda: host.machine.console_text().count(trial.READY) > before, timeout=300, what="the ready line"
    )
    host.machine.wait(host.machine.started, timeout=120, what="the end of start-up")


def certified(site: Site, name: str) -> None:
    """The certificate that a visitor sees, of the authority; asked for straight, as an edge may show one of its own."""

    def issued() -> bool:
        argv = ["openssl", "s_client", "-connect", f"{ADDRESS[4]}:443", "-servername", name, "-verify_hostname", name]
        target = ["-CAfile", str(site.host.ca), "-verify_return_error"]
        argv[3] = f"{site.host.machine.ipv4}:443"
        return site.host.machine.attacker(0).run([*argv, *target], stdin=b"", check=False).returncode == 0

    site.host.machine.wait(issued, timeout=120, what=f"a certificate for {name}")


# The PROXY protocol.


def test_certificates_come_through_the_edge(site: Site) -> None:
    certified(site, SITE)


@families
@pytest.mark.parametrize("hop", FAMILIES)
def test_the_visitors_address_is_the_one_that_the_edge_names(site: Site, family: int, hop: int) -> None:
    """To the app, in the log; over IPv4 and IPv6, whichever of them the edge calls the host by."""
    visitor, mark = site.host.machine.attacker(1), f"/named-{family}-{hop}"
    (found,) = site.through(visitor, f"{mark}-tls", family=family, hop=hop)
    assert (found["status"], field(found["body"])) == (200, address_of(visitor, family)), found
    assert "alt-svc" not in found["head"].lower(), "HTTP/3 does not come through"
    (found,) = site.through(visitor, f"{mark}-plain", family=family, hop=hop, tls=None)
    assert found["status"] == 308
    assert site.is_logged(f"{mark}-tls") == [address_of(visitor, family)]
    assert site.is_logged(f"{mark}-plain") == [address_of(visitor, family)]


def version_1(family: int, source: str, kind: str = "") -> str:
    """A line of the PROXY protocol's first version, in hex."""
    here = "198.18.5.9" if family == 4 else "2001:db8:ed9e::9"
    return f"PROXY {kind or f'TCP{family}'} {source} {here} 4711 443\r\n".encode().hex()


def version_2(family: int, source: str, command: int = 0x21) -> str:
    """The same of the second; command 0x20 is LOCAL."""
    packed = ipaddress.ip_address(source).packed
    body = packed + packed + struct.pack(">HH", 4711, 443)
    return (_SIGNATURE + bytes([command, {4: 0x11, 6: 0x21}[family]]) + struct.pack(">H", len(body)) + body).hex()


_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def unix(path: bytes) -> str:
    """The second version's address of a unix socket."""
    body = path.ljust(108, b"\0") * 2
    return (_SIGNATURE + b"\x21\x31" + struct.pack(">H", len(body)) + body).hex()


_CLAIMS = ("X-Forwarded-For", "X-Real-IP", "CF-Connecting-IP", "True-Client-IP", "X-Client-IP", "Forwarded")


def claims(source: str) -> list[str]:
    return [f"{name}: {'for=' * (name == 'Forwarded')}{source}" for name in _CLAIMS]


# How a stranger may say that he is somebody else, to a host that trusts the PROXY protocol of its edge: from outside or
# from inside an app, by which family, what stands before all else, on which port, with which headers.
@dataclass(frozen=True)
class Spoof:
    """One way; `to` is the host, its edge, or an address of the host's own among those that are trusted."""

    name: str
    family: int = 4
    first: str = ""
    headers: tuple[str, ...] = ()
    to: str = "host"
    port: int = 443
    inside: bool = False


PROXY_SPOOFS = (
    Spoof("a line of version 1", first=version_1(4, VICTIM[4])),
    Spoof("a line of version 1, IPv6", 6, first=version_1(6, VICTIM[6])),
    Spoof("a line of version 1, without TLS", first=version_1(4, VICTIM[4]), port=80),
    Spoof("a line of version 1, IPv4-mapped", 6, first=version_1(6, f"::ffff:{VICTIM[4]}")),
    Spoof("a line of version 1 that names a file", first=version_1(4, "../../../etc/passwd"), port=80),
    Spoof("a line of version 1 of nobody", first=version_1(4, VICTIM[4], "UNKNOWN"), port=80),
    Spoof("a line of version 1 in the edge's name", first=version_1(4, ADDRESS[4])),
    Spoof("a line of version 2", first=version_2(4, VICTIM[4])),
    Spoof("a line of version 2, IPv6", 6, first=version_2(6, VICTIM[6])),
    Spoof("a line of version 2, without TLS", first=version_2(4, VICTIM[4]), port=80),
    Spoof("a line of version 2, IPv6 over IPv4", first=version_2(6, VICTIM[6])),
    Spoof("a line of version 2 with an unix socket's address", first=unix(b"/../../etc"), port=80),
    Spoof("a health check's line of version 2", first=version_2(4, VICTIM[4], 0x20), port=80),
    Spoof("two lines of version 2", first=version_2(4, VICTIM[4]) * 2),
    Spoof("a line of version 1 behind the edge's", first=version_1(4, VICTIM[4]), to="edge"),
    Spoof("a line of version 2 behind the edge's", first=version_2(4, VICTIM[4]), to="edge", port=80),
    Spoof("headers through the edge", headers=tuple(claims(VICTIM[4])), to="edge"),
    Spoof("headers", 6, headers=tuple(claims(VICTIM[6]))),
    Spoof("a line of version 1 from an app", first=version_1(4, VICTIM[4]), to="own", inside=True),
    Spoof("a line of version 2 from an app", first=version_2(4, VICTIM[4]), to="own", inside=True),
    Spoof("a line of version 2 from an app, IPv6", 6, first=version_2(6, VICTIM[6]), to="own", inside=True),
    Spoof("a line of version 2 from an app, plain", first=version_2(4, VICTIM[4]), to="own", port=80, inside=True),
    Spoof("version 2 from an app to a passed socket", first=version_2(4, VICTIM[4]), to="own", port=8443, inside=True),
    Spoof("a line of version 2 to a passed socket", first=version_2(4, VICTIM[4]), port=8443),
)


def try_spoofs(site: Site, rows: Sequence[Spoof], prefix: str) -> dict[str, str]:
    """By row, whom the app or the log took the spoofer for, when that is not himself; empty if nothing changed."""
    places = {True: within(site.host.machine, "blog"), False: outside(site.host.machine.attacker(2))}
    asked: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for number, one in enumerate(rows):
        to = {"host": site.host.address, "edge": site.edge.address, "own": OWN.__getitem__}[one.to](one.family)
        asked[one.inside].append(
            question(to, one.port, f"/spoof-{prefix}-{number}-", first=one.first, headers=one.headers)
            | {"name": one.name}
        )
    found: dict[str, str] = {}
    for is_inside, questions in asked.items():
        himself = (
            {"127.0.0.1", "::1"} if is_inside else {address_of(site.host.machine.attacker(2), f) for f in FAMILIES}
        )
        for asked_one, reply in zip(questions, ask(places[is_inside], questions), strict=True):
            told = {field(reply["body"])} - {""} if reply["status"] == 200 else set()
            if strange := (told | set(site.logged(asked_one["path"]))) - himself:
                found[asked_one["name"]] = f"{reply['status']} {strange}"
    return found


def test_nobody_else_can_say_who_he_is(site: Site) -> None:
    """Also through the passed sockets, which Caddy would trust were they unix sockets; and nobody is banned for it."""
    assert len({one.name for one in PROXY_SPOOFS}) == len(PROXY_SPOOFS) >= 20
    # The rows that are to be answered at all: what is said before is no line of the protocol's from a stranger.
    for to in (OWN[4], OWN[6]):
        (own,) = ask(within(site.host.machine, "blog"), [question(to, 443, "/own-call")])
        assert (own["status"], field(own["body"])) == (200, "127.0.0.1" if "." in to else "::1")
    (headers,) = site.through(site.host.machine.attacker(2), "/h", headers=claims(VICTIM[4]))
    assert field(headers["body"]) == site.host.machine.attacker(2).ipv4
    assert try_spoofs(site, PROXY_SPOOFS, "proxy") == {}
    site.is_logged("/h")
    log = site.host.machine.path("/var/log/easyrunner/caddy/access.log").read_text()
    taken = {json.loads(line)["request"]["client_ip"] for line in log.splitlines()}
    assert not taken & {*VICTIM.values(), *ADDRESS.values(), *OWN.values(), ""}


# Bans.


def scan(site: Site, visitor: Namespace, count: int, family: int = 4, hop: int = 4) -> list[int]:
    """Pages that nobody has, of a site that is not here: each answered with 4xx."""
    found = site.through(visitor, *PAGES[:count], family=family, hop=hop, host="nobody.example.com")
    return [one["status"] for one in found]


def status(site: Site, visitor: Namespace, family: int = 4, hop: int = 4, tls: str | None = SITE) -> int:
    (found,) = site.through(visitor, "/", family=family, hop=hop, tls=tls)
    return int(found["status"])


def until_refused(site: Site, visitor: Namespace, family: int = 4) -> None:
    site.host.machine.wait(lambda: status(site, visitor, family) == 403, timeout=30, what="the refusal")


def net(visitor: Namespace, family: int) -> str:
    """The name that a ban of a visitor has among the refused."""
    if family == 4:
        return visitor.ipv4
    return ":".join(f"{int(group, 16):x}" for group in ipaddress.ip_address(visitor.ipv6).exploded.split(":")[:4])


def elsewhere(site: Site, number: int) -> Namespace:
    """A visitor with an IPv6 network of his own, as a host that shares its /64 with others counts them one by one."""
    found = site.host.machine.attacker(number)
    theirs = f"2001:db8:{number:x}:7::{number:x}"
    found.run(["ip", "addr", "replace", f"{theirs}/64", "dev", "lan", "nodad"])
    found.run(["ip", "-6", "route", "replace", f"{site.edge.place.ipv6}/128", "dev", "lan", "src", theirs])
    site.edge.place.run(["ip", "-6", "route", "replace", f"2001:db8:{number:x}:7::/64", "via", found.ipv6])
    return type(found)(found.name, found.ipv4, theirs)


@pytest.mark.parametrize(("family", "hop"), sample([(4, 6), (6, 4)], [(6, 4)]))
def test_the_fifth_page_bans_the_visitor_and_nobody_else(site: Site, family: int, hop: int) -> None:
    number = 10 + 4 * family + hop
    attacker, neighbour = elsewhere(site, number), elsewhere(site, number + 100)
    assert scan(site, attacker, 4, family, hop) == [421] * 4
    assert status(site, attacker, family) == 200
    scan(site, attacker, 1, family, hop)
    until_refused(site, attacker, family)
    assert status(site, attacker, family, hop, tls=None) == 403
    (found,) = site.through(attacker, "/", family=family, hop=hop)
    assert not {"server", "alt-svc"} & {line.partition(":")[0].lower() for line in found["head"].splitlines()}
    assert site.refused()[net(attacker, family)] == ["er-web-scan"]
    assert status(site, neighbour, family, hop) == 200
    edges = [ipaddress.ip_network(network) for network in NETWORKS.values()]
    banned = [ipaddress.ip_network(one) for jail in ("er-web-scan", "er-web-flood") for one in site.banned(jail)]
    assert not [one for one in banned for edge in edges if one.version == edge.version and one.overlaps(edge)]
    with Agent(outside(attacker)) as agent:
        assert agent.all_open(tcp(site.host.address(4), facts.SSH)) == [], "from the web nobody is banned from SSH"
    assert site.admin.er("unban", address_of(attacker, family)).returncode == 0
    assert status(site, attacker, family, hop) == 200


@pytest.mark.parametrize("family", sample(FAMILIES, (6,)))
def test_who_comes_straight_is_banned_in_the_firewall_too(site: Site, family: int) -> None:
    stranger = site.host.machine.attacker(50 + family)
    straight = [question(site.host.address(family), 443, page, host="nobody.example.com") for page in PAGES]
    ask(outside(stranger), straight)
    with Agent(outside(stranger)) as agent:
        wanted = tcp(site.host.address(family), facts.HTTPS)
        site.host.machine.wait(lambda: agent.ask(wanted) == ["silent"], timeout=30, what="the ban")
    assert status(site, site.host.machine.attacker(1)) == 200


def test_a_ban_from_ssh_is_the_firewalls(site: Site) -> None:
    """Of the address that came, which no edge names; the site stays open to it. Three of them close everything."""
    wrong = site.host.key.parent / "wrong"
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(wrong)])
    attacker = site.host.machine.attacker(58)
    for _ in range(5):
        fail(site.host, attacker, "er", 4)
    site.host.machine.wait(lambda: attacker.ipv4 in site.banned("sshd"), timeout=30, what="the ban")
    with Agent(outside(attacker)) as agent:
        assert agent.ask(tcp(site.host.machine.ipv4, facts.SSH)) == ["silent"]
    assert attacker.ipv4 not in site.refused()
    assert status(site, attacker) == 200
    assert site.admin.er("ban", attacker.ipv4, "--jail", "recidive").returncode == 0
    until_refused(site, attacker)
    site.host.machine.run(["fail2ban-client", "unban", "--all"])
    assert status(site, attacker) == 200


def test_two_jails_may_ban_one_visitor(site: Site) -> None:
    """What one of them takes back, the other one keeps; the edge itself is banned by nobody's word."""
    visitor = elsewhere(site, 70)
    for jail in ("er-web-scan", "er-web-flood"):
        assert site.admin.er("ban", visitor.ipv6, "--jail", jail).returncode == 0
    until_refused(site, visitor, 6)
    assert site.refused()[net(visitor, 6)] == ["er-web-flood", "er-web-scan"]
    shown = site.admin.json("fail2ban-status")
    assert {one["jail"] for one in shown if one["banned"]} == {"er-web-scan", "er-web-flood"}
    site.host.machine.run(["fail2ban-client", "set", "er-web-flood", "unbanip", f"2001:db8:{70:x}:7::/64"])
    site.host.machine.wait(lambda: site.refused()[net(visitor, 6)] == ["er-web-scan"], what="one of the bans to end")
    assert status(site, visitor, 6) == 403
    for address in ADDRESS.values():
        done = site.admin.er("ban", address, "--jail", "er-web-scan")
        assert done.returncode == 1, done.stderr
        assert "of the edge" in done.stderr


def test_bans_outlive_fail2ban_the_proxy_and_the_host(site: Site) -> None:
    """The one before is still there, and one that ended while nobody looked is not. The boot is of the sweep.

    `machine/test_data.py` has bans that a new machine takes over.
    """
    visitor = elsewhere(site, 70)
    machine = site.host.machine
    left = f"{facts.REFUSED}/203.0.113.77"
    machine.run(f"mkdir {left} && : >{left}/er-web-scan")
    machine.run(["systemctl", "restart", "fail2ban"])
    machine.wait(lambda: net(visitor, 6) in site.refused() and "203.0.113.77" not in site.refused(), what="the bans")
    until_refused(site, visitor, 6)
    machine.run("systemctl --user restart er-proxy.service", user="er-proxy")
    until_refused(site, visitor, 6)
    if WHOLE:
        machine.poweroff()
        boot(site.host, site.edge)
        until_refused(site, visitor, 6)
    assert status(site, elsewhere(site, 71), 6) == 200
    site.host.machine.run(["fail2ban-client", "unban", "--all"])
    assert status(site, visitor, 6) == 200
    assert site.refused() == {}


# A header, as Cloudflare has it.

HEADER = f'  behind: {{networks: [{NETWORKS[4]}, "{NETWORKS[6]}"], header: CF-Connecting-IP}}'
_CLAIM = {family: f"CF-Connecting-IP: {address}" for family, address in VICTIM.items()}
_MISSPELT = f"CF_Connecting_IP: {VICTIM[4]}"
HEADER_SPOOFS = (
    *(Spoof(f"the edge's header, IPv{family}", family, headers=(_CLAIM[family],)) for family in FAMILIES),
    Spoof("the edge's header, without TLS", headers=(_CLAIM[4],), port=80),
    Spoof("the edge's header, twice", headers=(_CLAIM[4],) * 2),
    Spoof("the edge's header with other dashes", headers=(_MISSPELT,)),
    Spoof("all headers", headers=tuple(claims(VICTIM[4]))),
    Spoof("the edge's header through the edge", headers=(_CLAIM[4],), to="edge"),
    Spoof("the edge's header through the edge, twice", headers=(_CLAIM[4],) * 2, to="edge"),
    Spoof("the edge's header through the edge, with other dashes", headers=(_MISSPELT,), to="edge"),
    Spoof("another header through the edge", headers=(f"X-Forwarded-For: {VICTIM[4]}",), to="edge"),
    Spoof("a line of version 2", first=version_2(4, VICTIM[4])),
    Spoof("a line of version 1, without TLS", first=version_1(4, VICTIM[4]), port=80),
    *(
        Spoof(f"the edge's header from an app, IPv{family}", family, headers=(_CLAIM[family],), to="own", inside=True)
        for family in FAMILIES
    ),
    Spoof("the edge's header from an app to a passed socket", headers=(_CLAIM[4],), to="own", port=8443, inside=True),
)


def test_another_edge_names_the_visitor_by_a_header(site: Site) -> None:
    """A ban from before holds after the change, and a certificate comes through an edge that ends TLS."""
    banned = elsewhere(site, 72)
    site.host.machine.run(["fail2ban-client", "set", "er-web-scan", "banip", f"2001:db8:{72:x}:7::/64"])
    site.admin.spec.write_text(
        site.admin.spec.read_text().replace(f"domain: {SITE}", f"domains: [{SITE}, new.example.com]")
    )
    site.behind("cloudflare", HEADER)
    certified(site, "new.example.com")
    until_refused(site, banned, 6)
    for family in FAMILIES:
        for hop in FAMILIES:
            visitor, mark = site.host.machine.attacker(1), f"/header-{family}-{hop}"
            (found,) = site.through(visitor, mark, family=family, hop=hop)
            assert (found["status"], field(found["body"])) == (200, address_of(visitor, family)), found
            assert site.is_logged(mark) == [address_of(visitor, family)]


@pytest.mark.parametrize(("family", "hop"), sample([(4, 6), (6, 4)], [(4, 6)]))
def test_the_fifth_page_bans_the_visitor_of_a_header(site: Site, family: int, hop: int) -> None:
    number = 80 + 4 * family + hop
    attacker, neighbour = elsewhere(site, number), elsewhere(site, number + 20)
    scan(site, attacker, 5, family, hop)
    until_refused(site, attacker, family)
    assert status(site, neighbour, family, hop) == 200


def test_a_header_is_believed_of_the_edge_alone(site: Site) -> None:
    assert try_spoofs(site, HEADER_SPOOFS, "header") == {}
    with Agent(outside(site.host.machine.attacker(3))) as agent:
        asked = [quic(site.host.address(family), facts.HTTPS) for family in FAMILIES]
        assert agent.all_silent(*asked) == [], "early data of HTTP/3 comes from an address that nobody has proved"


# What an edge writes, and whom that is taken for; None is the edge itself. In IPv4 and IPv6 forms of all kinds.
SAID = (
    ("203.0.113.50", "203.0.113.50"),
    ("203.0.113.50:4711", "203.0.113.50"),
    ("[2001:db8:50::7]:4711", "2001:db8:50::7"),
    ("2001:DB8:50:0:0:0:0:7", "2001:db8:50::7"),
    ("::ffff:203.0.113.50", "::ffff:203.0.113.50"),
    ("../../../etc/passwd", None),
    ("203.0.113.50/../203.0.113.51", None),
    ("*", None),
    ("", None),
    ("{http.request.uri}", None),
    (f"{ADDRESS[4]}", None),
)


def test_what_an_edge_may_write(site: Site) -> None:
    """No text of it is more than an address, and what is none leaves the edge's own, which nobody bans."""
    place = outside(site.edge.place)
    asked = [
        question(site.host.machine.ipv4, 443, f"/said-{number}-", headers=[f"CF-Connecting-IP: {text}"])
        | {"source": ADDRESS[4]}
        for number, (text, _) in enumerate(SAID)
    ]
    replies = ask(place, asked)
    assert [one["status"] for one in replies] == [200] * len(SAID)
    found = [site.is_logged(one["path"]) for one in asked]
    assert found == [[taken or ADDRESS[4]] for _, taken in SAID]


# The network of each form that an address may have, as Caddy finds it: as Go writes addresses, by RFC 5952.
WRITTEN = (
    "2001:db8:1:2:3:4:5:6",
    "2001:db8:1:2::6",
    "2001:db8:1::6",
    "2001:db8:1:0:1::6",
    "2001:db8::6",
    "2001:db8::1:0:0:1",
    "2001:db8:0:1::",
    "2001:0:0:1::6",
    "2001::1:2:3:4:5",
    "2001::3:4:5:6",
    "2001:0:0:0:9::",
    "2a00:0:0:ff::1",
    "2a00:1:0:0:1:1:1:1",
    "64:ff9b::cb00:7132",
)


def test_every_form_of_a_network_is_refused(site: Site) -> None:
    """Banned is a network; asked is by addresses of it, and by one of another network."""
    networks = [ipaddress.IPv6Network((text, 64), strict=False) for text in WRITTEN]
    refused = [str(one) for text, net in zip(WRITTEN, networks, strict=True) for one in (text, net[5], net[1 << 63])]
    refused += ["203.0.113.50", "::ffff:203.0.113.50"]
    served = [str(ipaddress.IPv6Address(int(net[5]) ^ 1 << 79)) for net in networks] + ["203.0.113.5", "203.0.113.51"]
    before = site.refused()
    site.refuse("ban", *map(str, networks), "203.0.113.50")
    asked = [
        question(site.host.machine.ipv4, 80, "/net", headers=[f"CF-Connecting-IP: {one}"]) | {"source": ADDRESS[4]}
        for one in (*refused, *served)
    ]
    replies = dict(zip((*refused, *served), ask(outside(site.edge.place), asked), strict=True))
    assert {one: replies[one]["status"] for one in refused} == dict.fromkeys(refused, 403), site.refused()
    assert {one: replies[one]["status"] for one in served} == dict.fromkeys(served, 308)
    site.refuse("unban", *map(str, networks), "203.0.113.50")
    assert site.refused() == before


# Closed to all but the edge.

ONLY = f'  only: true\n  behind: {{networks: [{NETWORKS[4]}, "{NETWORKS[6]}"], header: X-Forwarded-For}}'


def test_only_the_edge_is_answered(site: Site) -> None:
    """By X-Forwarded-For, of which the last address is the edge's word; straight visitors hear nothing at all."""
    site.behind("forwarded", ONLY)
    visitor = site.host.machine.attacker(1)
    (found,) = site.through(visitor, "/only", headers=[f"X-Forwarded-For: {VICTIM[4]}"] * 2)
    assert (found["status"], field(found["body"])) == (200, visitor.ipv4)
    assert site.is_logged("/only") == [visitor.ipv4]
    with Agent(outside(site.host.machine.attacker(4))) as agent:
        for family in FAMILIES:
            here = site.host.address(family)
            ports = (facts.HTTP, facts.HTTPS, facts.PROXY_HTTP, facts.PROXY_HTTPS)
            assert agent.all_silent(*(tcp(here, port) for port in ports), quic(here, facts.HTTPS)) == []
            assert agent.all_open(tcp(here, facts.SSH)) == []
    for to in (OWN[4], OWN[6], site.host.machine.ipv4):
        (own,) = ask(within(site.host.machine, "blog"), [question(to, 443, "/own-call")])
        assert own["status"] == 200, "its own apps still call it"


def test_the_host_says_what_stands_before_it(site: Site) -> None:
    rows = {one["check"]: one for one in site.admin.json("doctor")}
    assert rows["firewall complete"]["ok"], rows["firewall complete"]
    assert rows["edge"]["ok"], rows["edge"]


@of_a_sweep
def test_without_an_edge_all_is_as_before(site: Site) -> None:
    """What was laid for it goes with it."""
    text = site.admin.spec.read_text()
    site.admin.spec.write_text(
        "\n".join(line for line in text.splitlines() if not line.startswith(("  behind:", "  only:")))
    )
    done = site.admin.er("apply", site.admin.spec, "--yes")
    assert done.returncode == 0, done.stderr
    reply = get(site.host, f"https://{SITE}/", family=6)
    assert field(reply.body) == site.host.machine.attacker(0).ipv6
    assert reply.header("alt-svc")
    left = site.host.machine.run(
        f"find /etc /usr/lib/easyrunner {facts.FIREWALL} -name '*edge*' -path '*easyrunner*'; ls {facts.LIB}/refuse",
        check=False,
    )
    assert not left.stdout, left.stdout
    (own,) = ask(inside(site.host.machine, "er-blog"), [question(site.host.machine.ipv4, 443, "/own-call")])
    assert field(own["body"]) == site.host.machine.ipv4
