"""`registries`: who logs in where images come from. Of the whole host, or of one stack instead.

A stack has the logins to the registries that its images come from, and to their mirrors, and no others.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from builder.oci import ecr, image_reference
from builder.spec import backup_rules, messages
from builder.spec.value_types import ROLE
from builder.stack.model import Login
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.spec.document import Document
    from builder.spec.input_model import RegistryInput, SpecInput
    from builder.spec.model import Spec
    from builder.spec.stack_input import LoginInput
    from builder.stack.model import Service, Stack
    from builder.yamlfile.source import Loc

KEY: Final = "registries"


def added(stacks: Iterable[Stack], spec_input: SpecInput) -> tuple[Stack, ...]:
    """The stacks with their logins; they are in the order of the spec."""
    return tuple(
        replace(stack, logins=logins(_images(stack), spec_input.registries, one.registries))
        for stack, one in zip(stacks, spec_input.stacks, strict=True)
    )


def logins(
    images: Iterable[str], of_host: Mapping[str, RegistryInput], of_stack: Mapping[str, LoginInput] | None = None
) -> tuple[Login, ...]:
    """Those that are needed to fetch the images, in the order of the registries' first use."""
    named: dict[str, RegistryInput | LoginInput] = {**of_host, **(of_stack or {})}
    found = ((name, named[name]) for name in _asked(images, of_host) if name in named)
    return tuple(Login(name, one.username, one.by_role) for name, one in found if one.username)


def _asked(images: Iterable[str], of_host: Mapping[str, RegistryInput]) -> tuple[str, ...]:
    """The registries that are asked for these images: where they come from, and the mirrors of those."""
    found: dict[str, None] = {}
    for name in _registries(images):
        mirrors = of_host[name].mirrors if name in of_host else []
        found |= dict.fromkeys((name, *(mirror.partition("/")[0] for mirror in mirrors)))
    return tuple(found)


def _registries(images: Iterable[str]) -> Iterator[str]:
    """The registries of normalised images; what is built, or an archive, has none."""
    for image in images:
        if image_reference.is_pulled(image):
            yield image_reference.split(image).registry


def _images(stack: Stack) -> list[str]:
    return [service.image for service in stack.services]


def check_roles(document: Document) -> None:
    """Refuse the server's role as a login to what is no registry of Amazon's, or to one that asks for none."""
    for place in ((KEY,), *((*loc, KEY) for loc in document.items(("stacks",)))):
        for name in document.keys(place):
            if document.get((*place, name)) != ROLE or ecr.registry(name):
                continue
            text = messages.REGISTRY_PUBLIC if name == ecr.PUBLIC else messages.REGISTRY_ROLE
            document.report(text, (*place, name), registry=name)


def check(document: Document, spec_input: SpecInput, stacks: tuple[Stack, ...], proxy_image: str) -> None:
    """Warn of a registry that gives no image, and of an image that nobody may fetch without a login."""
    of_host = spec_input.registries
    _check_used(document, (KEY,), of_host, _asked([proxy_image, *(i for s in stacks for i in _images(s))], of_host))
    seen: set[str] = set()
    for index, (stack, one) in enumerate(zip(stacks, spec_input.stacks, strict=True)):
        loc: Loc = ("stacks", index)
        _check_used(document, (*loc, KEY), one.registries, _asked(_images(stack), of_host))
        for service in stack.services:
            _check_private(document, loc, service, {*of_host, *one.registries}, seen)


def _check_used(document: Document, loc: Loc, named: Iterable[str], used: tuple[str, ...]) -> None:
    for name in named:
        if name not in used:
            place = (*loc, name)
            known = ", ".join(used) or "archives alone"
            document.report(messages.REGISTRY_UNUSED, place, on_key=True, registry=name, known=known)


_ON_EC2: Final = "the server's role logs in then, which er launch makes; outside of EC2, {{username: AWS}}"
_ON_SERVER: Final = "then on the server: er server registry login HOST {registry}"
# Registries of clouds whose images are private by their nature, what to write for them, and what is to be done then.
_PRIVATE: Final = (
    (re.compile(r"[a-z0-9-]+\.azurecr\.io"), "{username: TOKEN-NAME}", _ON_SERVER),
    (re.compile(r"registry\.digitalocean\.com"), "{username: ACCOUNT-EMAIL}", _ON_SERVER),
    # A key of a service account as the password, says cloud.google.com/artifact-registry/docs/docker/authentication.
    (re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io)"), "{username: _json_key_base64}", _ON_SERVER),
)


def settings(registry: str) -> tuple[str, str] | None:
    """What to write of a registry that is private by its nature, and what is to be done then; None for all others."""
    if ecr.registry(registry):
        return ROLE, _ON_EC2
    return next(((words, way) for form, words, way in _PRIVATE if form.fullmatch(registry)), None)


# Registries in which images are somebody's, public or not: their names do not tell.
_MAYBE_PRIVATE: Final = ("ghcr.io", "registry.gitlab.com")


def maybe_private(images: Iterable[str], named: Iterable[str] = ()) -> Iterator[tuple[str, str, str]]:
    """Image, registry, and whose name to log in under should it be private; once for each registry not in `named`."""
    seen = set(named)
    for image in images:
        registry, _, path = image.partition("/")
        if registry in _MAYBE_PRIVATE and registry not in seen:
            seen.add(registry)
            yield image, registry, path.partition("/")[0]


def _check_private(document: Document, loc: Loc, service: Service, named: set[str], seen: set[str]) -> None:
    """Each such registry once."""
    for registry in _registries([service.image]):
        found = settings(registry)
        if found is None or registry in {*named, *seen}:
            continue
        seen.add(registry)
        messages.REGISTRY_PRIVATE.add_to(
            document.problems,
            dotted((*loc, "services", service.name)),
            service.mark,
            registry=registry,
            quoted=f'"{registry}"' if ":" in registry else registry,
            settings=found[0],
            then=found[1].format(registry=registry),
        )


def role_policy(spec: Spec) -> dict[str, Any] | None:
    """The IAM policy of the server's role: to fetch its images, and to back up; None where it needs neither."""
    statements = [*_pull_statements(spec), *backup_rules.bucket_statements(spec.backup)]
    return {"Version": "2012-10-17", "Statement": statements} if statements else None


def _pull_statements(spec: Spec) -> list[dict[str, Any]]:
    owners = [(spec.proxy.logins, [spec.proxy.image]), *((stack.logins, _images(stack)) for stack in spec.stacks)]
    by_role = [({login.registry for login in logins if login.by_role}, images) for logins, images in owners]
    if not any(names for names, _ in by_role):
        return []
    found = (
        place
        for names, images in by_role
        for image in images
        for place in _places(image, dict(spec.mirrors))
        if place.partition("/")[0] in names
    )
    return ecr.pull_statements(found)


def _places(image: str, mirrors: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    """Where an image is looked for: by its own name, and by those that its registry's mirrors have for it."""
    registry, _, rest = image.partition("/")
    return (image, *(f"{mirror}/{rest}" for mirror in mirrors.get(registry, ())))
