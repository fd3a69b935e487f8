"""What a spec for these stacks should say: where each domain goes, its secrets, what it must reach. And what is asked.

`resolve` gives every request of the user its stack, service and port, or the questions that are left; `plans` are what
the spec then says of each stack, with all reasons.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from builder.compose import labels as own_labels
from builder.spec import outgoing, secret_env
from builder.spec.rules import near
from builder.stack import user
from builder.stack.model import Stack
from builder.starter import messages, secret_variables, web_service
from builder.starter.request import Request, check_domain, error, parse_port

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.compose.survey import ServiceFacts, Survey
    from builder.messages import Text
    from builder.stack.model import EgressRule
    from builder.starter.compose_files import StackFiles
    from builder.starter.secret_variables import ProposedSecret, SecretEnv
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
    if label is not None and request.domain not in _domains(label):
        raise error(messages.DOMAIN_LABEL, given=request.given, service=service.name, label=label)
    if request.port is None:
        port = web_service.port_of(service)
        return replace(request, port=port.number) if port.number else _ask_port(request, port, app, several=several)
    return request


def _domains(label: str) -> list[str]:
    return [name.strip() for name in label.split(",")]


def _labelled(app: App) -> bool:
    return any(own_labels.DOMAIN in service.labels for service in app.survey.services)


def _service_for(request: Request, app: App) -> str | None:
    """The service that the file itself gives this domain, else the one that is clearly the web's."""
    owners = [one.service for one in app.candidates if request.domain in one.hosts]
    best = web_service.clear(app.candidates)
    return owners[0] if len(owners) == 1 else best.service if best else None


def _target(app: App, service: str, port: int | None, *, several: bool) -> str:
    """As `--domain` takes it behind the `=`."""
    return shlex.quote(f"{f'{app.name}/' if several else ''}{service}:{port or 'PORT'}")


def _ask_service(request: Request, app: App, *, several: bool) -> Question:
    if not app.candidates:
        known = ", ".join(one.name for one in app.survey.services)
        raise error(messages.NO_CANDIDATE, stack=app.name, domain=request.domain, known=known)
    return _question(
        "service", messages.ASK_SERVICE, app.name, request, tuple(_choices(request, app, request.domain, several))
    )


def _choices(request: Request, app: App, domain: str, several: bool) -> Iterator[Choice]:
    for one in web_service.likely(app.candidates):
        known = request.port or one.port.number
        ports = (known,) if known else one.port.choices or (None,)
        for port in ports:
            target = _target(app, one.service, port, several=several)
            chosen = replace(request, stack=app.name, service=one.service, port=port)
            label = one.service if len(ports) == 1 else f"{one.service}:{port}"
            yield Choice(label, "; ".join(one.reasons), f"--domain {domain}={target}", chosen)


def _ask_domain(app: App, *, several: bool) -> Question:
    hosts = next((one.hosts[0] for one in app.candidates if one.hosts), "NAME")
    request = Request("", "", app.name)
    best = web_service.clear(app.candidates)
    choices = [
        one for one in _choices(request, app, hosts, several) if best is None or one.request.service == best.service
    ]
    return _question("domain", messages.ASK_DOMAIN, app.name, request, tuple(choices))


