"""The variables every service gets from EasyRunner. What the user sets under the same name wins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.stack.model import Kind, Service, Stack


class Identity(NamedTuple):
    """What a service is to the outside: enough to name it in variables."""

    name: str
    kind: Kind
    domain: str | None
    port: int
    framework: str | None = None


def identity(service: Service) -> Identity:
    """The identity of a complete service."""
    domain = service.domains[0] if service.domains else None
    return Identity(service.name, service.kind, domain, service.port, service.framework)


def of(stack: Stack, service: Service, server: str | None = None) -> dict[str, str]:
    """The injected variables of one service of a complete stack, without those the user sets."""
    peers = [identity(peer) for peer in stack.services]
    taken = {name for name, _ in service.environment}
    injected = variables(stack.name, identity(service), peers, server)
    return {name: value for name, value in injected.items() if name not in taken}


def variables(stack: str, service: Identity, peers: Iterable[Identity], server: str | None = None) -> dict[str, str]:
    """The injected variables of one service, in a fixed order."""
    return dict(
        [
            *_own(stack, service),
            *_addresses(peers),
            *([("EASYRUNNER_SERVER_NAME", server)] if server else []),
            *_framework(service),
        ]
    )


def _own(stack: str, service: Identity) -> Iterator[tuple[str, str]]:
    yield "EASYRUNNER_STACK", stack
    yield "EASYRUNNER_APP_NAME", stack
    yield "EASYRUNNER_SERVICE", service.name
    yield "EASYRUNNER_SERVICE_TYPE", service.kind
    if service.kind == "web" and service.domain:
        yield "EASYRUNNER_DOMAIN", service.domain
        yield "EASYRUNNER_APP_DOMAIN", service.domain
        yield "EASYRUNNER_APP_URL", f"https://{service.domain}"
        yield "EASYRUNNER_PORT", str(service.port)


def _addresses(peers: Iterable[Identity]) -> Iterator[tuple[str, str]]:
    """Where the stack's public services are, so that one can address another."""
    for peer in peers:
        if peer.kind == "web" and peer.domain:
            name = re.sub(r"[^A-Z0-9]", "_", peer.name.upper())
            yield f"EASYRUNNER_SERVICE_{name}_DOMAIN", peer.domain
            yield f"EASYRUNNER_SERVICE_{name}_URL", f"https://{peer.domain}"


def _framework(service: Identity) -> Iterator[tuple[str, str]]:
    """A framework takes its port from PORT; Next.js binds the name in HOSTNAME, by default not the loopback."""
    if service.kind == "web" and service.framework:
        yield "PORT", str(service.port)
        if service.framework == "nextjs":
            yield "HOSTNAME", "0.0.0.0"  # noqa: S104 - inside the container's own network
