"""The environment variables that `er` gives to a stack's services: who they are, and where the world finds them.

And what a value must not have in it: a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.stack.model import Kind, Service, Stack

# A password in a URL (`scheme://user:password@host`), or in a database driver's list of settings. The whole scheme is
# not looked for: in a long text without any, that takes time by the square of its length.
PASSWORD_INSIDE: Final = re.compile(
    r"[A-Za-z0-9+.-]://[^\s/@:]*:(?P<url>[^\s/@]+)@|(?:^|[\s;?&])(?:password|pwd)=(?P<setting>[^\s;&]+)",
    re.IGNORECASE,
)


class ServiceIdentity(NamedTuple):
    """What the variables of a stack say of one of its services."""

    name: str
    kind: Kind
    domain: str | None
    port: int
    framework: str | None = None
    path: str = ""  # after the domain, where the service does not have all of it

    @property
    def url(self) -> str:
        """Where the world finds it."""
        return f"https://{self.domain}{self.path}"


def injected(stack: Stack, service: Service, server: str | None = None) -> dict[str, str]:
    """The variables that `er` gives to a service, without those that the user sets; `server` is the host's name."""
    peers = [identity(peer) for peer in stack.services]
    taken = {name for name, _ in service.environment} | {secret.variable for secret in service.env_secrets}
    found = of_service(stack.name, identity(service), peers, server)
    return {name: value for name, value in found.items() if name not in taken}


def identity(service: Service) -> ServiceIdentity:
    """The identity of a service."""
    domain = service.domains[0] if service.domains else None
    path = service.paths[0] if service.paths else ""
    return ServiceIdentity(service.name, service.kind, domain, service.port, service.framework, path)


def of_service(
    stack: str, service: ServiceIdentity, peers: Iterable[ServiceIdentity], server: str | None = None
) -> dict[str, str]:
    """The variables that `er` gives to a service, in a fixed order; `peers` are all services of its stack."""
    return dict(
        [
            *_own(stack, service),
            *_addresses(peers),
            *([("EASYRUNNER_SERVER_NAME", server)] if server else []),
            *_framework(service),
        ]
    )


def _own(stack: str, service: ServiceIdentity) -> Iterator[tuple[str, str]]:
    yield "EASYRUNNER_STACK", stack
    yield "EASYRUNNER_APP_NAME", stack
    yield "EASYRUNNER_SERVICE", service.name
    yield "EASYRUNNER_SERVICE_TYPE", service.kind
    if service.kind == "web" and service.domain:
        yield "EASYRUNNER_DOMAIN", service.domain
        yield "EASYRUNNER_APP_DOMAIN", service.domain
        yield "EASYRUNNER_APP_URL", service.url
        yield "EASYRUNNER_PORT", str(service.port)


def _addresses(peers: Iterable[ServiceIdentity]) -> Iterator[tuple[str, str]]:
    """Where the stack's public services are, so that one can address another."""
    for peer in peers:
        if peer.kind == "web" and peer.domain:
            name = re.sub(r"[^A-Z0-9]", "_", peer.name.upper())
            yield f"EASYRUNNER_SERVICE_{name}_DOMAIN", peer.domain
            yield f"EASYRUNNER_SERVICE_{name}_URL", peer.url


def _framework(service: ServiceIdentity) -> Iterator[tuple[str, str]]:
    """A framework takes its port from PORT; Next.js binds the name in HOSTNAME, by default not the loopback."""
    if service.kind == "web" and service.framework:
        yield "PORT", str(service.port)
        if service.framework == "nextjs":
            yield "HOSTNAME", "0.0.0.0"  # noqa: S104 - inside the container's own network
