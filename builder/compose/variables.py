"""EasyRunner's own variables, for `${…}` in a compose file: they depend on labels, which are read ahead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from builder import injected
from builder.compose import labels
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.injected import Identity

if TYPE_CHECKING:
    from builder.stack.model import Kind


def injected_for(
    data: Any, stack: str, server: str | None, environment: dict[str, str]
) -> dict[str | None, dict[str, str]]:
    """The variables of each service by its name, and under None those that are the same for all."""
    services = data.get("services") if isinstance(data, dict) else None
    named = services.items() if isinstance(services, dict) else ()
    peers = [_identity(name, _labels(service, environment)) for name, service in named]
    shared = {"EASYRUNNER_STACK": stack, "EASYRUNNER_APP_NAME": stack, "COMPOSE_PROJECT_NAME": stack}
    if server:
        shared["EASYRUNNER_SERVER_NAME"] = server
    known: dict[str | None, dict[str, str]] = {None: shared}
    for peer in peers:
        # The framework adds PORT and the like to the container, not to the file.
        known[peer.name] = injected.variables(stack, peer._replace(framework=None), peers, server)
    return known


def _identity(name: str, found: dict[str, str]) -> Identity:
    kind = labels.kind_of(found)
    domain = found.get(labels.DOMAIN, "").split(",")[0].strip() or None
    port = found.get(labels.PORT, "3000")
    return Identity(
        name,
        cast("Kind", kind) if kind in ("web", "internal", "worker") else "internal",
        domain,
        int(port) if port.isdigit() else 3000,
    )


def _labels(service: Any, environment: dict[str, str]) -> dict[str, str]:
    """The labels of a service, roughly: what is wrong with them is said later."""
    raw = service.get("labels") if isinstance(service, dict) else None
    if isinstance(raw, list):
        raw = dict(str(item).partition("=")[::2] for item in raw)
    found = (
        {} if not isinstance(raw, dict) else {str(key): _fill(str(value), environment) for key, value in raw.items()}
    )
    for old, new in labels.ALIASES.items():
        if old in found:
            found.setdefault(new, found[old])
    return found


def _fill(text: str, environment: dict[str, str]) -> str:
    try:
        return Expansion(environment.get).expand(text)
    except (FormatError, RequiredError):
        return ""
