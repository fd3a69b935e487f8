"""What a visitor finds: ports by real connections, redirects, certificates, TLS versions, headers, and QUIC.

Nothing is logged in anywhere; each site is asked for its front page, but for those that a visit would wake. A silent
port costs its whole time, so many are tried at once, and few enough that the firewall's limits for one visitor are not
met.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import ipaddress
import os
import socket
import ssl
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import facts, process

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    # Domain, address, whom to believe, and why a browser would not: what was found.
    Ask = Callable[[str, str, ssl.SSLContext, str], "Found"]

Found = dict[str, Any]
# What is often open by mistake: remote shells, mail, databases, caches, queues, agents, admin pages of programs.
USUAL: Final = (
    21, 22, 23, 25, 53, 80, 110, 111, 135, 139, 143, 389, 443, 445, 465, 514, 587, 631, 636, 873, 993, 995, 1080, 1433,
    1521, 1883, 2019, 2049, 2222, 2375, 2376, 2379, 2380, 3000, 3001, 3128, 3306, 3389, 4000, 4443, 5000, 5432, 5601,
    5672, 5900, 5984, 6379, 6443, 7000, 7474, 8000, 8008, 8080, 8081, 8086, 8088, 8123, 8200, 8443, 8500, 8888, 9000,
    9090, 9092, 9093, 9100, 9200, 9300, 9443, 10250, 11211, 15672, 25565, 27017, 50000,
)  # fmt: skip
_PORTS_AT_ONCE, _SITES_AT_ONCE = 48, 12
_CONNECT_SECONDS, _ANSWER_SECONDS = 2.5, 15.0


def look(
    addresses: Sequence[str],
    domains: Sequence[str],
    ports: Iterable[int],
    authority: str,
    sleeping: Collection[str] = (),
) -> Found:
    """Everything, by address and by domain; `authority` is the host's own in PEM, believed beside the system's.

    Of domains where something sleeps the certificate is looked at, and nothing is asked.
    """
    tried = sorted({*USUAL, *ports})
    with ThreadPoolExecutor(_PORTS_AT_ONCE) as pool:
        every = [(address, number) for address in addresses for number in tried]
        states = dict(zip(every, pool.map(lambda pair: port(*pair), every), strict=True))
    by_address = {one: {number: states[one, number] for number in tried} for one in addresses}
    reached = [one for one, found in by_address.items() if {*found.values()} != {"no way"}]
    with ThreadPoolExecutor(_SITES_AT_ONCE) as pool:
        pairs = [(domain, one) for domain in domains for one in reached]
        asks = {domain: _asked if domain not in sleeping else _shaken for domain in domains}
        sites = list(
            pool.map(lambda pair: site(pair[0], pair[1], by_address[pair[1]], authority, asks[pair[0]]), pairs)
        )
        secure = [one for one in reached if domains and by_address[one][facts.HTTPS] == "open"]
        versions = {one: _versions(pool, one, domains[0]) for one in secure}
        awake = [domain for domain in domains if domain not in sleeping]
        quic = dict(zip(reached, pool.map(lambda one: _quic(one, awake), reached), strict=True))
    return {
        "tried": tried,
        "ports": by_address,
        "sites": sites,
        "versions": versions,
        "quic": quic,
    }


def port(address: str, number: int) -> Literal["open", "closed", "silent", "no way"]:
    """What becomes of a connection: `no way` is said where this machine has none to that address."""
    try:
        socket.create_connection((address, number), timeout=_CONNECT_SECONDS).close()
    except TimeoutError:
        return "silent"
    except OSError as error:
        return "no way" if error.errno in _NO_WAY else "closed"
    return "open"


_NO_WAY: Final = {
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.EADDRNOTAVAIL,
    errno.EAFNOSUPPORT,
    errno.ENETDOWN,
}


def site(domain: str, address: str, states: Mapping[int, str], authority: str, ask: Ask) -> Found:
    """What a domain answers at an address, by plain HTTP and by HTTPS; a port that is not open is not asked again.

    Plain HTTP the proxy answers by itself.
    """
    found: Found = {"domain": domain, "address": address}
    with _said(found, "plain"):
        found["plain"] = _plain(domain, address) if states[facts.HTTP] == "open" else _not_open(facts.HTTP, states)
    with _said(found, "secure"):
        is_open = states[facts.HTTPS] == "open"
        found["secure"] = _secure(domain, address, authority, ask) if is_open else _not_open(facts.HTTPS, states)
    return found


def _not_open(number: int, states: Mapping[int, str]) -> Found:
    return {"error": f"{number} is {states[number]}"}


@contextlib.contextmanager
def _said(found: Found, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        found[what] = {"error": _reason(error)}


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "strerror", "") or error) or type(error).__name__


def _plain(domain: str, address: str) -> Found:
    with socket.create_connection((address, facts.HTTP), timeout=_ANSWER_SECONDS) as connection:
        answer = _get(connection, domain)
        return {"status": answer.status, "location": answer.getheader("Location", "")}


def _get(connection: socket.socket, domain: str) -> http.client.HTTPResponse:
    """The head of the answer to a request for the front page."""
    request = f"GET / HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: er\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    connection.sendall(request.encode("idna" if not domain.isascii() else "ascii"))
    answer = http.client.HTTPResponse(connection, method="GET")
    answer.begin()
    return answer


def _secure(domain: str, address: str, authority: str, ask: Ask) -> Found:
    """The certificate, whether a browser would believe it, and the answer."""
    checked, refusal = ssl.create_default_context(), ""
    if authority:
        checked.load_verify_locations(cadata=authority)
    try:
        return ask(domain, address, checked, "")
    except ssl.SSLCertVerificationError as error:
        refusal = error.verify_message or str(error)
    return ask(domain, address, _believing(), refusal)


def _believing() -> ssl.SSLContext:
    """Believes everything: what is not to be believed is looked at all the same."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _asked(domain: str, address: str, context: ssl.SSLContext, refusal: str) -> Found:
    with _connected(domain, address, context) as secure:
        answer = _get(secure, domain)
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return {**_greeted(secure, refusal), "status": answer.status, "headers": headers}


