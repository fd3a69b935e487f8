"""Where each domain goes: every request of the user gets its stack, service and port, or the question in its way.

`resolve` is asked again with each answer, until no question is left.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from builder.compose import labels as own_labels
from builder.spec.rules import near
from builder.starter import messages, web_service
from builder.starter.request import Request, check_domain, error, parse_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.compose.survey import ServiceFacts, Survey
    from builder.messages import Text
    from builder.starter.compose_files import StackFiles
    from builder.starter.web_service import Candidate, WebPort


@dataclass(frozen=True)
class App:
    """A stack to be: its name, its files, and what they say."""

    name: str
    files: StackFiles
    survey: Survey

    @property
    def directory(self) -> str:
        """The name of the directory of its first file."""
        return self.files.files[0].resolve().parent.name

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        """The services that can be the web's, the likeliest first."""
        return web_service.candidates(self.survey, self.name)

    def service(self, name: str) -> ServiceFacts | None:
        """One of its services."""
        return next((one for one in self.survey.services if one.name == name), None)


class Choice(NamedTuple):
    """One answer to a question: what it is called, why it may be right, and the `--domain` that says the same."""

    label: str
    why: str
    option: str
    request: Request


@dataclass(frozen=True)
class Question:
    """What is not clear. The first choice is the likeliest; what has no choices is answered by a text."""

    kind: Literal["domain", "stack", "service", "port"]
    text: str
    stack: str
    request: Request
    choices: tuple[Choice, ...] = ()

    @property
    def ways(self) -> tuple[str, ...]:
        """What to type instead of an answer, each with its reason."""
        return tuple(f"{one.option}{f'   # {one.why}' if one.why else ''}" for one in self.choices)


def resolve(apps: Sequence[App], requests: Sequence[Request], without: Iterable[str] = ()) -> list[Request | Question]:
    """Each request with its stack, service and port, or the question that is first in its way.

    `without` are stacks that are to have no domain. Raises UserError for what cannot be asked for.
    """
    found: list[Request | Question] = [_with_stack(request, apps) for request in requests]
    asked = {request.stack for request in found if isinstance(request, Request)}
    for index, request in enumerate(found):
        if isinstance(request, Request):
            app = next(app for app in apps if app.name == request.stack)
            found[index] = _in_stack(request, app, several=len(apps) > 1)
    silent = [app for app in apps if app.name not in asked and app.name not in without]
    found += [
        _ask_domain(app, several=len(apps) > 1)
        for app in silent
        if web_service.looks_public(app.candidates) and not _labelled(app)
    ]
    _check_ports(found)
    return found


def _with_stack(request: Request, apps: Sequence[App]) -> Request | Question:
    names = [app.name for app in apps]
    if request.stack in names:
        return request
    named = [app.name for app in apps if app.directory == request.stack]
    if request.stack is not None and len(named) == 1:
        return replace(request, stack=named[0])
    if request.stack is not None:
        raise error(messages.DOMAIN_STACK, given=request.given, stack=request.stack, known=", ".join(names))
    owners = [app.name for app in apps if any(request.domain in one.hosts for one in app.candidates)]
    if len(apps) == 1 or len(owners) == 1:
        return replace(request, stack=(owners or names)[0])
    choices = tuple(
        Choice(name, "", f"--domain {request.domain}={name}", replace(request, stack=name)) for name in names
    )
    return _question("stack", messages.ASK_STACK, "", request, choices)


def _question(
    kind: Literal["domain", "stack", "service", "port"],
    text: Text,
    stack: str,
    request: Request,
    choices: tuple[Choice, ...],
    **values: object,
) -> Question:
    message = text.message.format(stack=stack, domain=request.domain, **values)
    return Question(kind, message, stack, request, choices)


def _in_stack(request: Request, app: App, *, several: bool) -> Request | Question:
    if request.service is None:
        found = _service_for(request, app)
        if found is None:
            return _ask_service(request, app, several=several)
        request = replace(request, service=found)
    service = app.service(request.service or "")
    if service is None:
        known = ", ".join(one.name for one in app.survey.services)
        meant = near(request.service or "", [one.name for one in app.survey.services])
        raise error(
            messages.DOMAIN_SERVICE,
            given=request.given,
            service=request.service,
            compose=" and ".join(str(path) for path in app.files.all),
            known=f"{meant}? all are: {known}" if meant else known,
        )
    label = service.labels.get(own_labels.DOMAIN)
    if label is not None and request.domain not in domains_of(label):
        raise error(messages.DOMAIN_LABEL, given=request.given, service=service.name, label=label)
    port = web_service.port_of(service)
    if request.port not in (None, port.number) and port.is_label:
        raise error(
            messages.DOMAIN_PORT_LABEL, given=request.given, service=service.name, label=port.number, port=request.port
        )
    if request.port is None:
        return replace(request, port=port.number) if port.number else _ask_port(request, port, app, several=several)
    return request


