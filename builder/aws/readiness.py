"""The wait after a launch: first boot on the serial console, its host keys, then every domain over HTTPS.

Nobody on the network can forge what a server prints on its serial console: trust begins there.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from builder import facts, process, userdata
from builder.aws import console, known_hosts
from builder.aws.api import NotInTimeError
from builder.aws.console import Console
from builder.aws.resources import instance
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.aws.api import Api, Deadline, Progress
    from builder.aws.known_hosts import HostKey
    from builder.aws.request import Request, Settings
    from builder.aws.resources.instance import Server
    from builder.spec import Tls


@dataclass(frozen=True, slots=True)
class FirstBoot:
    """A first boot that is over: the fingerprints that the server printed, and how to log in."""

    server: Server
    fingerprints: frozenset[str]
    login: Login


def wait_for_first_boot(
    api: Api,
    server: Server,
    request: Request,
    settings: Settings,
    *,
    existing: bool,
    deadline: Deadline,
    progress: Progress,
) -> FirstBoot:
    """Wait for first boot, and keep the host keys.

    The console of a server that was there before may have lost the lines of its first boot, as after a restart: then
    the server is asked itself, where its host key is known from before.
    Raises UserError when the server says that it failed, or is none any more; NotInTimeError.
    """
    address = server.address
    if address is None:
        raise UserError(f"{server.id} has no public address", "does its subnet give any? --eip gives one in any case")
    login = Login(request.spec.admin.name, address, settings.known_hosts, settings.identity)
    older = partial(_says_that_it_is_complete, login) if existing else None
    with progress.step("first boot"):
        said = _booted_console(api, server, deadline, older, _secrets_named(server, login, progress))
    if said.by_ssh:
        return FirstBoot(server, frozenset(key.fingerprint for key in said.keys), login)
    keys = verified_keys(said, address)
    if keys:
        known_hosts.update(settings.known_hosts, server.addresses, keys, request.name)
    else:
        progress.line("SSH does not answer from here: no known_hosts entry is written")
    return FirstBoot(server, said.fingerprints, login)


def _says_that_it_is_complete(login: Login) -> Console | None:
    """What a server whose host key is known says of itself; None where it is not known, or does not say so."""
    keys = known_hosts.known(login.known_hosts, login.address)
    done = process.run([*login.argv, "test", "-e", userdata.cloudconfig.COMPLETE], check=False) if keys else None
    return Console(keys=keys, by_ssh=True) if done and done.returncode == 0 else None


def secret_command(login: str, name: str) -> str:
    """What gives a host a secret that its backups need."""
    return f"er server secret set {login} --host {name}"


def _secrets_named(server: Server, login: Login, progress: Progress) -> Callable[[str], None]:
    """What reads a console on the way, and names what a host that waits for its data lacks, once each.

    The commands log in: the host key is put into known_hosts before, as cloud-init printed it. Nothing of a stack has
    run by then.
    """
    named: set[str] = set()

    def read(text: str) -> None:
        missing = set(console.WAITS_FOR_SECRET.findall(text)) - named
        if missing and (keys := console.read(text).keys):
            known_hosts.update(login.known_hosts, server.addresses, keys, server.name)
        for name in sorted(missing):
            way = secret_command(f"{login.user}@{login.address}", name)
            progress.line(f"its data waits for the host's secret {name}: {way}")
        named.update(missing)

    return read


def _booted_console(
    api: Api,
    server: Server,
    deadline: Deadline,
    older: Callable[[], Console | None] | None,
    seen: Callable[[str], None],
) -> Console:
    """What the console says in the end; `seen` gets what it says on the way."""
    text = ""

    def ready() -> Console | None:
        nonlocal text
        text = console.output(api, server.id) or text
        said = console.read(text)
        seen(text)
        _check_alive(api, server)
        if said.ready == server.name:
            return said
        # What failed at its boot may have been mended since.
        if older and (itself := older()):
            return itself
        if said.failure and not console.WAITS_FOR_DISK.search(said.failure):
            raise UserError(f"first boot has failed: {said.failure}", f"its console ends with:\n  {console.tail(text)}")
        return None

    try:
        return deadline.until(ready, "the server's first boot") or Console()
    except NotInTimeError as error:
        hint = f"its console ends with:\n  {console.tail(text)}" if text else "its console says nothing yet"
        if older:
            hint = f"{_OLDER.format(server=server)}\n{hint}"
        raise NotInTimeError(error.message, hint) from None


def wait_for_console(api: Api, server: Server, deadline: Deadline) -> None:
    """Wait for a new server's first boot as its console has it. Raises UserError, NotInTimeError."""
    _booted_console(api, server, deadline, None, lambda _: None)


