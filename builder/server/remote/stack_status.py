"""One stack as who deploys it sees it: its services, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, readiness, release_record, sleepers
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from builder.server.remote.common import Value


def stack_status(stack: str) -> Value:
    """The state of each service of a stack, and the image that the spec names; times are in seconds."""
    user = common.stack_user(stack)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    sleeping = sleepers.of_stack(stack)
    units = [
        {
            "service": service,
            "public": sleeping[service].unit.is_public if service in sleeping else kind in common.PUBLIC,
            "image": release_record.of_spec(stack, service),
            **common.unit(unit, user, uptime),
            "sleep": sleeping[service].as_value() if service in sleeping else None,
        }
        for kind, service, unit in common.services(stack)
    ]
    return {"stack": stack, "services": units}


# Lines of a log that one answer may have.
_MOST: Final = 5000


def stack_logs(stack: str, lines: str, service: str = "") -> Value:
    """What a stack says, or one service of it: the newest `lines`, at most 5,000 of them."""
    user = common.stack_user(stack)
    names = [name for _, name, _ in common.services(stack)]
    if service and service not in names:
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {', '.join(names)}")
    argv = ["journalctl", f"--namespace=+{facts.JOURNAL}", "-q", "--no-pager", "--no-hostname"]
    argv += [f"--lines={min(int(lines), _MOST)}", f"_UID={common.uid(user)}"]
    chosen = [service] if service else names
    argv += [f"_SYSTEMD_USER_UNIT={unit}" for name in chosen for unit in readiness.units_of(stack, name)]
    return {"text": common.run(argv, check=False)}
