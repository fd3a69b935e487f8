"""Secrets: Podman's, of the stack's own user. Values come by stdin and go to Podman by stdin."""

from __future__ import annotations

import json
import pwd
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from builder.server.remote.common import Value

# How long Podman has to answer, in seconds; a stack may hold its lock.
_ANSWER: Final = 30
_NAMED: Final = re.compile(r"^Secret=([^,\s]+)", re.MULTILINE)


def needed(stack: str) -> dict[str, list[str]]:
    """Each secret that a stack's services name, and those services."""
    found: dict[str, list[str]] = {}
    for _, service, unit in common.services(stack):
        for file in Path(facts.QUADLETS).glob(f"*/{unit.removesuffix('.service')}.container"):
            for name in _NAMED.findall(file.read_text()):
                found.setdefault(name, []).append(service)
    return found


def there(user: str) -> dict[str, str]:
    """The secrets that a user has, and when each was set; none where first boot has not made the user yet."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return {}
    ids = common.as_user(user, ["podman", "secret", "ls", "--quiet"], limit=_ANSWER).split()
    found = json.loads(common.as_user(user, ["podman", "secret", "inspect", *ids], limit=_ANSWER)) if ids else []
    return {entry["Spec"]["Name"]: entry["UpdatedAt"] for entry in found}


def lacking(stack: str) -> dict[str, list[str]]:
    """The secrets that services wait for."""
    wanted = needed(stack)
    return {name: wanted[name] for name in sorted(set(wanted) - set(there(common.stack_user(stack))))} if wanted else {}


def secret_list(stack: str) -> list[Value]:
    """Name, whether it is there, when it was set, and who uses it. Never a value."""
    have, wanted = there(common.stack_user(stack)), needed(stack)
    return [
        {"name": name, "set": name in have, "updated": have.get(name, ""), "services": wanted.get(name, [])}
        for name in sorted({*have, *wanted})
    ]


def secret_set(stack: str, name: str) -> Value:
    """The value is all of stdin; services that name it are restarted."""
    user, value = common.stack_user(stack), sys.stdin.buffer.read()
    if not value:
        raise RemoteError("the value is empty", "give it by prompt, --file or stdin")
    known = name in there(user)
    if known:
        common.as_user(user, ["podman", "secret", "rm", name])
    common.as_user(user, ["podman", "secret", "create", name, "-"], stdin=value)
    return {"name": name, "replaced": known, "restarted": _restart(stack, user, name)}


def secret_rm(stack: str, name: str) -> Value:
    """Take a secret away; services that run keep theirs until they restart."""
    user = common.stack_user(stack)
    if name not in there(user):
        raise RemoteError(
            f"the stack {stack} has no secret {name}", f"it has: {', '.join(sorted(there(user))) or 'none'}"
        )
    common.as_user(user, ["podman", "secret", "rm", name])
    return {"name": name, "services": needed(stack).get(name, [])}


def _restart(stack: str, user: str, name: str) -> list[str]:
    """A secret is read when a container is made; one that still waits for another secret goes on waiting."""
    services = needed(stack).get(name, [])
    units = [unit for _, service, unit in common.services(stack) if service in services]
    if units:
        common.as_user(user, ["systemctl", "--user", "reset-failed", *units], check=False)
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])
    return services
