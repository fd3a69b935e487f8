"""The stacks: their services, from a compose file or in short form, and what has to hold between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.spec import host_sections, messages, rules
from builder.spec.input_model import StackInput
from builder.stack import user
from builder.stack.model import Healthcheck, Limits, Mount, Secret, Service, Tmpfs, Volume
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

    from builder.compose import StackContents
    from builder.problems import Mark
    from builder.spec.document import Document
    from builder.spec.input_model import HealthcheckInput
    from builder.yamlfile.source import Loc


# What a stack with a compose file may say besides.
_COMMON: Final = ("name", "uid", "compose", "egress")


@dataclass(frozen=True)
class StackEntry:
    """What there is to know about one stack of the spec, whatever else is wrong with it."""

    index: int
    name: str
    image: str | None = None
    contents: StackContents | None = None

    @property
    def loc(self) -> Loc:
        """Its place in the spec."""
        return ("stacks", self.index)


def read_stacks(document: Document) -> tuple[StackEntry, ...]:
    """Look at every stack and at all of them together."""
    found = tuple(_read_entry(document, index) for index, _ in enumerate(document.items(("stacks",))))
    _check_names(document, found)
    _check_uids(document, found)
    _check_domains(document, found)
    return found


def _read_entry(document: Document, index: int) -> StackEntry:
    loc: Loc = ("stacks", index)
    name = document.text((*loc, "name")) or ""
    keys = set(document.keys(loc))
    if "compose" in keys:
        _check_keys(document, loc, keys)
        return StackEntry(index, name, contents=_read_compose(document, (*loc, "compose"), name))
    _check_short(document, loc, keys, name)
    return StackEntry(index, name, image=host_sections.image(document, (*loc, "image")))


def _check_keys(document: Document, loc: Loc, keys: set[str]) -> None:
    """A service of a compose file is described there, not here."""
    for key in document.keys(loc):
        if key == "image":
            document.report(messages.STACK_BOTH, (*loc, key), on_key=True)
        elif "image" not in keys and key in StackInput.model_fields and key not in _COMMON:
            values = {"name": key, "compose": document.text((*loc, "compose"))}
            document.report(messages.STACK_COMPOSE_KEY, (*loc, key), on_key=True, **values)


def _check_short(document: Document, loc: Loc, keys: set[str], name: str) -> None:
    if not isinstance(document.get(loc), dict):
        return
    if "image" not in keys:
        document.report(messages.STACK_NEITHER, loc, name=name or "app")
    elif {"domain", "domains"} <= keys:
        document.report(messages.DOMAIN_AND_DOMAINS, (*loc, "domain"), on_key=True)
    elif not {"domain", "domains"} & keys:
        document.report(messages.STACK_DOMAIN, loc, name=name or "app")
    values = document.get((*loc, "environment"))
    for key, value in values.items() if isinstance(values, dict) else ():
        if rules.looks_secret(key, str(value)):
            document.report(messages.ENV_SECRET, (*loc, "environment", key), on_key=True)


def _check_names(document: Document, found: tuple[StackEntry, ...]) -> None:
    first: dict[str, Mark] = {}
    for stack in found:
        place = (*stack.loc, "name")
        if stack.name in first:
            document.report(messages.STACK_TWICE, place, name=stack.name, line=first[stack.name].line)
        elif stack.name:
            first[stack.name] = document.mark(place)


def _check_uids(document: Document, found: tuple[StackEntry, ...]) -> None:
    """Explicit uids come first: they are somebody's decision, a name's uid can give way."""
    names = {stack.name: stack for stack in reversed(found) if stack.name}
    explicit = {stack.index: _explicit(document, stack) for stack in names.values()}
    taken: dict[int, StackEntry] = {}
    reserved = {uid for uid in explicit.values() if uid} | {user.uid(name) for name in names}
    for stack in sorted(names.values(), key=lambda stack: (explicit[stack.index] is None, stack.index)):
        uid = explicit[stack.index] or user.uid(stack.name)
        other = taken.setdefault(uid, stack)
        if other is stack:
            continue
        free = user.free_uid(uid + 1, reserved)
        reserved.add(free)
        text = messages.UID_TAKEN if explicit[other.index] else messages.UID_COLLISION
        place = (*stack.loc, "uid" if explicit[stack.index] else "name")
        document.report(text, place, uid=uid, name=stack.name, other=other.name, free=free)


def _explicit(document: Document, stack: StackEntry) -> int | None:
    uid = document.get((*stack.loc, "uid"))
    return uid if type(uid) is int and user.in_range(uid) else None


def _check_domains(document: Document, found: tuple[StackEntry, ...]) -> None:
    first: dict[str, Mark] = {}
    for domain, where, mark in (entry for stack in found for entry in _domains(document, stack)):
        if domain in first:
            place = f"{first[domain].file}:{first[domain].line}"
            messages.DOMAIN_TWICE.add_to(document.problems, where, mark, domain=domain, place=place)
        else:
            first[domain] = mark
    for domain in document.keys(("fail2ban", "allow")):
        if first and domain not in first:
            document.report(
                messages.ALLOW_DOMAIN, ("fail2ban", "allow", domain), on_key=True, domain=domain, known=", ".join(first)
            )


def _domains(document: Document, stack: StackEntry) -> Iterator[tuple[str, str, Mark]]:
    """Every public name of a stack, with its place."""
    for loc in ((*stack.loc, "domain"), *document.items((*stack.loc, "domains"))):
        domain = document.text(loc)
        if domain and not stack.contents:
            host_sections.check_domain(document, domain, dotted(loc), document.mark(loc))
            yield domain, dotted(loc), document.mark(loc)
    for service in stack.contents.services if stack.contents else ():
        where = dotted((*stack.loc, "services", service.name))
        for domain in service.domains:
            mark = service.mark or document.mark((*stack.loc, "compose"))
            host_sections.check_domain(document, domain, where, mark)
            yield domain, where, mark


# The one service of such a stack.
SERVICE: Final = "web"


def short_service(given: StackInput, image: str, mark: Mark) -> Service:
    """The stack's only service. `image` is the normalised one."""
    return Service(
        name=SERVICE,
        image=image,
        kind="web",
        domains=tuple(given.domains or ([given.domain] if given.domain else [])),
        port=given.port,
        hardening=given.hardening,
        command=tuple(given.command) if given.command else None,
        environment=tuple(given.environment.items()),
        mounts=tuple(_mount(text) for text in given.volumes),
        tmpfs=tuple(_tmpfs(text) for text in given.tmpfs),
        healthcheck=_healthcheck(given.healthcheck),
        cap_add=tuple(given.cap_add),
        read_only=given.read_only,
        secrets=tuple(Secret(name) for name in given.secrets),
        limits=Limits(_number(given.memory), given.cpus, given.pids),
        max_body=_number(given.max_body),
        response_timeout=_number(given.response_timeout),
        mark=mark,
    )


