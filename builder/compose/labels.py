"""EasyRunner's labels: of which type a service is, and the domain and port where the world reaches it.

A spec may say the same under `public`: there a key stands for a label. Nothing may be said in both places.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from builder.compose import messages, ports
from builder.compose.node import Document, Node, NodeError, attempt
from builder.compose.values import boolean, content, duration, integer, pairs, size, text
from builder.problems import Report
from builder.stack import domains, public, sleeping
from builder.stack.model import UNENCODABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.compose.draft import Draft, Project
    from builder.messages import Text
    from builder.stack.domains import Fault
    from builder.yamlfile.places import Loc
    from builder.yamlfile.source import Source


T = TypeVar("T")

PREFIX: Final = "xyz.easyrunner."
TYPE: Final = f"{PREFIX}service.type"
DOMAIN: Final = f"{PREFIX}service.domain"
PORT: Final = f"{PREFIX}service.port"
FRAMEWORK: Final = f"{PREFIX}service.framework"
HARDENING: Final = f"{PREFIX}service.security-hardening"
MAX_BODY: Final = f"{PREFIX}service.max-body"
RESPONSE_TIMEOUT: Final = f"{PREFIX}service.response-timeout"
PATH: Final = f"{PREFIX}service.path"
STRIP_PATH: Final = f"{PREFIX}service.strip-path"
REDIRECT_FROM: Final = f"{PREFIX}service.redirect-from"
PROTOCOL: Final = f"{PREFIX}service.protocol"
SLEEP: Final = f"{PREFIX}service.sleep"
WAKE: Final = f"{PREFIX}service.wake"
WAKE_TIMEOUT: Final = f"{PREFIX}service.wake-timeout"
BUILD_CONTEXT: Final = f"{PREFIX}service.build-context"
LOCAL_CACHE: Final = f"{PREFIX}service.local-cache"
PUBLIC: Final = f"{PREFIX}appIsPublic"
# EasyRunner's earlier names; the newer wins where both are set.
ALIASES: Final = {
    f"{PREFIX}appNodeType": TYPE,
    f"{PREFIX}appFramework": FRAMEWORK,
    f"{PREFIX}appContainerInternalPort": PORT,
    f"{PREFIX}appBuildContext": BUILD_CONTEXT,
}
_KNOWN: Final = (
    TYPE,
    DOMAIN,
    PORT,
    FRAMEWORK,
    HARDENING,
    MAX_BODY,
    RESPONSE_TIMEOUT,
    PATH,
    STRIP_PATH,
    REDIRECT_FROM,
    PROTOCOL,
    SLEEP,
    WAKE,
    WAKE_TIMEOUT,
    BUILD_CONTEXT,
    LOCAL_CACHE,
    PUBLIC,
    *ALIASES,
)


def labels(node: Node, draft: Draft) -> None:
    """All labels go to the container; EasyRunner's are also understood."""
    for name, value, place in pairs(node):
        spelled = "" if value is None else attempt(content, value, None)
        if not name or UNENCODABLE.search(name):
            place.report(messages.PAIR_NAME)
        elif spelled is not None:
            draft.labels[name] = (spelled, place if value is None else value)
    draft.set("labels", tuple((name, value) for name, (value, _) in draft.labels.items()), node)


def apply_labels(draft: Draft) -> None:
    """Set the fields that EasyRunner's labels are for, once the whole service has been read."""
    found = {name: node.with_value(value) for name, (value, node) in draft.labels.items()}
    for name, node in found.items():
        if name.startswith(PREFIX) and name not in _KNOWN:
            node.report(messages.LABEL_UNKNOWN, key=True, name=name, near=_near(name))
    found = with_newer_names(found)
    found |= _of_spec(draft, found)
    _set_kind(draft, found)
    for name, parse_label in _PARSERS.items():
        if name in found:
            attempt(partial(_apply, parse_label, draft), found[name], None)
    if draft.fields["kind"] == "web" and PORT not in found:
        ports.take_port(draft)
    elif draft.fields["kind"] == "web" and "port" not in draft.fields:
        draft.ports = []  # the port is wrong, which is said at its place
    _check_public(draft, found)


def _near(name: str) -> str:
    """The label that was probably meant: one that ends in the same word, or is spelled alike."""
    word = name.rpartition(".")[2]
    ends = [known for known in _KNOWN if known.endswith(f"-{word}")]
    return (ends or difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0))[0]


