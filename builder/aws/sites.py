"""Is a domain served? Asked at the server's address by the domain's name, before any DNS record leads there."""

from __future__ import annotations

import http.client
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.aws import remote

if TYPE_CHECKING:
    from builder.spec import Tls

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


def trust(tls: Tls, login: remote.Login) -> Trust:
    """By `tls.ca`: the system's store; the host's own CA, fetched by SSH; or nobody, which is then said."""
    if tls.ca == "internal":
        root = remote.internal_ca(login)
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