def short_volumes(given: StackInput) -> tuple[Volume, ...]:
    """The volumes it names, each once."""
    return tuple(Volume(name) for name in dict.fromkeys(text.partition(":")[0] for text in given.volumes))


def _mount(text: str) -> Mount:
    source, target, *mode = text.split(":")
    return Mount("volume", source, target, read_only=mode == ["ro"])


def _tmpfs(text: str) -> Tmpfs:
    target, _, options = text.partition(":")
    return Tmpfs(target, tuple(options.split(",")) if options else ())


def _healthcheck(given: HealthcheckInput | None) -> Healthcheck | None:
    if given is None:
        return None
    shell = given.test[0] == "CMD-SHELL"
    return Healthcheck(
        test=tuple(given.test[1:] if given.test[0] in ("CMD", "CMD-SHELL") else given.test),
        shell=shell,
        interval=_number(given.interval),
        timeout=_number(given.timeout),
        retries=given.retries,
        start_period=_number(given.start_period),
    )


def _number(value: Any) -> Any:
    """A value whose rule made a number of it: pydantic's annotation still says text."""
    return value


_USUAL: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


def _read_compose(document: Document, loc: Loc, stack: str) -> StackContents | None:
    """The services of the compose file named at a place; None with the reasons in the report."""
    name = document.text(loc)
    if name is None or not _exists(document, loc, name):
        return None
    from builder import compose  # noqa: PLC0415 - specs without compose files start faster

    return compose.load(document.base / name, stack=stack, report=document.problems)


def _exists(document: Document, loc: Loc, name: str) -> bool:
    path, found = document.base / name, None
    try:
        if path.is_file():
            return True
        if path.is_dir():
            example = f"{name.rstrip('/')}/{_nearby(path) or _USUAL[0]}"
            document.report(messages.COMPOSE_DIRECTORY, loc, path=name, example=example)
            return False
        found = _nearby(path.parent)
    except (OSError, ValueError):
        pass
    if found:
        near = (path.parent / found).relative_to(document.base) if name[:1] != "/" else path.parent / found
        document.report(messages.COMPOSE_MISSING_NEAR, loc, path=name, near=near)
    else:
        document.report(messages.COMPOSE_MISSING, loc, path=name)
    return False


def _nearby(directory: Path) -> str | None:
    return next((name for name in _USUAL if (directory / name).is_file()), None)