_OLDER: Final = (
    "EC2 keeps the last 64 KiB of a console, and {server.id} was there before: if it serves, put its host key into "
    "known_hosts (`ssh-keyscan {server.address}`, compared with one that you trust), and it is asked itself"
)


def wait_for_disk(api: Api, server: Server, deadline: Deadline) -> None:
    """Wait until a new server's first boot lacks nothing but its disk for data. Raises UserError, NotInTimeError."""
    text = ""

    def waiting() -> bool:
        nonlocal text
        text = console.output(api, server.id) or text
        failure = console.read(text).failure
        if failure and not console.WAITS_FOR_DISK.search(failure):
            raise UserError(f"first boot has failed: {failure}", f"its console ends with:\n  {console.tail(text)}")
        _check_alive(api, server)
        return bool(console.WAITS_FOR_DISK.search(text))

    try:
        deadline.until(waiting, "the new server to want its disk")
    except NotInTimeError as error:
        raise NotInTimeError(error.message, f"its console ends with:\n  {console.tail(text)}") from None


def _check_alive(api: Api, server: Server) -> None:
    for now in instance.describe(api, [server.id]):
        if now.state in instance.GONE | instance.STOPPED:
            raise UserError(f"{server.id} is {now.state}: {now.reason or 'no reason given'}")


def verified_keys(said: Console, address: str) -> frozenset[HostKey]:
    """The server's host keys: printed on the console, or asked for and compared with the fingerprints there.

    Empty when SSH does not answer from here. Raises UserError when whoever answers is not this server.
    """
    if said.trusted or not said.fingerprints:
        return said.trusted
    answered = known_hosts.scan(address)
    verified = frozenset(key for key in answered if key.fingerprint in said.fingerprints)
    if answered and not verified:
        raise UserError(
            f"what answers SSH at {address} is not this server: its host key is not the one on the console",
            "do not log in; something between here and the server answers in its place",
        )
    return verified


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

    def shown(self, default_known_hosts: Path) -> str:
        """For a person to type."""
        other = self.known_hosts != default_known_hosts
        known = ["-o", f"UserKnownHostsFile={self.known_hosts}"] if other else []
        return " ".join(["ssh", *known, *self._key, self._target])

    @property
    def _key(self) -> list[str]:
        return ["-i", str(self.identity)] if self.identity else []

    @property
    def _target(self) -> str:
        return f"{self.user}@{self.address}"


# From this status on the proxy says that the app is not there yet: wait on.
_NOT_YET: Final = 500


@dataclass(frozen=True, slots=True)
class Site:
    """What a domain answered. `trust` is in words how the certificate was judged; `problem` why there is no answer."""

    domain: str
    address: str
    status: int | None = None
    trust: str = ""
    problem: str = ""
    rpc: bool = False

    @property
    def serves(self) -> bool:
        """Whether an app has answered; with `rpc` the proxy, as the app may have no front page."""
        return self.status is not None and (self.status < _NOT_YET or self.rpc)


_NO_IMAGE: Final = "waits for its first image: er server apply HOST SPEC builds it"
_NO_RECORD: Final = "waits for its DNS record: the certificate comes once that leads to the server"
_ONLY_ITS_EDGE: Final = "answers to its edge alone: ask by the edge"


def wait_for_sites(
    request: Request, boots: tuple[FirstBoot, ...], deadline: Deadline, progress: Progress
) -> tuple[Site, ...]:
    """Ask every server for every domain until each answers. Raises NotInTimeError.

    A domain that cannot answer before DNS leads to the server is asked for once.
    """
    if not request.domains:
        return ()
    with progress.step("HTTPS"):
        tls = request.spec.tls
        servers = ((_trust(tls, one.login), one.login.address, frozenset(one.server.addresses)) for one in boots)
        return tuple(site for server in servers for site in _sites(request, *server, deadline))


def wait_for_balanced_sites(
    request: Request, balancer: str, deadline: Deadline, progress: Progress
) -> tuple[Site, ...]:
    """The same at a fleet's balancer, by its name."""
    if not request.domains:
        return ()
    with progress.step("HTTPS"):
        trust = _trust(request.spec.tls, None)
        # A name of a balancer that was made a moment ago is not known yet.
        deadline.until(partial(_resolved, balancer), f"DNS to know {balancer}")
        return tuple(_sites(request, trust, balancer, _resolved(balancer), deadline))


