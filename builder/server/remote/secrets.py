"""Secrets: Podman's, of the stack's own user. Values come by stdin and go to Podman by stdin.

What a service reads from a variable may be made of other secrets when it starts (/usr/lib/easyrunner/secret): then
those are what it needs, and what is made of them is nobody's to set.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets as randomness
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, locks, sleepers
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.server.remote.common import Value

_SECRET: Final = re.compile(r"^Secret=([^,\s]+)", re.MULTILINE)
# The name of what is made, and of all that it is made of.
_MADE: Final = re.compile(rf"^ExecStartPre={facts.LIB}/secret ([^,\s]+),(\S+) ", re.MULTILINE)


def secret_list(stack: str) -> list[Value]:
    """Name, whether it is set, when it was set, and which services use it. Never a value."""
    existing, needed = _existing(stack), _needed(stack)
    return [
        {"name": name, "set": name in existing, "updated": existing.get(name, ""), "services": needed.get(name, [])}
        for name in sorted({*existing, *needed} - {name for name, _ in _made(stack)})
    ]


def secret_set(stack: str) -> Value:
    """Set all of the secrets on stdin, or none: JSON, by name the value in base64. Services that name one restart."""
    user, values = common.stack_user(stack), _values()
    _check(stack, values)
    with locks.stack(stack, "er server secret set"):
        existing = _existing(stack)
        old = {name: _read(user, name) for name in values if name in existing}
        try:
            for name, value in values.items():
                _create(user, name, value, replace=True)
        except RemoteError as error:
            _put_back(user, values, old)
            raise RemoteError(f"{error}; the secrets are as before", error.hint) from None
        return {
            "set": [{"name": name, "replaced": name in old} for name in values],
            **_restart(stack, user, values),
        }


def _values() -> dict[str, bytes]:
    try:
        return {name: base64.b64decode(value) for name, value in json.load(sys.stdin.buffer).items()}
    except (ValueError, AttributeError, binascii.Error):
        raise RemoteError("what came through was cut short, nothing was set", "try again") from None


_LARGEST: Final = 512_000  # Podman's own limit, in bytes


def _check(stack: str, values: Mapping[str, bytes]) -> None:
    """What can be known before the first of them is set."""
    if empty := [name for name, value in values.items() if not value]:
        raise RemoteError(f"without a value: {', '.join(empty)}; nothing was set", "give it by prompt, --file or stdin")
    if large := [name for name, value in values.items() if len(value) >= _LARGEST]:
        raise RemoteError(f"too large for Podman, which takes less than 512 kB: {', '.join(large)}; nothing was set")
    for name, sources in _made(stack):
        if name in values:
            raise RemoteError(f"{name} is made of other secrets; nothing was set", f"set {', '.join(sources)}")


def _read(user: str, name: str) -> bytes:
    """The bytes of a secret, which are put back when another one cannot be set."""
    script = 'podman secret inspect --showsecret --format "{{.SecretData}}" "$1" | base64 -w0'
    text = common.as_user(user, ["sh", "-c", script, "sh", name], timeout=common.PODMAN_TIMEOUT)
    return base64.b64decode(text).removesuffix(b"\n")


def _create(user: str, name: str, value: bytes, *, replace: bool) -> None:
    """Without `replace` Podman refuses a name that is taken, also where that was a moment ago."""
    common.as_user(user, ["podman", "secret", "create", *(["--replace"] if replace else []), name, "-"], stdin=value)


def _put_back(user: str, names: Iterable[str], old: Mapping[str, bytes]) -> None:
    for name in names:
        if name in old:
            _create(user, name, old[name], replace=True)
        else:
            common.as_user(user, ["podman", "secret", "rm", name], check=False)


def secret_generate(stack: str, *names: str) -> Value:
    """Random values, 64 hexadecimal digits, for these secrets or for all that the stack waits for; none is replaced."""
    common.stack_user(stack)
    with locks.stack(stack, "er server secret generate"):
        return _generate(stack, *names)


def _generate(stack: str, *names: str) -> Value:
    user, needed, existing = common.stack_user(stack), _needed(stack), _existing(stack)
    if unknown := [name for name in names if name not in needed]:
        hint = f"they name: {', '.join(sorted(needed)) or 'none'}"
        raise RemoteError(f"no service of {stack} names {', '.join(unknown)}; nothing was generated", hint)
    wanted = dict.fromkeys(names or sorted(needed))
    new = [name for name in wanted if name not in existing]
    for name in new:
        _create(user, name, randomness.token_hex(32).encode(), replace=False)
    return {
        "generated": new,
        "kept": [name for name in wanted if name in existing],
        **_restart(stack, user, new),
    }


def _restart(stack: str, user: str, names: Iterable[str]) -> dict[str, list[str]]:
    """A secret is read when a container is created; a service that needs another secret too goes on waiting.

    Who is `asleep` reads it when it wakes, and is not among those `restarted`.
    """
    needed, asleep = _needed(stack), sleepers.asleep(stack)
    every = dict.fromkeys(service for name in names for service in needed.get(name, []))
    services = [service for service in every if service not in asleep]
    units = [unit for _, service, unit in common.services(stack) if service in services]
    if units:
        common.as_user(user, ["systemctl", "--user", "reset-failed", *units], check=False)
        common.as_user(user, ["systemctl", "--user", "--no-block", "restart", *units])
        common.look_again()
    return {"restarted": services, "asleep": [service for service in every if service in asleep]}


def secret_rm(stack: str, name: str) -> Value:
    """Remove a secret; services that run keep its value until they restart."""
    user = common.stack_user(stack)
    with locks.stack(stack, "er server secret rm"):
        existing = _existing(stack)
        if name not in existing:
            known = ", ".join(sorted(existing)) or "none"
            raise RemoteError(f"the stack {stack} has no secret {name}", f"it has: {known}")
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
    for service, text in _units(stack):
        made = dict(_MADE.findall(text))
        sources = (name for names in made.values() for name in names.split(","))
        for name in dict.fromkeys((*_SECRET.findall(text), *sources)):
            if name not in made:
                found.setdefault(name, []).append(service)
    return found


def _made(stack: str) -> Iterator[tuple[str, list[str]]]:
    """Each secret that is made of others when a service starts, and those."""
    for _, text in _units(stack):
        for name, sources in _MADE.findall(text):
            yield name, sources.split(",")


def _units(stack: str) -> Iterator[tuple[str, str]]:
    """The services of a stack and their Quadlets."""
    for _, service, unit in common.services(stack):
        for file in Path(facts.QUADLETS).glob(f"*/{unit.removesuffix('.service')}.container"):
            yield service, file.read_text()


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
