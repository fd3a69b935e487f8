"""The entries of `stacks`: each from a Compose file or in short form, what has to hold between them, and their stacks.

`read_stacks` reads and checks every entry, whatever else is wrong with the spec; `stacks` makes the values of a spec in
which nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.messages import (
    BUILD_CONTEXT,
    BUILD_FILE_MISSING,
    BUILD_NO_FILE,
    BUILD_REMOTE,
    IMAGE_CAPABILITIES,
    IMAGE_READ_ONLY,
    IMAGE_RUNS_FROM_TMP,
    IMAGE_STRICT,
)
from builder.oci import containerfile, known_images
from builder.spec import backup_rules, host_sections, messages, outgoing, public_names, rules, secret_env, uids
from builder.spec.fleet_rules import SHORT_NAME
from builder.spec.stack_input import PublicInput, StackInput
from builder.stack import names, public, sleeping, user
from builder.stack.model import Build, EgressRule, Healthcheck, Limits, Mount, Service, Stack, Tmpfs, Volume
from builder.stack.secret_references import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from builder.compose import StackContents
    from builder.problems import Mark
    from builder.spec.document import Document
    from builder.spec.stack_input import EgressInput, HealthcheckInput, ServedInput
    from builder.yamlfile.source import Loc


@dataclass(frozen=True)
class StackEntry:
    """One entry of `stacks`: its name, and its image, what that is built from, or the contents of its Compose file."""

    index: int
    name: str
    image: str | None = None
    build: Build | None = None
    contents: StackContents | None = None

    @property
    def loc(self) -> Loc:
        """Its place in the spec, as in ("stacks", 0)."""
        return ("stacks", self.index)


def read_stacks(document: Document) -> tuple[StackEntry, ...]:
    """Read every entry, and check all of them together. Problems go to the document's report."""
    entries = tuple(_read_entry(document, index) for index, _ in enumerate(document.items(("stacks",))))
    _check_names(document, entries)
    uids.check(document, entries)
    public_names.check(document, ((entry.loc, entry.contents) for entry in entries))
    return entries


def _read_entry(document: Document, index: int) -> StackEntry:
    loc: Loc = ("stacks", index)
    name = document.text((*loc, "name")) or ""
    keys = set(document.keys(loc))
    if "compose" in keys:
        _check_compose_entry(document, loc, keys)
        contents = _read_compose(document, (*loc, "compose"), name)
        if contents is not None:
            secret_env.check(document, loc, contents.services)
            backup_rules.check_stack(document, loc, contents.services)
        return StackEntry(index, name, contents=contents)
    _check_short_entry(document, loc, keys, name)
    secret_env.check(document, loc, (Service(SHORT_NAME, ""),))
    if "build" in keys:
        backup_rules.check_stack(document, loc, (Service(SHORT_NAME, ""),))
        return StackEntry(index, name, image=names.own_image(name, SHORT_NAME), build=_read_build(document, loc))
    image = host_sections.image(document, (*loc, "image"))
    backup_rules.check_stack(document, loc, (Service(SHORT_NAME, image or ""),))
    _check_capabilities(document, loc, image)
    return StackEntry(index, name, image=image)


def _read_build(document: Document, loc: Loc) -> Build | None:
    """Where the image is built from, None with the reason in the report; `_built` adds what its keys say."""
    place: Loc = (*loc, "build") if document.text((*loc, "build")) is not None else (*loc, "build", "context")
    name = document.text(place)
    if name is None:
        return None  # no text: that is said by its type
    if "://" in name or name.startswith("git@"):
        document.report(BUILD_REMOTE, place, context=name)
        return None
    context, written = document.base / name, document.text((*loc, "build", "containerfile"))
    if not _is_directory(context):
        document.report(BUILD_CONTEXT, place, context=name)
        return None
    if written is None:
        found = containerfile.find(context)
        if found is None:
            path = f"{name.rstrip('/')}/{containerfile.NAMES[0]}"
            document.report(BUILD_NO_FILE, place, context=name, path=path)
        return Build(context, found) if found else None
    if not (context / written).is_file():
        document.report(BUILD_FILE_MISSING, (*loc, "build", "containerfile"), context=name, path=written)
        return None
    return Build(context, containerfile.path_in(context, context / written))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _check_capabilities(document: Document, loc: Loc, image: str | None) -> None:
    """Say which capabilities a well-known image lacks."""
    hardening, added = document.text((*loc, "hardening")) or "standard", list(document.items((*loc, "cap_add")))
    names = [(document.text(place) or "").upper().removeprefix("CAP_") for place in added]
    if image and (lacking := known_images.lacking(image, hardening, None, names, ())):
        name, text = document.text((*loc, "name")), IMAGE_STRICT if hardening == "strict" else IMAGE_CAPABILITIES
        document.report(text, (*loc, "image"), capabilities=", ".join(lacking), service=name)


