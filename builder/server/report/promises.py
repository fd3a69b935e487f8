"""What a host promises: by its spec where that is given, else as far as the host itself says it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.spec import Spec
    from builder.stack.model import Stack


@dataclass(frozen=True, slots=True)
class Promises:
    """`domains` have their stack; `ca` is the spec's, empty where it is unknown; so with `backup_at`.

    `out` says in words what each stack may reach. `edge` is `only` where nobody else may ask for a site, `too` where
    visitors come by an edge or straight, and empty without one.
    """

    domains: dict[str, str]
    stacks: tuple[str, ...]
    ca: str = ""
    jails: tuple[str, ...] = ("recidive", "sshd")
    backup_at: str = ""
    out: Mapping[str, str] = field(default_factory=dict)
    edge: str = ""


_WEB_JAILS = ("web-flood", "web-scan")


def of_host(found: dict[str, Any]) -> Promises:
    """Of the facts of a host whose spec is not at hand."""
    domains = {domain: stack for stack, names in found["domains"].items() for domain in names if "*" not in domain}
    stacks = tuple(one["stack"] for one in found["users"] if one["stack"] != "proxy")
    return Promises(domains, stacks, edge=found["edge"])


def of_spec(spec: Spec) -> Promises:
    """Of a spec."""
    return Promises(
        {domain: stack.name for stack in spec.stacks for domain in stack.domains},
        tuple(stack.name for stack in spec.stacks),
        spec.tls.ca,
        ("recidive", "sshd", *(f"er-{jail}" for jail in _WEB_JAILS if jail not in spec.fail2ban.disable)),
        spec.backup.at if spec.backup else "",
        {stack.name: ", ".join(_out(stack)) for stack in spec.stacks},
        "" if spec.proxy.edge is None else "only" if spec.proxy.edge.only else "too",
    )


def _out(stack: Stack) -> Iterator[str]:
    if stack.no_egress:
        yield "nothing"
        return
    yield "DNS, HTTP, HTTPS"
    for rule in stack.egress:
        yield f"{rule.to} {rule.protocol} {', '.join(map(str, rule.ports)) or 'all ports'}"


def of_stack(promises: Promises, stack: str) -> Promises:
    """What concerns one stack."""
    domains = {domain: whose for domain, whose in promises.domains.items() if whose == stack}
    return replace(promises, domains=domains, stacks=tuple(one for one in promises.stacks if one == stack))
