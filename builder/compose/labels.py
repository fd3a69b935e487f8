"""EasyRunner's labels: what a service is, and where the world reaches it."""

from __future__ import annotations

import difflib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from builder.compose import messages
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.node import WrongError, attempt
from builder.compose.values import boolean, content, duration, integer, pairs, size, text
from builder.stack import domains, model
from builder.stack.model import UNFIT, Identity

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.compose.draft import Draft
    from builder.compose.node import Node
    from builder.messages import Text
    from builder.stack.model import Kind


PREFIX: Final = "xyz.easyrunner."
TYPE: Final = f"{PREFIX}service.type"
DOMAIN: Final = f"{PREFIX}service.domain"
PORT: Final = f"{PREFIX}service.port"
FRAMEWORK: Final = f"{PREFIX}service.framework"
HARDENING: Final = f"{PREFIX}service.security-hardening"
MAX_BODY: Final = f"{PREFIX}service.max-body"
RESPONSE_TIMEOUT: Final = f"{PREFIX}service.response-timeout"
BUILD_CONTEXT: Final = f"{PREFIX}service.build-context"
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
    BUILD_CONTEXT,
    PUBLIC,
    *ALIASES,
)
NONE: Final = "none"


def parse(node: Node, draft: Draft) -> None:
    """All labels go to the container; EasyRunner's are also understood."""
    for name, value, place in pairs(node):
        spelled = "" if value is None else attempt(content, value, None)
        if not name or UNFIT.search(name):
            place.put(messages.PAIR_NAME)
        elif spelled is not None:
            draft.labels[name] = (spelled, place if value is None else value)
    draft.set("labels", tuple((name, value) for name, (value, _) in draft.labels.items()), node)


def understand(draft: Draft) -> None:
    """Set what EasyRunner's labels say, once all labels are known."""
    found = {name: node.with_value(value) for name, (value, node) in draft.labels.items()}
    for name, node in found.items():
        if name.startswith(PREFIX) and name not in _KNOWN:
            near = difflib.get_close_matches(name, _KNOWN, n=1, cutoff=0)[0]
            node.put(messages.LABEL_UNKNOWN, key=True, name=name, near=near)
    for old, new in ALIASES.items():
        if old in found:
            found.setdefault(new, found[old])
    _kind(draft, found)
    for name, parse_label in _PARSERS.items():
        if name in found:
            attempt(partial(_call, parse_label, draft), found[name], None)
    _public(draft, found)


def _call(parse_label: Callable[[Node, Draft], None], draft: Draft, node: Node) -> None:
    parse_label(node, draft)


def kind_of(labels: dict[str, str]) -> str:
    """The type that labels give; a service with a domain is public."""
    public = DOMAIN in labels or labels.get(PUBLIC, "").lower() == "true"
    return labels.get(TYPE) or ("web" if public else "internal")


def _kind(draft: Draft, found: dict[str, Node]) -> None:
    kind = kind_of({name: node.value for name, node in found.items()})
    if kind not in ("web", "internal", "worker"):
        found[TYPE].put(messages.LABEL_TYPE, value=kind)
        kind = "web" if DOMAIN in found else "internal"
    draft.set("kind", kind, found.get(TYPE, draft.node))


def _domain(node: Node, draft: Draft) -> None:
    names = [name.strip() for name in content(node).split(",")]
    good = (domains.normalise(name, node.where, node.mark(), draft.project.report) for name in names)
    draft.set("domains", tuple(dict.fromkeys(name for name in good if name is not None)), node)


def _port(node: Node, draft: Draft) -> None:
    port = integer(node)
    if not 1 <= port <= 65535:
        raise node.wrong(messages.LABEL_PORT)
    draft.set("port", port, node)


def _framework(node: Node, draft: Draft) -> None:
    draft.set("framework", text(node).lower(), node)