# What a stack with a Compose file may say besides.
_SHORT_KEYS: Final = frozenset({"image", "build"})
_COMPOSE_KEYS: Final = (
    "name", "uid", "compose", "public", "egress", "build_egress", "secret_env",
    "registries", "deploy", "backup", "update", "local_cache", "sleep",
)  # fmt: skip


def _check_compose_entry(document: Document, loc: Loc, keys: set[str]) -> None:
    """Refuse what belongs into the Compose file, at its services."""
    for key in document.keys(loc):
        if key in _SHORT_KEYS:
            document.report(messages.STACK_BOTH, (*loc, key), on_key=True, one="compose", other=key)
        elif keys & _SHORT_KEYS or key not in StackInput.model_fields or key in _COMPOSE_KEYS:
            continue
        elif key == "domain" or key in PublicInput.model_fields:
            public_key = "domains" if key == "domain" else key
            document.report(messages.STACK_COMPOSE_PUBLIC, (*loc, key), on_key=True, name=key, key=public_key)
        else:
            files = [document.text(place) for place in _compose_places(document, (*loc, "compose"))]
            document.report(messages.STACK_COMPOSE_KEY, (*loc, key), on_key=True, name=key, compose=files[0])


def _compose_places(document: Document, loc: Loc) -> tuple[Loc, ...]:
    """The places of the names of Compose files: of the only one, or of each in a list."""
    return tuple(document.items(loc)) or (loc,)


def _read_compose(document: Document, loc: Loc, stack: str) -> StackContents | None:
    """The contents of the Compose files named at a place; None with the reasons in the report."""
    named = [(place, document.text(place)) for place in _compose_places(document, loc)]
    found = [document.base / name for place, name in named if name is not None and _exists(document, place, name)]
    if len(found) < len(named):
        return None
    from builder import compose  # noqa: PLC0415 - specs without compose files start faster

    public: Loc = (*loc[:-1], "public")
    return compose.load(
        found[0],
        over=(*found[1:], *_override(document, loc, found[0])),
        stack=stack,
        report=document.problems,
        public=(document.source, public) if document.get(public) else None,
        secret_env=secret_env.variables(document, loc[:-1]),
    )


def _override(document: Document, loc: Loc, path: Path) -> tuple[Path, ...]:
    """The file that docker compose takes by itself, when one file with a usual name is asked for."""
    from builder import compose  # noqa: PLC0415

    name = document.text(loc)
    other = None if name is None else compose.override(path)
    if other is None:
        return ()
    document.report(messages.COMPOSE_OVERRIDE, loc, path=other, compose=name)
    return (other,)


def _exists(document: Document, loc: Loc, name: str) -> bool:
    path, found = document.base / name, None
    try:
        if path.is_file():
            return True
        if path.is_dir():
            example = f"{name.rstrip('/')}/{_nearby(path) or 'compose.yaml'}"
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
    from builder import compose  # noqa: PLC0415

    return next((name for name in compose.NAMES if (directory / name).is_file()), None)