def domains_of(label: str) -> list[str]:
    """The domains that a label of EasyRunner has."""
    return [name.strip() for name in label.split(",")]


def _labelled(app: App) -> bool:
    return any(own_labels.DOMAIN in service.labels for service in app.survey.services)


def _service_for(request: Request, app: App) -> str | None:
    """The service that the file itself gives this domain, else the one that is clearly the web's."""
    owners = _owners(request.domain, app)
    whole = [one for one in owners if request.domain not in one.paths] or owners
    best = None if owners else web_service.clear(app.candidates)
    return whole[0].service if len(whole) == 1 else best.service if best else None


def _owners(domain: str, app: App) -> list[Candidate]:
    """The services to which the file gives this domain, or a path of it."""
    return [one for one in app.candidates if domain in one.hosts]


def target(app: App, service: str, port: int | None, *, several: bool) -> str:
    """As `--domain` takes it behind the `=`."""
    return shlex.quote(f"{f'{app.name}/' if several else ''}{service}:{port or 'PORT'}")


def _ask_service(request: Request, app: App, *, several: bool) -> Question:
    if not app.survey.services:
        raise error(messages.NOTHING_STARTED, stack=app.name)
    if not app.candidates:
        known = ", ".join(one.name for one in app.survey.services)
        raise error(messages.NO_CANDIDATE, stack=app.name, domain=request.domain, known=known)
    return _question("service", messages.ASK_SERVICE, app.name, request, tuple(_choices(request, app, several)))


def _choices(request: Request, app: App, several: bool) -> Iterator[Choice]:
    for one in _owners(request.domain, app) or web_service.likely(app.candidates):
        domain = request.domain or next(iter(one.hosts), "NAME")
        known = request.port or one.port.number
        ports = (known,) if known else one.port.choices or (None,)
        for port in ports:
            place = target(app, one.service, port, several=several)
            chosen = replace(request, stack=app.name, service=one.service, port=port)
            label = one.service if len(ports) == 1 else f"{one.service}:{port}"
            yield Choice(label, "; ".join(one.reasons), f"--domain {domain}={place}", chosen)


def _ask_domain(app: App, *, several: bool) -> Question:
    request = Request("", "", app.name)
    best = web_service.clear(app.candidates)
    choices = [one for one in _choices(request, app, several) if best is None or one.request.service == best.service]
    return _question("domain", messages.ASK_DOMAIN, app.name, request, tuple(choices))


def _ask_port(request: Request, port: WebPort, app: App, *, several: bool) -> Question:
    text = messages.ASK_PORTS if port.choices else messages.ASK_PORT
    choices = [
        Choice(
            str(number) if number else "",
            "",
            f"--domain {request.domain}={target(app, request.service or '', number, several=several)}",
            replace(request, port=number),
        )
        for number in port.choices or (None,)
    ]
    return _question("port", text, app.name, request, tuple(choices), service=request.service)


def _check_ports(found: Iterable[Request | Question]) -> None:
    ports: dict[tuple[str | None, str | None], set[int]] = defaultdict(set)
    for one in found:
        if isinstance(one, Request) and one.port is not None:
            ports[one.stack, one.service].add(one.port)
    for (_, service), numbers in ports.items():
        if len(numbers) > 1:
            raise error(messages.DOMAIN_PORTS, service=service, ports=" and ".join(map(str, sorted(numbers))))


def answered(question: Question, text: str) -> Request | str:
    """The request that an answer makes of a question; or, for one that is none, what an answer is."""
    if question.kind == "domain":
        check_domain(text, text)
        return replace(question.request, domain=text, given=text)
    if question.kind == "port":
        return _answered_port(question, text)
    number = parse_port(text or "1")
    by_name = next((one.request for one in question.choices if one.label == text), None)
    if by_name is not None:
        return by_name
    if number is None or number > len(question.choices):
        return messages.ANSWER_NUMBER.format(most=len(question.choices))
    return question.choices[number - 1].request


def _answered_port(question: Question, text: str) -> Request | str:
    first = question.choices[0].request.port
    port = parse_port(text) if text else first
    return messages.ANSWER_PORT if port is None else replace(question.request, port=port)