# The keys of `public` in a spec, each with the label that says the same; then those without a label.
KEYS: Final = {
    "domains": DOMAIN,
    "port": PORT,
    "framework": FRAMEWORK,
    "hardening": HARDENING,
    "max_body": MAX_BODY,
    "response_timeout": RESPONSE_TIMEOUT,
    "path": PATH,
    "strip_path": STRIP_PATH,
    "redirect_from": REDIRECT_FROM,
    "protocol": PROTOCOL,
    "sleep": SLEEP,
    "wake": WAKE,
    "wake_timeout": WAKE_TIMEOUT,
}
ONLY_IN_SPEC: Final = ("headers", "basic_auth")


def public_of_spec(source: Source, loc: Loc, report: Report) -> dict[str, Node]:
    """The nodes of `public` in a spec, by service. What single values are is checked by the spec."""
    document = Document(source, report, source.path)
    value = source.data
    for step in loc:
        value = value[step]
    return {
        name: Node(
            {key: Node(child, document, (*loc, name, key)) for key, child in said.items()}, document, (*loc, name)
        )
        for name, said in (value.items() if isinstance(value, dict) else ())
        if isinstance(said, dict)
    }


def _of_spec(draft: Draft, found: dict[str, Node]) -> dict[str, Node]:
    """What the spec says of a service, as labels. Said by labels as well it is an error that names both places."""
    said = draft.project.public.get(draft.name)
    if said is None:
        return {}
    kind = found.get(TYPE)
    if kind is not None and kind.value != "web":
        said.report(messages.PUBLIC_TYPE, key=True, service=draft.name, kind=kind.value, place=_place(kind))
        return {}
    for key, node in said.items():
        label = KEYS.get(key)
        if label in found:
            node.report(messages.PUBLIC_TWICE, key=True, key_name=key, label=label, place=_place(found[label]))
    silent = replace(said.document, report=Report())
    values = {KEYS[key]: replace(node, document=silent) for key, node in said.items() if key in KEYS}
    return {
        TYPE: said.with_value("web"),
        **{label: node.with_value(as_label(node.value)) for label, node in values.items()},
    }


def _place(node: Node) -> str:
    mark = node.mark()
    return f"{mark.file}:{mark.line}"


def as_label(value: Any) -> str:
    """A value of the spec as a label has it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def check_names(project: Project) -> None:
    """Report what the spec says of services that are not there, or are not started."""
    for name, node in project.public.items():
        if name in project.left_out:
            node.report(messages.PUBLIC_LEFT_OUT, key=True, name=name)
        elif name not in project.services:
            near = difflib.get_close_matches(name, project.services, n=1, cutoff=0)
            known = ", ".join(project.services)
            node.report(messages.PUBLIC_UNKNOWN, key=True, name=name, near="".join(near), known=known)


def with_newer_names(found: dict[str, T]) -> dict[str, T]:
    """EasyRunner's earlier names count as the newer, unless that is set too."""
    return {**{new: found[old] for old, new in ALIASES.items() if old in found}, **found}


def _apply(parse_label: Callable[[Node, Draft], None], draft: Draft, node: Node) -> None:
    parse_label(node, draft)


def _set_kind(draft: Draft, found: dict[str, Node]) -> None:
    kind = kind_of({name: node.value for name, node in found.items()})
    if kind not in ("web", "internal", "worker"):
        found[TYPE].report(messages.LABEL_TYPE, value=kind)
        kind = "web" if DOMAIN in found else "internal"
    draft.set("kind", kind, found.get(TYPE, draft.node))


def kind_of(labels: dict[str, str]) -> str:
    """The type that labels give; a service with a domain is public."""
    public = DOMAIN in labels or labels.get(PUBLIC, "").lower() == "true"
    return labels.get(TYPE) or ("web" if public else "internal")


def _domain(node: Node, draft: Draft) -> None:
    draft.set("domains", _names(node), node)


def _redirect_from(node: Node, draft: Draft) -> None:
    draft.set("redirect_from", _names(node), node)


def _names(node: Node) -> tuple[str, ...]:
    good = (domains.normalise(name, node.where, node.mark(), node.document.report) for name in _listed(node))
    return tuple(dict.fromkeys(name for name in good if name is not None))


def _listed(node: Node) -> list[str]:
    """Values with commas between them."""
    return [value.strip() for value in content(node).split(",")]


def _path(node: Node, draft: Draft) -> None:
    for path in _listed(node):
        if fault := public.path_fault(path):
            raise node.error(fault[0], **fault[1])
    draft.set("paths", public.normal_paths(_listed(node)), node)