def _check_short_entry(document: Document, loc: Loc, keys: set[str], name: str) -> None:
    if not isinstance(document.get(loc), dict):
        return
    if "public" in keys:
        document.report(messages.STACK_PUBLIC, (*loc, "public"), on_key=True)
    if not keys & _SHORT_KEYS:
        document.report(messages.STACK_NEITHER, loc, name=name or "app")
    elif keys >= _SHORT_KEYS:
        document.report(messages.STACK_BOTH, (*loc, "build"), on_key=True, one="image", other="build")
    elif {"domain", "domains"} <= keys:
        document.report(messages.DOMAIN_AND_DOMAINS, (*loc, "domain"), on_key=True)
    elif not {"domain", "domains"} & keys:
        document.report(messages.STACK_DOMAIN, loc, name=name or "app")
    values = document.get((*loc, "environment"))
    secrets = secret_env.variables(document, loc).get(SHORT_NAME, ())
    for key, value in values.items() if isinstance(values, dict) else ():
        if key in secrets:
            document.report(messages.SECRET_ENV_TWICE, (*loc, "environment", key), on_key=True, name=key)
        elif rules.looks_secret(key, str(value)):
            document.report(messages.ENV_SECRET, (*loc, "environment", key), on_key=True, name=key)


def _check_names(document: Document, entries: tuple[StackEntry, ...]) -> None:
    first: dict[str, Mark] = {}
    for stack in entries:
        place = (*stack.loc, "name")
        if stack.name in first:
            document.report(messages.STACK_TWICE, place, name=stack.name, line=first[stack.name].line)
        elif stack.name:
            first[stack.name] = document.mark(place)


def stacks(document: Document, inputs: Iterable[StackInput], entries: Iterable[StackEntry]) -> tuple[Stack, ...]:
    """The stacks of a spec in which nothing is wrong; `inputs` and `entries` are in the order of the file."""
    made = tuple(_stack(document, one, entry) for one, entry in zip(inputs, entries, strict=True))
    for stack, entry in zip(made, entries, strict=True):
        outgoing.check(document, stack, entry.loc)
        if not entry.contents:
            _check_image(document, stack.services[0], (*entry.loc, "image"))
            if fault := public.listen_conflict(stack.services[0]):
                text, values = fault
                document.report(text, (*entry.loc, "listen"), on_key=False, **values)
    return made


def _check_image(document: Document, service: Service, place: Loc) -> None:
    """Say what a well-known image of a stack in short form needs and does not have."""
    if known_images.runs_from_tmp(service.image) and not service.tmp_executes:
        document.report(IMAGE_RUNS_FROM_TMP, place, service="the stack")
    if paths := known_images.not_writable(service.image, service.hardening, service.targets):
        document.report(IMAGE_READ_ONLY, place, service="the stack", paths=", ".join(paths))


def _stack(document: Document, stack_input: StackInput, entry: StackEntry) -> Stack:
    uid = stack_input.uid or user.uid(stack_input.name)
    mark, found = document.mark(entry.loc), entry.contents
    services = _with_public(found.services, stack_input) if found else (_short_service(stack_input, entry, mark),)
    return Stack(
        stack_input.name,
        uid,
        _without_spec(_cached(secret_env.added(services, stack_input.secret_env), stack_input.local_cache), mark.file),
        found.volumes if found else _short_volumes(stack_input),
        found.networks if found else (),
        found.files if found else (),
        egress=_egress(stack_input.egress),
        no_egress=stack_input.egress == [],
        build_egress=_egress(stack_input.build_egress),
        no_build_egress=stack_input.build_egress == [],
        backup=backup_rules.of_stack(stack_input.backup),
        update=stack_input.update.value if stack_input.update else None,
        mark=mark,
    )


def _without_spec(services: Iterable[Service], spec: Path) -> tuple[Service, ...]:
    """No image has the spec in it, which lies beside the Containerfile of who has one app: a site would serve it."""
    return tuple(
        replace(one, build=replace(one.build, never=(*one.build.never, spec))) if one.build else one for one in services
    )


def _cached(services: Iterable[Service], said: bool | list[str]) -> Iterable[Service]:
    """The services with what the spec says of what they store."""
    named = said if isinstance(said, list) else []
    return (replace(one, local_cache=True) if said is True or one.name in named else one for one in services)