def _ask_port(request: Request, port: WebPort, app: App, *, several: bool) -> Question:
    text = messages.ASK_PORTS if port.choices else messages.ASK_PORT
    choices = [
        Choice(
            str(number) if number else "",
            "",
            f"--domain {request.domain}={_target(app, request.service or '', number, several=several)}",
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


# What a spec says of a stack.


@dataclass(frozen=True)
class Public:
    """A public service: its domains, and where it listens. What labels of the file say is not `written` again."""

    service: str
    domains: tuple[str, ...]
    port: int | None
    reasons: tuple[str, ...]
    port_reason: str
    written: dict[str, object]


@dataclass(frozen=True)
class Plan:
    """One stack of the spec, with all reasons. `env` are variables without a value that are no secrets."""

    app: App
    uid: int | None
    public: tuple[Public, ...]
    secret_env: SecretEnv
    secrets: tuple[ProposedSecret, ...]
    egress: tuple[EgressRule, ...]
    egress_for: dict[str, tuple[str, ...]]
    env: dict[str, bool]
    notes: tuple[str, ...]


def plans(apps: Sequence[App], requests: Sequence[Request]) -> tuple[Plan, ...]:
    """What the spec says of each stack; `requests` have their stacks, services and ports."""
    uids = _free_uids([app.name for app in apps])
    several = len(apps) > 1
    return tuple(
        _plan(app, [one for one in requests if one.stack == app.name], uids.get(app.name), several=several)
        for app in apps
    )


def _free_uids(names: Sequence[str]) -> dict[str, int]:
    """The uid to write for each stack whose name gives the uid of one before it."""
    taken = {user.uid(name) for name in names}
    seen: set[int] = set()
    written: dict[str, int] = {}
    for name in names:
        if user.uid(name) in seen:
            written[name] = user.free_uid(user.uid(name) + 1, taken)
            taken.add(written[name])
        seen.add(user.uid(name))
    return written


def _plan(app: App, requests: Sequence[Request], uid: int | None, *, several: bool) -> Plan:
    public = tuple(_public(app, requests))
    found = secret_variables.propose(app.survey)
    declared = secret_variables.declared(app.survey, {secret.name for secret in found.secrets})
    services = secret_env.added(app.survey.contents.services, found.section)
    missing = outgoing.missing(Stack(app.name, uid or user.uid(app.name), services))
    reach: dict[str, list[str]] = {}
    for one in missing:
        reach.setdefault(one.to, []).append(one.variable)
    filled = {name for secret in found.secrets for name in secret.variables}
    return Plan(
        app,
        uid,
        public,
        found,
        (*found.secrets, *declared),
        outgoing.rules_for(missing),
        {to: tuple(dict.fromkeys(names)) for to, names in reach.items()},
        {
            name: required
            for name, required in app.survey.unset.items()
            if name not in filled and not name.startswith("EASYRUNNER_")
        },
        tuple(_notes(app, public, several=several)),
    )


def _public(app: App, requests: Sequence[Request]) -> Iterator[Public]:
    by_service: dict[str, list[Request]] = {}
    for request in requests:
        by_service.setdefault(request.service or "", []).append(request)
    for service in app.survey.services:
        label = service.labels.get(own_labels.DOMAIN)
        asked = by_service.get(service.name, [])
        if not asked and label is None:
            continue
        port = web_service.port_of(service)
        number = next((one.port for one in asked if one.port), port.number)
        domains = tuple(one.domain for one in asked)
        written: dict[str, object] = {}
        if label is None:
            written["domains"] = list(domains)
        if port.why != messages.PORT_LABEL.format(label=own_labels.PORT) and number and asked:
            written["port"] = number
        yield Public(
            service.name,
            tuple(_domains(label)) if label is not None else domains,
            number,
            _reasons(app, service.name),
            port.why if number == port.number else messages.ASKED,
            written,
        )


def _reasons(app: App, service: str) -> tuple[str, ...]:
    found = app.candidates
    if [one.service for one in found] == [service]:
        return (messages.ONLY,)
    return next((one.reasons for one in found if one.service == service), ()) or (messages.ASKED,)


_TLS = (443, 8443)


def _notes(app: App, public: Sequence[Public], *, several: bool) -> Iterator[str]:
    yield from app.files.notes
    if app.files.override is not None:
        yield messages.OVERRIDE.format(path=app.files.override)
    if app.files.beside:
        yield messages.FILES_BESIDE.format(names=", ".join(app.files.beside))
    if app.files.example is not None:
        yield messages.ENV_EXAMPLE.format(name=app.files.example)
    for service in app.survey.services:
        if web_service.is_edge(service):
            yield messages.EDGE_UNNEEDED.format(service=service.name)
    for one in public:
        if one.port in _TLS:
            yield messages.PROTOCOL_TLS.format(port=one.port, service=one.service)
    if not public:
        yield messages.NOTHING_PUBLIC.format(target=_target(app, "SERVICE", None, several=several))
    yield from _also_publish(app, {one.service for one in public}, several=several)


def _also_publish(app: App, public: set[str], *, several: bool) -> Iterator[str]:
    for one in app.candidates:
        service = app.service(one.service)
        if one.published and one.service not in public and service is not None:
            target = _target(app, one.service, one.port.number, several=several)
            yield messages.ALSO_PUBLISHES.format(service=one.service, target=target)
