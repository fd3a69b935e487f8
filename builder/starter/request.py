"""What the user asks for with `--domain NAME[=[STACK/]SERVICE[:PORT]]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.problems import UserError
from builder.stack import domains
from builder.starter import messages

if TYPE_CHECKING:
    from builder.messages import Text


@dataclass(frozen=True)
class Request:
    """One domain, and where it goes; None is what nobody has said yet. `given` is what the user wrote."""

    domain: str
    given: str
    stack: str | None = None
    service: str | None = None
    port: int | None = None


def error(text: Text, **values: object) -> UserError:
    """A text as the end of the command."""
    return UserError(text.message.format(**values), text.hint and text.hint.format(**values))


def parse(given: str, *, stacks: bool) -> Request:
    """One value of `--domain`; with `stacks` a single word after `=` is a stack's, else a service's.

    Raises UserError.
    """
    domain, equals, target = given.partition("=")
    check_domain(domain, given)
    if not equals:
        return Request(domain, given)
    stack, slash, service = target.rpartition("/")
    if not slash and stacks:
        stack, service = service, ""
    name, colon, port = (service or stack).partition(":")
    if not name or (slash and not (stack and service)):
        raise error(messages.DOMAIN_TARGET, given=given, target=target)
    number = parse_port(port) if colon else None
    if colon and number is None:
        raise error(messages.DOMAIN_PORT, given=given)
    if service:
        return Request(domain, given, stack or None, name, number)
    return Request(domain, given, name, None, number)


def check_domain(domain: str, given: str) -> None:
    """Raise the UserError for a name that no public service can have."""
    fault = domains.find_fault(domain)
    if fault is not None:
        text, values = fault
        hint = text.hint.format(**values) if text.hint else "as in --domain example.com=web"
        raise error(messages.DOMAIN_FORM, given=given, fault=text.message.format(**values), hint=hint)


def parse_port(text: str) -> int | None:
    """A port in decimal digits; None for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= 65535 else None


def check_twice(requests: list[Request]) -> None:
    """Raise the UserError for a domain that is asked for twice."""
    names = [request.domain for request in requests]
    for name in names:
        if names.count(name) > 1:
            raise error(messages.DOMAIN_TWICE, domain=name)
