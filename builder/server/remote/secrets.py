"""Secrets: Podman's, of the stack's own user. Values come by stdin and go to Podman by stdin."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from builder.server.remote.common import Value

_SECRET: Final = re.compile(r"^Secret=([^,\s]+)", re.MULTILINE)


def secret_list(stack: str) -> list[Value]:
    """Name, whether it is set, when it was set, and which services use it. Never a value."""
    existing, needed = _existing(stack), _needed(stack)
    return [
        {"name": name, "set": name in existing, "updated": existing.get(name, ""), "services": needed.get(name, [])}
        for name in sorted({*existing, *needed})
    ]


def secret_set(stack: str, name: str) -> Value:
    """Set a secret to all of stdin; services that name it restart."""
    user, value = common.stack_user(stack), sys.stdin.buffer.read()
    if not value:
        raise RemoteError("the value is empty", "give it by prompt, --file or stdin")
    replaced = name in _existing(stack)
    if replaced:
        common.as_user(user, ["podman", "secret", "rm", name])
    common.as_user(user, ["podman", "secret", "create", name, "-"], stdin=value)
    return {"name": name, "replaced": replaced, "restarted": _restart(stack, user, name)}


def _restart(stack: str, user: str, name: str) -> list[str]:
    """A secret is read when a container is created; a service that needs another secret too goes on waiting."""
    services = _needed(stack).get(name, [])
    units = [unit for _, service, unit in common.services(stack) if service in services]
    if units:
        common.as_user(user, ["systemctl", "--user", "reset-failed", *units], check=False)
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])
    return services


def secret_rm(stack: str, name: str) -> Value:
    """Remove a secret; services that run keep its value until they restart."""
    user, existing = common.stack_user(stack), _existing(stack)
    if name not in existing:
        raise RemoteError(f"the stack {stack} has no secret {name}", f"it has: {', '.join(sorted(existing)) or 'none'}")
    common.as_user(user, ["podman", "secret", "rm", name])
    return {"name": name, "services": _needed(stack).get(name, [])}


def missing(stack: str) -> dict[str, list[str]]:
    """The secrets that a stack's services need and that are not set, and those services."""
    needed = _needed(stack)
    existing = _existing(stack) if needed else {}
    return {name: needed[name] for name in sorted(needed.keys() - existing.keys())}


def _needed(stack: str) -> dict[str, list[str]]:
    """Each secret that a stack's services name, and those services."""
    found: dict[str, list[str]] = {}
    for _, service, unit in common.services(stack):
        for file in Path(facts.QUADLETS).glob(f"*/{unit.removesuffix('.service')}.container"):
            for name in _SECRET.findall(file.read_text()):
                found.setdefault(name, []).append(service)
    return found


def _existing(stack: str) -> dict[str, str]:
    """The secrets that a stack has, and when each was set; none where first boot has not made its user yet."""
    user = common.stack_user(stack)
    if not common.uids([stack]):
        return {}
    ids = common.as_user(user, ["podman", "secret", "ls", "--quiet"], timeout=common.PODMAN_TIMEOUT).split()
    if not ids:
        return {}
    text = common.as_user(user, ["podman", "secret", "inspect", *ids], timeout=common.PODMAN_TIMEOUT)
    return {entry["Spec"]["Name"]: entry["UpdatedAt"] for entry in json.loads(text)}
