"""`registries`: who logs in where images come from. Of the whole host, or of one stack instead.

A stack has the logins to the registries that its images come from, and to their mirrors, and no others.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder.oci import image_reference
from builder.spec import messages
from builder.stack.model import Login
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.spec.document import Document
    from builder.spec.input_model import RegistryInput, SpecInput
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
    names = {name: one.username for name, one in of_host.items()}
    names |= {name: one.username for name, one in (of_stack or {}).items()}
    return tuple(Login(name, username) for name in _asked(images, of_host) if (username := names.get(name)))


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


# Registries of clouds whose images are private by their nature, and who logs in there.
_PRIVATE: Final = (
    (re.compile(r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?"), "AWS"),
    (re.compile(r"[a-z0-9-]+\.azurecr\.io"), "TOKEN-NAME"),
    (re.compile(r"registry\.digitalocean\.com"), "ACCOUNT-EMAIL"),
)


def _check_private(document: Document, loc: Loc, service: Service, named: set[str], seen: set[str]) -> None:
    """Each such registry once."""
    for registry in _registries([service.image]):
        username = next((username for form, username in _PRIVATE if form.fullmatch(registry)), None)
        if username is None or registry in {*named, *seen}:
            continue
        seen.add(registry)
        messages.REGISTRY_PRIVATE.add_to(
            document.problems,
            dotted((*loc, "services", service.name)),
            service.mark,
            registry=registry,
            quoted=f'"{registry}"' if ":" in registry else registry,
            username=username,
        )