def _sites(request: Request, trust: Trust, address: str, addresses: frozenset[str], deadline: Deadline) -> list[Site]:
    tls, edge = request.spec.tls, request.spec.proxy.edge
    # A fleet is asked by way of its balancer.
    hidden = edge is not None and edge.only and request.spec.fleet is None
    sites = []
    for domain in request.domains:
        if problem := _NO_IMAGE if domain in request.waiting_domains else _ONLY_ITS_EDGE if hidden else "":
            sites.append(Site(domain, address, problem=problem))
            continue
        # A certificate of the host's own CA needs no DNS.
        possible = tls.ca == "internal" or request.spec.dns is not None or _leads_to(domain, addresses)
        ask = partial(_get, domain, address, trust, rpc=domain in request.rpc_domains)
        site = _site(ask, deadline if possible else None)
        sites.append(site if possible or site.serves else replace(site, problem=_NO_RECORD))
    return sites


def _leads_to(domain: str, addresses: frozenset[str]) -> bool:
    """Whether DNS, as seen from here, leads to one of the addresses."""
    return bool(_resolved(domain) & addresses)


def _resolved(name: str) -> frozenset[str]:
    """The addresses of a name, as seen from here."""
    try:
        return frozenset(str(entry[4][0]) for entry in socket.getaddrinfo(name, 443, type=socket.SOCK_STREAM))
    except OSError:
        return frozenset()


@dataclass(frozen=True, slots=True)
class Trust:
    """Which certificates to trust, and how to say it."""

    context: ssl.SSLContext
    words: str


# Its root certificates are in no trust store, by its purpose.
_STAGING: Final = "letsencrypt-staging"


def _trust(tls: Tls, login: Login | None) -> Trust:
    """By `tls.ca`: the system's store; the host's own CA, fetched by SSH; or none, which is then said."""
    if tls.ca == "internal" and login:
        root = _internal_ca(login)
        if root:
            return Trust(ssl.create_default_context(cadata=root), "by the host's own CA, fetched by SSH")
        return Trust(_unchecked(), "not checked: the host's own CA was not to be had by SSH from here")
    if tls.ca == _STAGING:
        return Trust(_unchecked(), "not checked: a staging CA")
    context = ssl.create_default_context()
    if tls.ca_root:
        context.load_verify_locations(cadata=tls.ca_root.decode("ascii", "replace"))
    return Trust(context, "by this machine's trust store")


_CA_ROOT: Final = f"{facts.CADDY_DATA}/caddy/pki/authorities/local/root.crt"


def _internal_ca(login: Login) -> str | None:
    """The root certificate of the host's own CA as PEM; None when the login does not work from here."""
    done = process.run([*login.argv, "sudo", "cat", _CA_ROOT], check=False)
    return done.stdout if done.returncode == 0 and "BEGIN CERTIFICATE" in done.stdout else None


def _unchecked() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _site(ask: Callable[[], Site], deadline: Deadline | None) -> Site:
    """Asked until it serves; without a deadline once."""
    site = ask()
    if deadline is None or site.serves:
        return site

    def served() -> Site | None:
        nonlocal site
        site = ask()
        return site if site.serves else None

    try:
        return deadline.until(served, site.domain) or site
    except NotInTimeError as error:
        raise NotInTimeError(f"{error.message}: {site.problem or f'it answers {site.status}'}") from None


_ANSWER_SECONDS: Final = 10.0


def _get(domain: str, address: str, trust: Trust, port: int = 443, *, rpc: bool = False) -> Site:
    """One request for the front page."""
    try:
        with (
            socket.create_connection((address, port), timeout=_ANSWER_SECONDS) as plain,
            trust.context.wrap_socket(plain, server_hostname=domain) as secure,
        ):
            return Site(domain, address, _status(secure, domain), trust.words, rpc=rpc)
    except (OSError, http.client.HTTPException) as error:
        return Site(domain, address, problem=_problem(error))


def _status(secure: ssl.SSLSocket, domain: str) -> int:
    request = f"GET / HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: er\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    secure.sendall(request.encode())
    answer = http.client.HTTPResponse(secure, method="GET")
    answer.begin()
    return answer.status


def _problem(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return "no certificate yet"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
