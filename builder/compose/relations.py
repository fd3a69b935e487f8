"""Which service waits for which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.compose import messages

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node
    from builder.stack.model import Dependency


def _known(draft: Draft) -> list[tuple[Dependency, Node]]:
    known: list[tuple[Dependency, Node]] = draft.fields.get("depends_on", [])
    return known


def dependencies(draft: Draft, drafts: list[Draft]) -> tuple[Dependency, ...]:
    """What a service waits for, without what is not started and not required."""
    there = {other.name for other in drafts}
    return tuple(dependency for dependency, _ in _known(draft) if dependency.service in there)


def check_dependencies(drafts: list[Draft], declared: set[str]) -> None:
    """Report dependencies on nothing, on themselves, and conditions that will not come true."""
    by_name = {draft.name: draft for draft in drafts}
    for draft in drafts:
        for dependency, node in _known(draft):
            needed = by_name.get(dependency.service)
            if needed is not None:
                _check_condition(dependency, needed, node)
            elif dependency.service not in declared:
                node.put(messages.DEPENDS_UNKNOWN, name=dependency.service)
            elif dependency.required:
                node.put(messages.DEPENDS_PROFILE, name=dependency.service)
    _check_cycles(by_name)


def _check_condition(dependency: Dependency, needed: Draft, node: Node) -> None:
    check = needed.fields.get("healthcheck")
    if dependency.condition == "service_healthy":
        if check is not None and check.disable:
            node.put(messages.DEPENDS_DISABLED, name=needed.name)
        elif check is None or not check.test:
            node.put(messages.DEPENDS_NO_CHECK, name=needed.name)
    elif dependency.condition == "service_completed_successfully" and _goes_on(needed):
        node.put(messages.DEPENDS_JOB, name=needed.name)


def _goes_on(draft: Draft) -> bool:
    return draft.fields.get("restart") in ("always", "unless-stopped")


def _check_cycles(by_name: dict[str, Draft]) -> None:
    done: set[str] = set()
    for name in by_name:
        _visit(name, by_name, done, ())


def _visit(name: str, by_name: dict[str, Draft], done: set[str], trail: tuple[str, ...]) -> None:
    if name in trail:
        around = (*trail[trail.index(name) :], name)
        _, place = next(item for item in _known(by_name[trail[-1]]) if item[0].service == name)
        place.put(messages.DEPENDS_CYCLE, names=" → ".join(around))
        return
    if name in done:
        return
    for dependency, _ in _known(by_name[name]):
        if dependency.service in by_name:
            _visit(dependency.service, by_name, done, (*trail, name))
    done.add(name)
