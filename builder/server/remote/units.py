"""Starting and stopping a stack's services."""

from __future__ import annotations

from typing import Final

from builder.server.remote import common
from builder.server.remote.common import RemoteError, Value

# Seconds: an image may have to be pulled, as long as its unit waits for that.
_LIMIT: Final = 1000


def services(action: str, stack: str, service: str = "") -> Value:
    """restart, stop or start a whole stack, or one service of it; returns how each unit stands afterwards."""
    user = common.stack_user(stack)
    units = {name: unit for _, name, unit in common.services(stack) if service in ("", name)}
    if not units:
        names = ", ".join(name for _, name, _ in common.services(stack))
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {names}")
    if action == "stop":
        _sockets(user, "stop", units)
    common.as_user(user, ["systemctl", "--user", action, *units.values()], limit=_LIMIT)
    if action != "stop":
        _sockets(user, "start", units)
    return {name: common.show(unit, "ActiveState", user=user).get("ActiveState") for name, unit in units.items()}


def _sockets(user: str, action: str, units: dict[str, str]) -> None:
    """A stopped service must not be started again by its next request: its socket goes with it."""
    sockets = [f"er-ingress-{name}.socket" for name in units]
    there = [name for name in sockets if common.show(name, "LoadState", user=user).get("LoadState") == "loaded"]
    if there:
        common.as_user(user, ["systemctl", "--user", action, *there])
