"""A new machine of a spec and a repository alone: the data comes from the backup before anything starts, once.

easyrunner-restore.service runs it before first boot starts the proxy and the stacks, for as long as not all is there.
What has data already is left alone, so it may be cut anywhere and run again; what comes is whole before it is switched.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, locks, shared_certificates
from builder.server.remote.backup import backup, restic, restore, snapshot_files
from builder.server.remote.backup.restored_data import Beside
from builder.server.remote.common import RemoteError
from builder.server.remote.images import kept_images

if TYPE_CHECKING:
    from builder.server.remote.common import Value

_TURN: Final = 600.0


def restore_first() -> Value:
    """The data of the host and of every stack that has none, from the newest snapshots. Raises RemoteError."""
    with locks.backup("the restore of a new machine", _TURN):
        there = {one["stack"] for one in restic.snapshots()}
        if not there:
            raise RemoteError(
                f"the repository {restic.settings()['repository']} has no snapshot of {restic.host_name()}",
                f"is server.name the old one's? for a server that begins empty: sudo touch {facts.RESTORED}",
            )
        errors = [error for name in backup.included() if (error := _bring(name, name in there))]
    if errors:
        raise RemoteError("; ".join(errors))
    for stack in common.stacks():
        kept_images.take(stack, _say)
    files.replace(Path(facts.RESTORED), json.dumps({"at": int(time.time())}).encode() + b"\n", 0o644)
    return {}


def _bring(name: str, known: bool) -> str:
    """Restore one; what went wrong, or nothing."""
    if not known:
        _say(f"{name}: there is no snapshot, it begins empty")
        return ""
    try:
        said = _bring_host() if name == restic.HOST else _bring_stack(name)
    except (RemoteError, OSError) as error:
        hint = getattr(error, "hint", None)
        _say(f"{name} has not come from the backup: {error}" + (f"; {hint}" if hint else ""))
        return f"{name}: {error}"
    _say(f"{name}: {said}")
    return ""


def _say(text: str) -> None:
    """A line in the journal, and on the console."""
    line = f"easyrunner: {text}"
    sys.stderr.write(f"{line}\n")
    try:
        Path("/dev/console").write_text(f"{line}\r\n")
    except OSError:
        return


_HAS: Final = "it has data already, which stays"


def _bring_stack(stack: str) -> str:
    beside = Beside.of_stack(stack)
    if any(_entries(beside.live / name) for name in ("volumes", "files", "secrets")):
        return _HAS
    found = snapshot_files.plan(stack)
    snapshot_files.check_room(found["bytes"], found["free"])
    beside.begin()
    paths = restore.prepare(stack, beside, found, lambda phase: _say(f"{stack}: {phase}"))
    _take(beside, paths, found)
    return _dated(found)


def _bring_host() -> str:
    beside = Beside.of_host()
    own = shared_certificates.host_data()
    if facts.CADDY_DATA in own and _entries(Path(facts.CADDY_DATA)):
        return _HAS
    found = snapshot_files.choose(restic.snapshots(restic.HOST), restic.HOST, "")
    beside.begin()
    snapshot_files.fetch(found["id"], facts.DATA, beside.tree)
    units = ["fail2ban.service"]
    common.run(["systemctl", "stop", *units])
    try:
        names = [Path(path).name for path in own]
        _take(beside, [name for name in names if (beside.tree / name).is_dir()], {"snapshot": found["id"], **found})
    finally:
        common.run(["systemctl", "start", "--no-block", *units])
    return _dated(found)


def _take(beside: Beside, paths: list[str], found: Value) -> None:
    """The restored takes the place of what is empty."""
    beside.note(paths, snapshot=found["snapshot"], at=found["at"], by="er user-data --restore")
    beside.switch(forward=True)
    beside.remove()


def _dated(found: Value) -> str:
    return f"restored as it was at {time.strftime('%Y-%m-%d %H:%M', time.gmtime(found['at']))} UTC"


def _entries(path: Path) -> list[Path]:
    return list(path.iterdir()) if path.is_dir() else []
