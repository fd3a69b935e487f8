"""A server proves itself: first boot on its console, its host keys, then every domain over HTTPS."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder import facts, process
from builder.aws import console, known_hosts
from builder.aws.api import NotInTimeError
from builder.aws.errors import AwsError
from builder.aws.resources import instance
from builder.aws.resources.base import find
from builder.problems import UserError

if TYPE_CHECKING:
    from pathlib import Path

    from builder.aws.api import Api, Clock
    from builder.aws.launch import Settings
    from builder.aws.progress import Timed
    from builder.aws.request import Request
    from builder.aws.resources.instance import Server
    from builder.spec import Tls


# What EC2 says of the newest output where the hypervisor keeps none.
_NO_LATEST: Final = frozenset({"UnsupportedOperation", "InvalidParameterCombination", "InvalidParameterValue"})


@dataclass(frozen=True, slots=True)
class Proof:
    """What a server said of itself. `keys` are in known_hosts; empty when SSH does not answer from here."""

    server: Server
    fingerprints: frozenset[str]
    keys: frozenset[console.HostKey]
    login: Login


def output(door: Api, instance: str) -> str:
    """The console so far: the newest state, where EC2 has it."""
    try:
        answer = door.call("GetConsoleOutput", InstanceId=instance, Latest=True)
    except AwsError as error:
        if error.code not in _NO_LATEST:
            raise
        answer = door.call("GetConsoleOutput", InstanceId=instance)
    return str(answer.get("Output") or "")


def prove(door: Api, one: Server, order: Request, settings: Settings, *, clock: Clock, told: Timed) -> Proof:
    """Wait for first boot, and learn the host keys; raises UserError when the server says that it failed."""
    address = one.address
    if address is None:
        raise UserError(f"{one.id} has no public address", "does its subnet give any? --eip gives one in any case")
    with told.step("first boot"):
        report = _first_boot(door, one, clock)
    keys = known_hosts.vouched(report, address)
    own = [each for each in (one.ipv4, one.ipv6) if each]
    if keys:
        known_hosts.update(settings.known_hosts, own, keys, order.name)
    else:
        told.line("SSH does not answer from here: no known_hosts entry is written")
    login = Login(order.spec.admin.name, address, settings.known_hosts, settings.identity)
    return Proof(one, report.fingerprints, keys, login)


def _first_boot(door: Api, one: Server, clock: Clock) -> console.Report:
    seen = ""

    def said() -> console.Report | None:
        nonlocal seen
        seen = output(door, one.id) or seen
        report = console.read(seen)
        if report.failure:
            raise UserError(
                f"first boot has failed: {report.failure}", f"its console ends with:\n  {console.tail(seen)}"
            )
        _check_alive(door, one)
        return report if report.ready == one.name else None

    try:
        return clock.until(said, "the server's first boot") or console.Report()
    except NotInTimeError as error:
        shown = f"its console ends with:\n  {console.tail(seen)}" if seen else "its console says nothing yet"
        raise NotInTimeError(error.message, shown) from None


def _check_alive(door: Api, one: Server) -> None:
    for now in find(door, [one.id]):
        if now.state in instance.GONE | instance.STOPPED:
            raise UserError(f"{one.id} is {now.state}: {now.reason or 'no reason given'}")


def serve(order: Request, proofs: tuple[Proof, ...], clock: Clock, told: Timed) -> tuple[Site, ...]:
    """Ask for every domain at every server until each answers; what cannot before DNS leads there is asked once."""
    if not order.domains:
        return ()
    with told.step("HTTPS"):
        return tuple(site for proof in proofs for site in _sites(order, proof, clock))


def _sites(order: Request, proof: Proof, clock: Clock) -> list[Site]:
    tls = order.spec.tls
    trusted = trust(tls, proof.login)
    addresses = frozenset(filter(None, (proof.server.ipv4, proof.server.ipv6)))
    found = []
    for domain in order.domains:
        there = not needs_dns(tls) or order.spec.dns is not None or leads_to(domain, addresses)
        site = _site(domain, proof.login.address, trusted, clock if there else None)
        found.append(site if there or site.serves else replace(site, problem=NO_RECORD))
    return found


def _site(domain: str, address: str, trusted: Trust, clock: Clock | None) -> Site:
    site = ask(domain, address, trusted)
    if clock is None or site.serves:
        return site

    def served() -> Site | None:
        nonlocal site
        site = ask(domain, address, trusted)
        return site if site.serves else None

    try:
        return clock.until(served, domain) or site
    except NotInTimeError as error:
        raise NotInTimeError(f"{error.message}: {site.problem or f'it answers {site.status}'}") from None


_SECONDS: Final = 10.0
# What is still worth waiting for: nothing, or the proxy saying that the app is not there yet.
_NOT_YET: Final = 500
# Root certificates of this CA are in nobody's store, by its purpose.
NO_RECORD: Final = "waits for its DNS record: the certificate comes once that leads to the server"
_UNTRUSTED: Final = "letsencrypt-staging"


@dataclass(frozen=True, slots=True)
class Site:
    """What a domain answered. `trust` is in words how the certificate was judged; `problem` why there is no answer."""

    domain: str
    address: str
    status: int | None = None
    trust: str = ""
    problem: str = ""

    @property
    def serves(self) -> bool:
        """Whether an app has answered."""
        return self.status is not None and self.status < _NOT_YET


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom to trust about a certificate, and how to say it."""

    context: ssl.SSLContext
    words: str