def _hardening(node: Node, draft: Draft) -> None:
    if node.value not in ("standard", "strict", "off"):
        raise node.wrong(messages.LABEL_HARDENING, value=node.value)
    draft.set("hardening", node.value, node)


def _max_body(node: Node, draft: Draft) -> None:
    draft.set("max_body", _unless_none(size, node, messages.LABEL_MAX_BODY), node)


def _response_timeout(node: Node, draft: Draft) -> None:
    draft.set("response_timeout", _unless_none(duration, node, messages.LABEL_RESPONSE_TIMEOUT), node)


def _unless_none(parse: Callable[[Node], float], node: Node, text: Text) -> float:
    """A limit above zero; 0 is what the word for none becomes."""
    if node.value == NONE:
        return 0
    try:
        limit = parse(node)
    except WrongError:
        limit = 0
    if limit <= 0:
        raise node.wrong(text, value=node.value)
    return limit


def _build_context(node: Node, draft: Draft) -> None:
    raise node.wrong(messages.LABEL_BUILD, name=draft.name)


def _is_public(node: Node, draft: Draft) -> None:  # noqa: ARG001 - one form for all
    boolean(node)


_PARSERS: Final = {
    DOMAIN: _domain,
    PORT: _port,
    FRAMEWORK: _framework,
    HARDENING: _hardening,
    MAX_BODY: _max_body,
    RESPONSE_TIMEOUT: _response_timeout,
    BUILD_CONTEXT: _build_context,
    PUBLIC: _is_public,
}


def _public(draft: Draft, found: dict[str, Node]) -> None:
    """A public service needs a domain, and only a public one has one."""
    if draft.fields["kind"] == "web" and DOMAIN not in found:
        found.get(TYPE, draft.node).put(messages.LABEL_DOMAIN_MISSING, name=draft.name)
    if draft.fields["kind"] != "web" and DOMAIN in found:
        found[DOMAIN].put(messages.LABEL_DOMAIN_PRIVATE, kind=draft.fields["kind"])


def injected_for(
    data: Any, stack: str, server: str | None, environment: dict[str, str]
) -> dict[str | None, dict[str, str]]:
    """The variables of each service by its name, and under None those that are the same for all."""
    services = data.get("services") if isinstance(data, dict) else None
    named = services.items() if isinstance(services, dict) else ()
    peers = [_identity(name, _labels(service, environment)) for name, service in named]
    shared = {"EASYRUNNER_STACK": stack, "EASYRUNNER_APP_NAME": stack, "COMPOSE_PROJECT_NAME": stack}
    if server:
        shared["EASYRUNNER_SERVER_NAME"] = server
    known: dict[str | None, dict[str, str]] = {None: shared}
    for peer in peers:
        # The framework adds PORT and the like to the container, not to the file.
        known[peer.name] = model.variables(stack, peer._replace(framework=None), peers, server)
    return known


def _identity(name: str, found: dict[str, str]) -> Identity:
    kind = kind_of(found)
    domain = found.get(DOMAIN, "").split(",")[0].strip() or None
    port = found.get(PORT, "3000")
    return Identity(
        name,
        cast("Kind", kind) if kind in ("web", "internal", "worker") else "internal",
        domain,
        int(port) if port.isdigit() else 3000,
    )


def _labels(service: Any, environment: dict[str, str]) -> dict[str, str]:
    """The labels of a service, roughly: what is wrong with them is said later."""
    raw = service.get("labels") if isinstance(service, dict) else None
    if isinstance(raw, list):
        raw = dict(str(item).partition("=")[::2] for item in raw)
    found = (
        {} if not isinstance(raw, dict) else {str(key): _fill(str(value), environment) for key, value in raw.items()}
    )
    for old, new in ALIASES.items():
        if old in found:
            found.setdefault(new, found[old])
    return found


def _fill(text: str, environment: dict[str, str]) -> str:
    try:
        return Expansion(environment.get).expand(text)
    except (FormatError, RequiredError):
        return ""
