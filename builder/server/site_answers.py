"""What a domain answers at an address, whoever signed its certificate; and by which addresses a host is reached."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.server.ssh import config

if TYPE_CHECKING:
    from builder.server.ssh import Remote


class Answer(NamedTuple):
    """A status, and the SHA-256 of the certificate."""

    status: int
    certificate: str


_ANSWER_SECONDS: Final = 10.0


def ask(domain: str, address: str) -> Answer | None:
    """The answer of its front page; None where there is none."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with (
            socket.create_connection((address, 443), timeout=_ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=domain) as secure,
        ):
            request = f"GET / HTTP/1.1\r\nHost: {domain}\r\nUser-Agent: er\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            secure.sendall(request.encode())
            answer = http.client.HTTPResponse(secure, method="GET")
            answer.begin()
            return Answer(answer.status, hashlib.sha256(secure.getpeercert(binary_form=True) or b"").hexdigest())
    except (OSError, http.client.HTTPException):
        return None


def address(remote: Remote) -> str:
    """Where ssh connects to."""
    return config(remote.host, remote.options).get("hostname", remote.host.rpartition("@")[2])


def addresses(new: Remote, facts: dict[str, Any]) -> list[str]:
    """The addresses by which the world reaches the new host, as far as is known here: for its DNS records."""
    first = address(new)
    with contextlib.suppress(OSError):
        first = str(socket.getaddrinfo(first, 443, type=socket.SOCK_STREAM)[0][4][0])
    public = [one for one in facts["addresses"] if ipaddress.ip_address(one).is_global]
    return list(dict.fromkeys([first, *public]))
