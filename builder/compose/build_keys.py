"""`build` of a service: which one is built rather than pulled, and the keys of the Compose build specification."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages, networking
from builder.compose.draft import Port
from builder.compose.node import Row, attempt, ignored, refused, stores, walk
from builder.compose.values import boolean, content, duration, each, mapping, pairs, plain, text
from builder.messages import BUILD_CONTEXT, BUILD_FILE_MISSING, BUILD_NO_FILE, BUILD_REMOTE
from builder.oci import containerfile
from builder.stack import names
from builder.stack.model import Build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.compose.draft import Draft
    from builder.compose.node import Node


def is_built(service: Node) -> bool:
    """Whether a service is built: with an image of a registry beside `build` that one is pulled, as Compose does first.

    A name without a slash is one of Docker's own images, or rather, here, what the build is to be called.
    """
    image, policy = service.get("image"), service.get("pull_policy")
    if service.get("build") is None:
        return False
    return image is None or "/" not in str(image.value) or (policy is not None and policy.value in ("never", "build"))


def build(node: Node, draft: Draft) -> None:
    """What the image is built from; the service gets the name of an image that only a release brings."""
    if not is_built(draft.node):
        node.report(messages.BUILD_LEFT, key=True)
        return
    values: dict[str, Any] = {"context": node if not node.is_map else None}
    if node.is_map:
        walk(node, _BUILD, values)
    made = _build(node, values, draft)
    draft.set("build", made, node)
    draft.set("image", names.own_image(draft.project.stack, draft.name), node)
    _add_ports(node, made, draft)


def _build(node: Node, values: dict[str, Any], draft: Draft) -> Build:
    place: Node = values["context"] or node
    name = "." if place.is_map else text(place)
    if "://" in name or name.startswith(("git@", "github.com/")):
        raise place.error(BUILD_REMOTE, context=name)
    context = place.document.directory / name
    if not context.is_dir():
        raise place.error(BUILD_CONTEXT, context=name)
    inline, named = values.get("inline"), values.get("containerfile")
    if inline is not None and named is not None:
        raise named.error(messages.BUILD_INLINE)
    arguments, max_age = values.get("arguments"), node.get("x-max-age")
    return Build(
        context,
        "" if inline is not None else _containerfile(place, name, context, named),
        inline,
        values.get("target"),
        () if arguments is None else _arguments(arguments, draft),
        labels=values.get("labels", ()),
        extra_hosts=values.get("extra_hosts", ()),
        network=values.get("network", "default"),
        max_age=None if max_age is None else duration(max_age),
    )


def _containerfile(place: Node, name: str, context: Path, named: Node | None) -> str:
    if named is None:
        found = containerfile.find(context)
        if found is None:
            raise place.error(BUILD_NO_FILE, context=name, path=f"{name.rstrip('/')}/{containerfile.NAMES[0]}")
        return found
    written = text(named)
    if not (context / written).is_file():
        raise named.error(BUILD_FILE_MISSING, path=written, context=name)
    return containerfile.path_in(context, context / written)


def _arguments(node: Node, draft: Draft) -> tuple[tuple[str, str], ...]:
    """Names and values; one without a value has that of the variable of its name, as in `.env`."""
    found: dict[str, str] = {}
    for name, value, place in pairs(node):
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            place.report(messages.PAIR_NAME)
            continue
        given = draft.project.lookup(draft.name, name) if value is None else attempt(content, value, "")
        if given is None:
            place.report(messages.BUILD_ARGUMENT, name=name)
        else:
            found[name] = given
    return tuple(found.items())


def _add_ports(node: Node, made: Build, draft: Draft) -> None:
    """What the Containerfile exposes tells the port, where the Compose file says nothing of it."""
    ports = containerfile.ports(made.context / made.containerfile, made.inline, dict(made.args), made.target)
    if ports and draft.node.get("expose") is None:
        draft.nodes["expose"] = node
        draft.exposed += [Port(number) for number in ports]


def _node(name: str) -> Row[dict[str, Any]]:
    return stores(name, lambda node: node)


def _network(node: Node) -> str:
    name = plain(node)
    if name in ("default", "bridge"):
        return "default"
    if name != "none":
        node.report(messages.BUILD_NETWORK, name=name)
        return "default"
    return name


def _platforms(node: Node) -> None:
    for name in each(plain, node):
        if name not in ("linux/amd64", "linux/arm64", "linux/arm64/v8"):
            node.report(messages.BUILD_PLATFORM, name=name)


_ENGINE: Final = "left out: how the engine here keeps and describes what it has built is its own matter"
_LIMITS: Final = "left out: a build here has what the engine gives it"

_BUILD: Final[Mapping[str, Row[dict[str, Any]]]] = {
    "context": _node("context"),
    "dockerfile": _node("containerfile"),
    "dockerfile_inline": stores("inline", content),
    "target": stores("target", plain),
    "args": _node("arguments"),
    "labels": stores("labels", mapping),
    "extra_hosts": stores("extra_hosts", networking.extra_hosts),
    "network": stores("network", _network),
    "platforms": stores("platforms", _platforms),
    "pull": stores("pull", boolean),
    "no_cache": ignored(
        "left out: what has not changed is not built again", "`er server apply --pull` builds without a cache"
    ),
    "tags": ignored("left out: an image is tagged with the digest of what it was made of"),
    "cache_from": ignored(_ENGINE),
    "cache_to": ignored(_ENGINE),
    "provenance": ignored(_ENGINE, unless=(False,)),
    "sbom": ignored(_ENGINE, unless=(False,)),
    "shm_size": ignored(_LIMITS),
    "ulimits": ignored(_LIMITS),
    "isolation": refused("this is for Windows containers", "remove it", unless=("default",)),
    "privileged": refused("a build has no rights of the host", "do what needs them before the build", unless=(False,)),
    "entitlements": refused("a build has no rights of the host", "do what needs them before the build"),
    "additional_contexts": refused(
        "a build sees its context alone", "copy what it needs below the context, or name an image in COPY --from="
    ),
    "secrets": refused(
        "no secret is given to a build", "fetch what needs one before the build, and COPY it into a stage of its own"
    ),
    "ssh": refused(
        "no SSH key is given to a build", "fetch what needs one before the build, and COPY it into a stage of its own"
    ),
}