def _flag(name: str, node: Node, draft: Draft) -> None:
    draft.set(name, boolean(node), node)


def _protocol(node: Node, draft: Draft) -> None:
    if node.value not in ("http", "h2c"):
        raise node.error(messages.LABEL_PROTOCOL, value=node.value)
    draft.set("protocol", node.value, node)


def _port(node: Node, draft: Draft) -> None:
    port = integer(node)
    if not 1 <= port <= 65535:
        raise node.error(messages.LABEL_PORT)
    draft.set("port", port, node)


def _framework(node: Node, draft: Draft) -> None:
    draft.set("framework", text(node).lower(), node)


def _hardening(node: Node, draft: Draft) -> None:
    if node.value not in ("standard", "strict", "off"):
        raise node.error(messages.LABEL_HARDENING, value=node.value)
    draft.set("hardening", node.value, node)


def _max_body(node: Node, draft: Draft) -> None:
    draft.set("max_body", _unless_none(size, node, messages.LABEL_MAX_BODY), node)


def _response_timeout(node: Node, draft: Draft) -> None:
    draft.set("response_timeout", _unless_none(duration, node, messages.LABEL_RESPONSE_TIMEOUT), node)


NONE: Final = "none"  # the word for no limit


def _unless_none(parse: Callable[[Node], float], node: Node, text: Text) -> float:
    """A limit above zero; `none` gives 0."""
    if node.value == NONE:
        return 0
    try:
        limit = parse(node)
    except NodeError:
        limit = 0
    if limit <= 0:
        raise node.error(text, value=node.value)
    return limit


def _sleep(node: Node, draft: Draft) -> None:
    """A time; of a service that is not public any, or `true`, as it sleeps with one that is."""
    is_front = draft.fields["kind"] == "web"
    if not is_front and node.value == "true":
        draft.set("sleep", 0, node)
        return
    seconds = duration(node)
    _refuse(sleeping.sleep_fault(seconds), node)
    draft.set("sleep", int(seconds) if is_front else 0, node)


def _wake(node: Node, draft: Draft) -> None:
    for said in _listed(node):
        _refuse(sleeping.wake_fault(said), node)
    draft.set("wake", tuple(dict.fromkeys(_listed(node))), node)


def _wake_timeout(node: Node, draft: Draft) -> None:
    seconds = duration(node)
    _refuse(sleeping.wake_timeout_fault(seconds), node)
    draft.set("wake_timeout", math.ceil(seconds), node)


def _refuse(fault: Fault | None, node: Node) -> None:
    if fault:
        raise node.error(fault[0], **fault[1])


def _build_context(node: Node, draft: Draft) -> None:
    if draft.node.get("build") is None:
        raise node.error(messages.LABEL_BUILD, context=node.value, service=draft.name)


def _is_public(node: Node, draft: Draft) -> None:  # noqa: ARG001 - the parsers of a table share a signature
    boolean(node)


_PARSERS: Final[dict[str, Callable[[Node, Draft], None]]] = {
    DOMAIN: _domain,
    PORT: _port,
    FRAMEWORK: _framework,
    HARDENING: _hardening,
    MAX_BODY: _max_body,
    RESPONSE_TIMEOUT: _response_timeout,
    PATH: _path,
    STRIP_PATH: partial(_flag, "strip_path"),
    REDIRECT_FROM: _redirect_from,
    PROTOCOL: _protocol,
    SLEEP: _sleep,
    WAKE: _wake,
    WAKE_TIMEOUT: _wake_timeout,
    BUILD_CONTEXT: _build_context,
    LOCAL_CACHE: partial(_flag, "local_cache"),
    PUBLIC: _is_public,
}


def _check_public(draft: Draft, found: dict[str, Node]) -> None:
    """A public service needs a domain, and only a public one has one, with what is said of it."""
    if draft.fields["kind"] == "web":
        if DOMAIN not in found and not _is_misspelt(draft):
            found.get(TYPE, draft.node).report(messages.LABEL_DOMAIN_MISSING, service=draft.name)
        return
    for label in (DOMAIN, PATH, REDIRECT_FROM, WAKE, WAKE_TIMEOUT):
        if label in found:
            found[label].report(messages.LABEL_DOMAIN_PRIVATE, kind=draft.fields["kind"])


def _is_misspelt(draft: Draft) -> bool:
    """Whether the spec has an unknown key for the service, an error that may be meant for its domains."""
    said = draft.project.public.get(draft.name)
    return said is not None and any(key not in KEYS and key not in ONLY_IN_SPEC for key, _ in said.items())
