"""What a service waits for: `depends_on` and `links` as written, and the check of them once all services are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.compose import messages
from builder.compose.node import Row, attempt, stores, walk
from builder.compose.values import boolean, plain
from builder.stack.model import Dependency

if TYPE_CHECKING:
    from builder.compose.draft import Draft, Project
    from builder.compose.node import Node

_CONDITIONS: Final = ("service_started", "service_healthy", "service_completed_successfully")


def depends_on(node: Node, draft: Draft) -> None:
    """A list of services, or a mapping with a condition for each."""
    if node.is_map:
        for name, child in node.items():
            _add_written(draft, child, service=name, **_options(child))
    elif node.is_list:
        for item in node.value:
            listed = attempt(plain, item, None)
            if listed is not None:
                _add_written(draft, item, service=listed)
    else:
        raise node.error(messages.WANTS_LIST)


def add(draft: Draft, node: Node, **values: Any) -> None:
    """Add a dependency that another key implies, as `links` and `volumes_from` do; what depends_on says stays."""
    known: list[tuple[Dependency, Node]] = draft.fields.setdefault("depends_on", [])
    if all(other.service != values["service"] for other, _ in known):
        known.append((Dependency(**values), node))


def _add_written(draft: Draft, node: Node, **values: Any) -> None:
    """Add what depends_on says, in place of what another key implied before."""
    known: list[tuple[Dependency, Node]] = draft.fields.get("depends_on", [])
    draft.fields["depends_on"] = [item for item in known if item[0].service != values["service"]]
    add(draft, node, **values)


def _options(node: Node) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if node.value is not None:
        walk(node, _DEPENDENCY, values)
    return values


def _condition(node: Node) -> str:
    if node.value not in _CONDITIONS:
        raise node.error(messages.DEPENDS_CONDITION, conditions=", ".join(_CONDITIONS))
    return str(node.value)


_DEPENDENCY: Final[dict[str, Row[dict[str, Any]]]] = {
    "condition": stores("condition", _condition),
    "required": stores("required", boolean),
    "restart": stores("restart", boolean),
}


def links(node: Node, draft: Draft) -> None:
    """The old way to say depends_on; `service:alias` also gives a name to call it by."""
    for item in node.value if node.is_list else [node]:
        name, _, alias = (attempt(plain, item, None) or "").partition(":")
        if name:
            add(draft, item, service=name)
        if alias:
            draft.fields.setdefault("links", []).append((name, alias))


def dependencies(draft: Draft, drafts: list[Draft]) -> tuple[Dependency, ...]:
    """What a service waits for, without services that do not run."""
    running = {other.name for other in drafts}
    return tuple(dependency for dependency, _ in _written(draft) if dependency.service in running)


def check_dependencies(drafts: list[Draft], project: Project) -> None:
    """Report dependencies on nothing, circles of them, and conditions that will not come true."""
    by_name = {draft.name: draft for draft in drafts}
    for draft in drafts:
        for dependency, node in _written(draft):
            other = by_name.get(dependency.service)
            if other is not None:
                _check_condition(dependency, other, node)
            elif not dependency.required:
                continue
            elif dependency.service not in project.services:
                node.report(messages.DEPENDS_UNKNOWN, name=dependency.service)
            elif dependency.service in project.behind_profiles:
                node.report(messages.DEPENDS_PROFILE, name=dependency.service)
    done: set[str] = set()
    for name in by_name:
        _check_circles(name, by_name, done, ())


def _written(draft: Draft) -> list[tuple[Dependency, Node]]:
    written: list[tuple[Dependency, Node]] = draft.fields.get("depends_on", [])
    return written


def _check_condition(dependency: Dependency, other: Draft, node: Node) -> None:
    check = other.fields.get("healthcheck")
    if dependency.condition == "service_healthy":
        if check is not None and check.disable:
            node.report(messages.DEPENDS_DISABLED, name=other.name)
        elif check is None or not check.test:
            node.report(messages.DEPENDS_NO_CHECK, name=other.name)
    elif dependency.condition == "service_completed_successfully" and _is_restarted(other):
        node.report(messages.DEPENDS_JOB, name=other.name)


def _is_restarted(draft: Draft) -> bool:
    return draft.fields.get("restart") in ("always", "unless-stopped")


def _check_circles(name: str, by_name: dict[str, Draft], done: set[str], trail: tuple[str, ...]) -> None:
    if name in trail:
        circle = (*trail[trail.index(name) :], name)
        _, node = next(item for item in _written(by_name[trail[-1]]) if item[0].service == name)
        node.report(messages.DEPENDS_CYCLE, names=" → ".join(circle))
        return
    if name in done:
        return
    for dependency, _ in _written(by_name[name]):
        if dependency.service in by_name:
            _check_circles(dependency.service, by_name, done, (*trail, name))
    done.add(name)
