"""What the spec says of each stack, with all reasons: where its domains go, its secrets, what it must reach."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from builder.compose import labels as own_labels
from builder.oci import ecr
from builder.spec import outgoing, registries, secret_env
from builder.stack import user
from builder.stack.model import Stack
from builder.starter import messages, secret_variables, web_service
from builder.starter.questions import domains_of, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.stack.model import EgressRule
    from builder.starter.questions import App
    from builder.starter.request import Request
    from builder.starter.secret_variables import ProposedSecret, SecretEnv


@dataclass(frozen=True)
class Public:
    """A public service: its domains, or `paths` of them, and where it listens.

    What labels of the file say is not `written` again.
    """

    service: str
    domains: tuple[str, ...]
    paths: tuple[str, ...]
    port: int | None
    reasons: tuple[str, ...]
    port_reason: str
    written: dict[str, object]


@dataclass(frozen=True)
class Plan:
    """One stack of the spec, with all reasons. `env` are variables without a value that are no secrets.

    `by_role` are registries to which the server's role logs in.
    """

    app: App
    uid: int | None
    public: tuple[Public, ...]
    secret_env: SecretEnv
    secrets: tuple[ProposedSecret, ...]
    egress: tuple[EgressRule, ...]
    egress_for: dict[str, tuple[str, ...]]
    env: dict[str, bool]
    notes: tuple[str, ...]
    by_role: tuple[str, ...]


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
        (*_notes(app, public, several=several), *_login_notes(service.image for service in services)),
        tuple(dict.fromkeys(_by_role(service.image for service in services))),
    )


def _by_role(images: Iterable[str]) -> Iterator[str]:
    """The registries of Amazon ECR among those of these images, which are normalised."""
    for registry in (image.partition("/")[0] for image in images):
        if ecr.registry(registry):
            yield registry


def _login_notes(images: Iterable[str]) -> Iterator[str]:
    """Which images nobody fetches without a login, and which maybe not; what to write then."""
    listed = list(images)
    for registry in dict.fromkeys(image.partition("/")[0] for image in listed):
        found = registries.settings(registry)
        if ecr.registry(registry):
            yield messages.LOGIN_BY_ROLE.format(registry=registry)
        elif found:
            yield messages.LOGIN_NEEDED.format(registry=registry, settings=found[0])
    for image, registry, owner in registries.maybe_private(listed):
        yield messages.LOGIN_MAYBE.format(image=image, registry=registry, owner=owner)


def _public(app: App, requests: Sequence[Request]) -> Iterator[Public]:
    by_service: dict[str, list[Request]] = {}
    for request in requests:
        by_service.setdefault(request.service or "", []).append(request)
    for service in app.survey.services:
        label = service.labels.get(own_labels.DOMAIN)
        asked = by_service.get(service.name, [])
        port = web_service.port_of(service)
        number = next((one.port for one in asked if one.port), port.number)
        domains, paths = _by_path(app, service.name, requests) if label is None and number else ((), ())
        if asked:
            domains, paths = tuple(one.domain for one in asked), () if _is_told(asked) else paths
        if not domains and label is None:
            continue
        written: dict[str, object] = {}
        if label is None:
            written["domains"] = list(domains)
        if paths:
            written["path"] = paths[0] if len(paths) == 1 else list(paths)
        if paths and web_service.strips_path(service):
            written["strip_path"] = True
        if not port.is_label and number and domains:
            written["port"] = number
        yield Public(
            service.name,
            tuple(domains_of(label)) if label is not None else domains,
            paths,
            number,
            _reasons(app, service.name),
            port.why if number == port.number else messages.ASKED,
            written,
        )


def _by_path(app: App, service: str, requests: Sequence[Request]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The domains asked for of which the file gives a service one and the same paths, and these."""
    given = next((one.paths for one in app.candidates if one.service == service), {})
    found = [(one.domain, given[one.domain]) for one in requests if one.domain in given]
    return tuple(domain for domain, paths in found if paths == found[0][1]), found[0][1] if found else ()


def _is_told(asked: Sequence[Request]) -> bool:
    """Whether the user named the service, who then means the whole domain."""
    return any("=" in one.given for one in asked)


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
    if (names := app.survey.lookup("COMPOSE_FILE")) is not None and len(app.files.files) == 1:
        yield messages.FILES_IN_DOTENV.format(names=names)
    if app.files.example is not None:
        yield messages.ENV_EXAMPLE.format(name=app.files.example)
    for service in app.survey.services:
        if web_service.is_edge(service):
            yield messages.EDGE_UNNEEDED.format(service=service.name)
    for one in public:
        if one.port in _TLS:
            yield messages.PROTOCOL_TLS.format(port=one.port, service=one.service)
    if not public:
        yield messages.NOTHING_PUBLIC.format(target=target(app, "SERVICE", None, several=several))
    yield from _also_named(app, public, several=several)
    yield from _also_publish(app, {one.service for one in public}, several=several)


def _also_named(app: App, public: Sequence[Public], *, several: bool) -> Iterator[str]:
    """What is public by the labels or variables of a proxy, and is not here."""
    served = {domain for one in public for domain in one.domains}
    for one in app.candidates:
        host = next((host for host in one.hosts if host not in served), None)
        if host is not None and one.service not in {other.service for other in public}:
            place = target(app, one.service, one.port.number, several=several)
            yield messages.ALSO_NAMED.format(service=one.service, host=host, target=place)


def _also_publish(app: App, public: set[str], *, several: bool) -> Iterator[str]:
    for one in app.candidates:
        service = app.service(one.service)
        if one.published and one.service not in public and service is not None:
            place = target(app, one.service, one.port.number, several=several)
            yield messages.ALSO_PUBLISHES.format(service=one.service, target=place)
