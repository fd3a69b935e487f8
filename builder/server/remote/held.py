"""A host that is held: its stacks and its proxy do not run and no boot starts them, as `er server move` has it.

HELD is what counts: while it is there, conditions of the units that would start them fail. Everything else here may be
repeated, and is in place before HELD comes, and until it is gone.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from builder.server.remote.common import Value

DIRECTORY: Final = Path(facts.STATE, "move")
HELD: Final = DIRECTORY / "held"
# Not on the disk: a boot ends a trial.
ON_TRIAL: Final = Path(facts.RUN, "on-trial")
_STATE: Final = DIRECTORY / "state.json"
UNIT: Final = "easyrunner-move"
_UNITS: Final = Path("/etc/systemd/system")
_UNIT_FILE: Final = _UNITS / f"{UNIT}.service"
_WANTED: Final = _UNITS / "multi-user.target.wants" / _UNIT_FILE.name
_CODE: Final = DIRECTORY / "code.zip"
_RUN_CODE: Final = "import sys;sys.path.insert(0,sys.argv.pop(1));from builder.server.remote.main import main;main()"
_UNIT_TEXT: Final = f"""\
[Unit]
Description=EasyRunner move
After=local-fs.target network.target
[Service]
Restart=on-failure
RestartSec=1
ExecStart=/usr/bin/python3 -I -c "{_RUN_CODE}" {_CODE} move-run
[Install]
WantedBy=multi-user.target
"""
_CONDITION: Final = f"[Unit]\nConditionPathExists=|!{HELD}\nConditionPathExists=|{ON_TRIAL}\n"
_DROP_IN: Final = "90-moved.conf"
# Besides the managers of the proxy and of the stacks: what starts those, and what writes to the backups of this host.
_OTHERS: Final = ("er-first-boot.service", "easyrunner-backup.service", "easyrunner-drill.service")
# Seconds: a database may take its time to shut down.
_STOP: Final = 1000


def state() -> Value:
    """What a move has left here; empty where there is none."""
    try:
        found = json.loads(_STATE.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def set_state(content: Value) -> None:
    """On the disk when this returns."""
    DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(_STATE, json.dumps(content).encode(), 0o600, owner=(0, 0), name=".state.part")


def forget() -> None:
    """No move has been here."""
    _STATE.unlink(missing_ok=True)


def is_held() -> bool:
    """Whether nothing is to run here."""
    return HELD.exists()


def described() -> str:
    """Why nothing runs here; empty where it does."""
    if not is_held():
        return ""
    found = state()
    where = f"its data has moved to {found.get('to')}" if found.get("phase") == "moved" else "er server move is at it"
    return f"this host is held: {where}"


def refuse() -> None:
    """Nobody changes a host that is held. Raises RemoteError."""
    if is_held():
        away = state().get("phase") == "moved"
        what = "this server was moved to another one" if away else "er server move is at this server"
        raise RemoteError(f"{what}: its stacks are stopped", "to undo that: er server move OLD NEW --back")


def start_unit() -> None:
    """The work of a move goes on in a unit of its own, which a lost connection does not end, nor a boot."""
    DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    if common.archive().exists() and common.archive() != _CODE:
        files.replace(_CODE, common.archive().read_bytes(), 0o600, owner=(0, 0), name=".code.part")
    files.replace(_UNIT_FILE, _UNIT_TEXT.encode(), 0o644, owner=(0, 0))
    _WANTED.parent.mkdir(exist_ok=True)
    if not _WANTED.is_symlink():
        _WANTED.symlink_to(_UNIT_FILE)
    common.run(["sync", "-f", str(_UNITS)])
    common.run(["systemctl", "daemon-reload"])
    common.run(["systemctl", "restart", f"{UNIT}.service"])


def is_working() -> bool:
    """Whether that unit runs."""
    return common.show(f"{UNIT}.service", "ActiveState").get("ActiveState") in {"active", "activating"}


def hold() -> None:
    """From here on no boot starts the proxy or a stack; what runs goes on."""
    for unit in (*_OTHERS, *_managers()):
        files.replace(_UNITS / f"{unit}.d" / _DROP_IN, _CONDITION.encode(), 0o644, owner=(0, 0))
    common.run(["systemctl", "daemon-reload"])
    common.run(["sync", "-f", str(_UNITS)])
    files.replace(HELD, b"", 0o600, owner=(0, 0))


def release() -> None:
    """A boot starts everything again; nothing is started now."""
    HELD.unlink(missing_ok=True)
    if DIRECTORY.exists():
        files.sync(DIRECTORY)
    for path in _UNITS.glob(f"*.d/{_DROP_IN}"):
        path.unlink()
        if not any(path.parent.iterdir()):
            path.parent.rmdir()
    remove_unit()


def remove_unit() -> None:
    """Nothing of a move goes on at the next boot."""
    _WANTED.unlink(missing_ok=True)
    _UNIT_FILE.unlink(missing_ok=True)
    common.run(["systemctl", "daemon-reload"])


def _managers() -> list[str]:
    """The units of the user managers, the proxy's first."""
    return [f"user@{uid}.service" for uid in (facts.PROXY_UID, *common.uids(common.stacks()).values())]


def stop() -> list[str]:
    """Stop the proxy, then all stacks at once, each service with the time it has to end; who did not end in time."""
    common.run(["systemctl", "stop", "er-first-boot.service"], check=False)
    common.run(["systemctl", "stop", f"user@{facts.PROXY_UID}.service"], check=False)
    stacks = [*common.uids(common.stacks())]
    with ThreadPoolExecutor(max(len(stacks), 1)) as pool:
        killed = [one for found in pool.map(_stop_services, stacks) for one in found]
    common.run(["systemctl", "stop", *_managers()], check=False)
    if left := [unit for unit in _managers() if common.show(unit, "ActiveState").get("ActiveState") == "active"]:
        raise RemoteError(f"does not stop: {', '.join(left)}")
    return killed


def _stop_services(stack: str) -> list[str]:
    """The services that systemd had to end; none where the stack's manager does not run."""
    user = common.user_of(stack)
    units = {unit: f"{stack}/{service}" for _, service, unit in common.services(stack)}
    try:
        common.as_user(user, ["systemctl", "--user", "stop", "er-ingress-*.socket"], check=False, timeout=_STOP)
        common.as_user(user, ["systemctl", "--user", "stop", *units], check=False, timeout=_STOP)
        found = [common.show(unit, "Result", user=user).get("Result") for unit in units]
    except RemoteError:
        return []
    return [name for name, result in zip(units.values(), found, strict=True) if result == "timeout"]


def kill() -> None:
    """End the proxy and all stacks at once, whatever they are at."""
    managers = _managers()
    common.run(["systemctl", "kill", "--signal=KILL", *managers], check=False)
    common.run(["systemctl", "stop", *managers], check=False)


def start() -> None:
    """Start the proxy and all stacks."""
    common.run(["systemctl", "reset-failed", *_managers()], check=False)
    common.run(["systemctl", "start", *_managers()], check=False)


def report() -> None:
    """First boot waits for the stacks and says on the console how it went."""
    common.run(["systemctl", "--no-block", "restart", "er-first-boot.service"], check=False)