def trust(tls: Tls, login: Login) -> Trust:
    """By `tls.ca`: the system's store; the host's own CA, fetched by SSH; or nobody, which is then said."""
    if tls.ca == "internal":
        root = internal_ca(login)
        if root:
            return Trust(ssl.create_default_context(cadata=root), "by the host's own CA, fetched by SSH")
        return Trust(_unchecked(), "not checked: the host's own CA was not to be had by SSH from here")
    if tls.ca == _UNTRUSTED:
        return Trust(_unchecked(), "not checked: a staging CA")
    context = ssl.create_default_context()
    if tls.ca_root:
        context.load_verify_locations(cadata=tls.ca_root.decode("ascii", "replace"))
    return Trust(context, "by this machine's trust store")


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(domain: str, address: str, trusted: Trust, port: int = 443) -> Site:
    """One request for the front page."""
    try:
        with (
            socket.create_connection((address, port), timeout=_SECONDS) as plain,
            trusted.context.wrap_socket(plain, server_hostname=domain) as secure,
        ):
            return Site(domain, address, _status(secure, domain), trusted.words)
    except (OSError, http.client.HTTPException) as error:
        return Site(domain, address, problem=_words(error))


def _status(secure: ssl.SSLSocket, domain: str) -> int:
    request = f"GET / HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: er\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    secure.sendall(request.encode())
    answer = http.client.HTTPResponse(secure, method="GET")
    answer.begin()
    return answer.status


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "no certificate yet"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


def leads_to(domain: str, addresses: frozenset[str]) -> bool:
    """Whether DNS, as seen from here, leads to one of the addresses."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(domain, 443, type=socket.SOCK_STREAM)}
    except OSError:
        return False
    return bool({str(address) for address in found} & addresses)


def needs_dns(tls: Tls) -> bool:
    """Whether a certificate can only come once DNS leads to the server."""
    return tls.ca != "internal"


CA: Final = f"{facts.STATE}/caddy/caddy/pki/authorities/local/root.crt"


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where, and by which files; `identity` None leaves the key to ssh and its agent."""

    user: str
    address: str
    known_hosts: Path
    identity: Path | None = None

    @property
    def argv(self) -> list[str]:
        """For er: asks nobody anything, and takes no host key that is not known."""
        options = {"BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": "10", "LogLevel": "ERROR"}
        options |= {"ServerAliveInterval": "5", "ServerAliveCountMax": "3"}
        listed = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", *listed, "-o", f"UserKnownHostsFile={self.known_hosts}", *self._key, self._target]

    def shown(self, default: Path) -> str:
        """For a person to type."""
        known = [] if self.known_hosts == default else ["-o", f"UserKnownHostsFile={self.known_hosts}"]
        return " ".join(["ssh", *known, *self._key, self._target])

    @property
    def _key(self) -> list[str]:
        return ["-i", str(self.identity)] if self.identity else []

    @property
    def _target(self) -> str:
        return f"{self.user}@{self.address}"


def internal_ca(login: Login) -> str | None:
    """The certificate of the host's own authority in PEM form; None when the login does not work from here."""
    done = process.run([*login.argv, "sudo", "cat", CA], check=False)
    return done.stdout if done.returncode == 0 and "BEGIN CERTIFICATE" in done.stdout else None
