"""The uids of stacks, and of what they build on the server: no two may be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from builder.spec import messages
from builder.stack import user

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.compose import StackContents
    from builder.spec.document import Document
    from builder.yamlfile.source import Loc


class Entry(Protocol):
    """An entry of `stacks`, as it has been read."""

    @property
    def index(self) -> int:
        """Its number."""

    @property
    def name(self) -> str:
        """Its name, empty where there is none."""

    @property
    def contents(self) -> StackContents | None:
        """Of its Compose files."""

    @property
    def loc(self) -> Loc:
        """Its place."""


def check(document: Document, entries: Sequence[Entry]) -> None:
    """No two stacks may have one uid. Of a written uid and one that comes from a name, the second is to change."""
    names = {stack.name: stack for stack in reversed(entries) if stack.name}
    explicit = {stack.index: _explicit_uid(document, stack) for stack in names.values()}
    taken: dict[int, Entry] = {}
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
    _check_build_uids(document, taken)


def _check_build_uids(document: Document, stacks: dict[int, Entry]) -> None:
    """Nor may what is built on the server have the uid of a stack or of another's builds."""
    taken = {uid: stack.name for uid, stack in stacks.items()}
    for uid, stack in stacks.items():
        if not _is_built(document, stack):
            continue
        build = user.build_uid(uid)
        other = taken.setdefault(build, f"{stack.name}'s builds")
        if other != f"{stack.name}'s builds":
            free = user.free_uid(uid + 1, taken, builds=True)
            document.report(
                messages.BUILD_UID, (*stack.loc, "name"), uid=build, name=stack.name, other=other, free=free
            )


def _is_built(document: Document, stack: Entry) -> bool:
    services = stack.contents.services if stack.contents else ()
    return document.get((*stack.loc, "build")) is not None or any(service.build for service in services)


def _explicit_uid(document: Document, stack: Entry) -> int | None:
    uid = document.get((*stack.loc, "uid"))
    return uid if type(uid) is int and user.in_range(uid) else None
