"""`secret_env`: the variables of a stack's services whose values are secrets, which are set on the server.

A service's variable is Podman's secret SERVICE-VARIABLE unless the spec names another, which services may share. A text
with secrets in braces is made into SERVICE-VARIABLE on the host, when the service starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder.spec import messages
from builder.stack.secret_references import EnvSecret

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from builder.spec.document import Document
    from builder.stack.model import Service
    from builder.yamlfile.source import Loc

KEY: Final = "secret_env"


def variables(document: Document, stack: Loc) -> dict[str, tuple[str, ...]]:
    """The names of the variables by service, whatever else is wrong with the section."""
    found = {}
    for service in document.keys((*stack, KEY)):
        value = document.get((*stack, KEY, service))
        named = value if isinstance(value, list | dict) else (value,)
        found[service] = tuple(name for name in named if isinstance(name, str))
    return found


def check(document: Document, stack: Loc, services: Collection[Service]) -> None:
    """Every service is there, and what is made for one is asked of no other. `services` are those of the stack."""
    known = {service.name for service in services}
    for service in document.keys((*stack, KEY)):
        if service not in known:
            place = (*stack, KEY, service)
            document.report(
                messages.SECRET_SERVICE, place, on_key=True, name=service, known=", ".join(sorted(known)) or "none"
            )
    made = {one.name: service for service, one in _all(document, stack) if one.built is not None}
    for service, one in _all(document, stack):
        for name in one.sources:
            if name in made:
                place = (*stack, KEY, service, one.variable)
                document.report(messages.SECRET_BUILT, place, name=name, service=made[name])


def _all(document: Document, stack: Loc) -> Iterator[tuple[str, EnvSecret]]:
    for service, names in variables(document, stack).items():
        values = document.get((*stack, KEY, service))
        for name in names:
            source = values.get(name) if isinstance(values, dict) else ""
            if isinstance(source, str):
                yield service, _secret(service, name, source)


def added(services: Iterable[Service], section: Mapping[str, Mapping[str, str]]) -> tuple[Service, ...]:
    """The services with their secrets; `section` has by service and variable what the spec says, empty for nothing."""
    return tuple(
        replace(
            service,
            env_secrets=tuple(
                _secret(service.name, name, source) for name, source in section.get(service.name, {}).items()
            ),
        )
        for service in services
    )


def _secret(service: str, variable: str, source: str) -> EnvSecret:
    """A variable's name has no `-`, so the last one parts the two names, and no two defaults are the same."""
    default = f"{service}-{variable}"
    if "{" in source or "}" in source:
        return EnvSecret(variable, default, built=source)
    return EnvSecret(variable, source or default)
