"""`stacks[].deploy`: the keys that may deploy one stack.

sshd takes the first line of a key, so none is given to two stacks; and none is the admin's, who may do everything.
"""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.spec import messages, rules, ssh_keys
from builder.stack.model import Deploy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.spec.document import Document
    from builder.stack.model import Stack
    from builder.yamlfile.source import Loc

# Where most machines that build are, and nobody knows from which address the next one comes.
_WORLD: Final = "0.0.0.0/0"

Keys = dict[int, tuple[str, ...]]
"""By the stack's place in the spec, lines of authorized_keys."""


def read(document: Document, admin: Iterable[str]) -> Keys:
    """The keys of each stack that has any; `admin` are the admin's. Problems go to the document's report."""
    owners = {_bare(line): "" for line in admin}
    found = {}
    for stack, _ in enumerate(document.items(("stacks",))):
        place: Loc = ("stacks", stack, "deploy", "ssh_keys")
        if document.get(place) == []:
            document.report(messages.DEPLOY_NONE, place)
        branch = document.text((*place[:-1], "git"))
        if branch is not None and not _is_branch(branch):
            document.report(messages.DEPLOY_BRANCH, (*place[:-1], "git"), value=branch)
        if lines := [line for loc in document.items(place) for line in _entry(document, loc, owners)]:
            found[stack] = tuple(dict.fromkeys(lines))
    if found:
        _check_host(document)
    return found


def _entry(document: Document, loc: Loc, owners: dict[str, str]) -> list[str]:
    """The lines of one entry; `owners` has the stacks of keys that are taken, and no name for the admin's."""
    entry, stack = document.text(loc), document.text((*loc[:2], "name")) or ""
    found = ssh_keys.read_entry(entry, document.base) if entry is not None else ssh_keys.KeyLines((), ())
    for fault in found.faults:
        document.report(fault.text, loc, **fault.values)
    for line in found.lines:
        owner = owners.setdefault(_bare(line), stack)
        if not owner:
            document.report(messages.DEPLOY_KEY_ADMIN, loc)
        elif owner != stack:
            document.report(messages.DEPLOY_KEY_TAKEN, loc, owner=owner, stack=stack)
    return list(found.lines)


_BRANCH: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?"


def _is_branch(name: str) -> bool:
    """Whether Git has branches of this name; of plain characters, words between slashes."""
    parts = name.split("/")
    return all(re.fullmatch(_BRANCH, one) and ".." not in one and not one.endswith(".lock") for one in parts)


def _bare(line: str) -> str:
    """A key without its comment."""
    return " ".join(line.split()[:2])


def _check_host(document: Document) -> None:
    """What of the host's own sections does not go with deploy keys."""
    if document.text(("admin", "name")) == facts.DEPLOY_LOGIN:
        document.report(messages.DEPLOY_ADMIN, ("admin", "name"))
    allowed = [document.text(loc) or "" for loc in document.items(("ssh", "allow_from"))]
    if allowed and _WORLD not in allowed and all(map(_is_network, allowed)):
        document.report(messages.DEPLOY_ALLOW, ("ssh", "allow_from"))


def _is_network(text: str) -> bool:
    try:
        rules.network(text)
    except rules.RuleError:
        return False
    return True


def added(document: Document, stacks: Iterable[Stack], keys: Mapping[int, tuple[str, ...]]) -> tuple[Stack, ...]:
    """The stacks with their keys; they are in the order of the spec."""
    return tuple(
        replace(stack, deploy=_deploy(document, index, stack, keys[index])) if index in keys else stack
        for index, stack in enumerate(stacks)
    )


def _deploy(document: Document, index: int, stack: Stack, lines: tuple[str, ...]) -> Deploy:
    place: Loc = ("stacks", index, "deploy", "git")
    branch = document.text(place)
    if branch is None:
        return Deploy(lines)
    if not stack.builds:
        document.report(messages.DEPLOY_GIT, place)
    directories = ((one.name, _directory(document, one.build.context)) for one in stack.services if one.build)
    return Deploy(lines, branch, tuple(directories))


def _directory(document: Document, context: Path) -> str:
    """As seen from the spec, without the steps up: a repository has what is above the spec at its root."""
    parts = Path(os.path.relpath(context, document.base)).parts
    return "/".join(part for part in parts if part != "..")