def _egress(rules: Iterable[EgressInput] | None) -> tuple[EgressRule, ...]:
    return tuple(EgressRule(rule.to, rule.protocol, tuple(rule.ports)) for rule in rules or ())


def _with_public(services: Iterable[Service], stack_input: StackInput) -> tuple[Service, ...]:
    """The services of Compose files with what only `public` says of them, and what the stack says of all of them."""
    said = stack_input.public
    found = (replace(one, **_said(said[one.name])) if one.name in said else one for one in services)
    return sleeping.with_sleep(found, _number(stack_input.sleep))


def _said(served: ServedInput) -> dict[str, Any]:
    """What the spec alone says of a service, no label: as fields of it."""
    return {"headers": tuple(served.headers.items()), "basic_auth": tuple((served.basic_auth or {}).items())}


def _short_service(stack_input: StackInput, entry: StackEntry, mark: Mark) -> Service:
    """The only service of a stack in short form."""
    build = _built(stack_input, entry.build)
    return Service(
        name=SHORT_NAME,
        image=entry.image or "",
        build=build,
        pull="never" if build else "missing",
        kind="web",
        domains=tuple(stack_input.domains or ([stack_input.domain] if stack_input.domain else [])),
        port=_port(stack_input, build),
        hardening=stack_input.hardening,
        command=tuple(stack_input.command) if stack_input.command else None,
        environment=tuple(stack_input.environment.items()),
        mounts=tuple(_mount(text) for text in stack_input.volumes),
        tmpfs=tuple(_tmpfs(text) for text in stack_input.tmpfs),
        healthcheck=_healthcheck(stack_input.healthcheck),
        cap_add=tuple(stack_input.cap_add),
        read_only=stack_input.read_only,
        secrets=tuple(Secret(name) for name in stack_input.secrets),
        limits=Limits(_number(stack_input.memory), stack_input.cpus, stack_input.pids),
        max_body=_number(stack_input.max_body),
        response_timeout=_number(stack_input.response_timeout),
        paths=public.normal_paths(stack_input.path or ()),
        strip_path=stack_input.strip_path,
        redirect_from=tuple(stack_input.redirect_from or ()),
        protocol=stack_input.protocol,
        listen=stack_input.listen,
        sleep=_number(stack_input.sleep),
        wake=tuple(stack_input.wake or ()),
        wake_timeout=_number(stack_input.wake_timeout),
        **_said(stack_input),
        mark=mark,
    )


def _built(stack_input: StackInput, build: Build | None) -> Build | None:
    said = stack_input.build
    if build is None or said is None:
        return None
    return replace(build, target=said.target, args=tuple(said.args.items()), max_age=_number(said.max_age))


def _port(stack_input: StackInput, build: Build | None) -> int:
    """The port that is written, else the only one that the Containerfile exposes."""
    if build is None or "port" in stack_input.model_fields_set:
        return stack_input.port
    ports = containerfile.ports(build.context / build.containerfile, build.inline, dict(build.args), build.target)
    return ports[0] if len(ports) == 1 else stack_input.port


def _short_volumes(stack_input: StackInput) -> tuple[Volume, ...]:
    """The volumes that a stack in short form names, each once."""
    return tuple(Volume(name) for name in dict.fromkeys(text.partition(":")[0] for text in stack_input.volumes))


def _mount(text: str) -> Mount:
    source, target, *mode = text.split(":")
    return Mount("volume", source, target, read_only=mode == ["ro"])


def _tmpfs(text: str) -> Tmpfs:
    target, _, options = text.partition(":")
    return Tmpfs(target, tuple(options.split(",")) if options else ())


def _healthcheck(check: HealthcheckInput | None) -> Healthcheck | None:
    if check is None:
        return None
    shell = check.test[0] == "CMD-SHELL"
    return Healthcheck(
        test=tuple(check.test[1:] if check.test[0] in ("CMD", "CMD-SHELL") else check.test),
        shell=shell,
        interval=_number(check.interval),
        timeout=_number(check.timeout),
        retries=check.retries,
        start_period=_number(check.start_period),
    )


def _number(value: Any) -> Any:
    """A value whose rule made a number of it: pydantic's annotation still says text."""
    return value