def _shaken(domain: str, address: str, context: ssl.SSLContext, refusal: str) -> Found:
    """The same without a request."""
    with _connected(domain, address, context) as secure:
        return {**_greeted(secure, refusal), "sleeps": True}


@contextlib.contextmanager
def _connected(domain: str, address: str, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    with (
        socket.create_connection((address, facts.HTTPS), timeout=_ANSWER_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=domain) as secure,
    ):
        yield secure


def _greeted(secure: ssl.SSLSocket, refusal: str) -> Found:
    found = _certificate(secure.getpeercert(binary_form=True) or b"")
    return {"version": secure.version(), "certificate": {**found, "refusal": refusal}}


def _certificate(content: bytes) -> Found:
    """Who signed it, and until when it is good, in seconds since 1970."""
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(ssl.DER_cert_to_PEM_cert(content))
        file.flush()
        found = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
    issuer = dict(pair for part in found["issuer"] for pair in part)
    name = issuer.get("commonName") or issuer.get("organizationName", "")
    return {"issuer": name, "until": int(ssl.cert_time_to_seconds(found["notAfter"]))}


_VERSIONS: Final = {
    "TLS 1.0": ssl.TLSVersion.TLSv1,
    "TLS 1.1": ssl.TLSVersion.TLSv1_1,
    "TLS 1.2": ssl.TLSVersion.TLSv1_2,
    "TLS 1.3": ssl.TLSVersion.TLSv1_3,
}


def _versions(pool: ThreadPoolExecutor, address: str, domain: str) -> dict[str, str]:
    asked: Callable[[str], str] = partial(version, address, domain)
    return dict(zip(_VERSIONS, pool.map(asked, _VERSIONS), strict=True))


def version(address: str, domain: str, name: str) -> str:
    """Whether a handshake of this version alone is `taken` or `refused`; else why it could not be tried."""
    context = _believing()
    try:
        context.set_ciphers("ALL:@SECLEVEL=0")
        # OpenSSL refuses to offer the oldest ones without being asked; that it warns of them is no news here.
        _set_only(context, _VERSIONS[name])
    except (ssl.SSLError, ValueError):
        return "this machine cannot offer it"
    try:
        with (
            socket.create_connection((address, facts.HTTPS), timeout=_ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=domain),
        ):
            return "taken"
    except ssl.SSLError as error:
        return "this machine cannot offer it" if error.reason in _OURS else "refused"
    except ConnectionResetError:
        return "refused"
    except OSError as error:
        return _reason(error)


# Errors of this machine's own library, before anything was sent.
_OURS: Final = {"NO_PROTOCOLS_AVAILABLE", "NO_CIPHERS_AVAILABLE", "UNSUPPORTED_PROTOCOL_VERSION"}


def _set_only(context: ssl.SSLContext, wanted: ssl.TLSVersion) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = wanted


# Of a version that nobody has (RFC 9000, 15): whoever speaks QUIC answers with the versions that it has.
_NO_VERSION: Final = b"\x1a\x2a\x3a\x4a"
_QUIC_SECONDS, _QUIC_TRIES = 2.0, 4


def _quic(address: str, domains: Sequence[str]) -> Found:
    """Whether QUIC is spoken there; and the status of a whole request, where this machine has a client for one."""
    status = _http3(address, domains[0]) if domains else None
    return {"spoken": _quic_answers(address), "status": status, "sites": bool(domains)}


def _quic_answers(address: str) -> bool:
    own = os.urandom(8)
    packet = (b"\xc0" + _NO_VERSION + b"\x08" + os.urandom(8) + b"\x08" + own).ljust(1200, b"\0")
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as connection:
        connection.settimeout(_QUIC_SECONDS)
        for _ in range(_QUIC_TRIES):
            with contextlib.suppress(OSError):
                connection.connect((address, facts.HTTPS))
                connection.send(packet)
                if is_negotiation(connection.recv(2048), own):
                    return True
    return False


def is_negotiation(packet: bytes, own: bytes) -> bool:
    """Whether it is a Version Negotiation packet to us (RFC 9000, 17.2.1)."""
    return len(packet) > 6 and bool(packet[0] & 0x80) and packet[1:5] == bytes(4) and packet[6:].startswith(own)


def _http3(address: str, domain: str) -> int | None:
    """The status of a front page by HTTP/3, 0 for no answer; None where this machine's curl has no HTTP/3."""
    try:
        if "HTTP3" not in process.run(["curl", "--version"], check=False).stdout:
            return None
    except FileNotFoundError:
        return None
    to = ["--resolve", f"{domain}:{facts.HTTPS}:{address}", "--noproxy", "*", "--insecure", "--http3-only"]
    show = ["--output", os.devnull, "--write-out", "%{http_code}", "--max-time", f"{_ANSWER_SECONDS:.0f}"]
    said = process.run(["curl", "--silent", *to, *show, f"https://{domain}/"], check=False).stdout
    return int(said) if said.isdigit() else 0
