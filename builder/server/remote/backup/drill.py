"""A restore that is tried every week: the newest snapshot of each stack, in a place that is thrown away.

Its files are restored by a user of nobody's and compared with the repository; a dump of a database is loaded into its
own image, in a container without a network (`drill_cell`); then a share of the repository is read. What it takes of
space, memory and time is looked at first: what would be too much is skipped, and that is told as well.

It runs in easyrunner-drill.service, in a slice with limits. `er-room` ends that first when the disk fills.
"""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, locks, service_container, status
from builder.server.remote.backup import backup, backup_state, dump_load, dumps, restic, restored_data, snapshot_files
from builder.server.remote.backup.drill_cell import HOME, Cell
from builder.server.remote.backup.restic_errors import Done, explain
from builder.server.remote.common import RemoteError
from builder.server.remote.images import image_storage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.server.remote.common import Value

UNIT: Final = "easyrunner-drill.service"
# On the disk of the system and on that of the data: the roomier one is taken.
_PLACES: Final = tuple(Path(top, facts.DRILLS, "1") for top in (facts.STATE, facts.DATA))
_CURRENT: Final = Path(facts.RUN, "drill-of")
# How long the backup of the night is waited for, and how long a drill may take in all, in seconds.
_TURN, _WITHIN = 6 * 3600.0, 8 * 3600.0
# What has to be free of the memory for files, and as much again for a database, in bytes.
_MEMORY: Final = 192 << 20
# What a restore brings in a second where nothing is known of the last one, in bytes.
_RATE: Final = 4 << 20
# How often a dump's size its database takes, at a guess; and an image while it is brought.
_LOADED, _IMAGE = 3, 2
# So much of the repository is read each week, in bytes; of a larger one another share each week.
_READ: Final = 1 << 30


class TooLittleError(RemoteError):
    """There is too little of something to try it."""


def drill_start() -> Value:
    """Begin a drill, or join the one that runs. Raises RemoteError where there is nothing to try."""
    restic.settings()
    restic.environment()
    common.keep_code()
    common.run(["systemctl", "--no-block", "start", UNIT])
    return {"phase": _STARTING}


def drill_wait(phase: str, seconds: str) -> Value:
    """The state once its phase is another one, or when the time is up: the stack that is tried; at the end `drill`."""
    deadline = time.monotonic() + min(float(seconds), 60)
    while (state := _state())["phase"] == phase and time.monotonic() < deadline:
        time.sleep(0.2)
    return state


_STARTING: Final = "starting"


def _state() -> Value:
    if common.show(UNIT, "ActiveState").get("ActiveState") in {"activating", "deactivating"}:
        try:
            return {"phase": f"trying {_CURRENT.read_text()}"}
        except FileNotFoundError:
            return {"phase": _STARTING}
    tried = backup_state.read()["drill"]
    return {"phase": "done", "drill": {name: tried[name] for name in backup.included() if name in tried}}


def drill_run() -> Value:
    """Try every stack, then read a share of the repository; what was found is in the state, `wrong` is all of that."""
    with locks.backup("a drill of the backup", _TURN):
        deadline = time.monotonic() + _WITHIN
        return {"wrong": {stack: error for stack in backup.included() if (error := _drill(stack, deadline))}}


def drill_recover() -> Value:
    """What systemd has done at the end, however that was: what was restored goes, and what was cut off is told."""
    for place in _PLACES:
        Cell(place).remove()
    if _CURRENT.exists():
        why = "it was ended before its end: the disk was nearly full, or the server went off"
        backup_state.update("drill", _CURRENT.read_text(), at=int(time.time()), error="", skipped=why)
        _CURRENT.unlink()
    return {}


def _drill(stack: str, deadline: float) -> str:
    """Try one stack and note how it went; what is wrong, or nothing."""
    started = time.time()
    _CURRENT.write_text(stack)
    found: Value = {"error": "", "skipped": "", "loaded": []}
    cell = Cell(max(_PLACES, key=lambda place: image_storage.free(place.parents[1])))
    try:
        found |= _try(stack, cell, deadline)
    except TooLittleError as skipped:
        found["skipped"] = str(skipped)
    except (RemoteError, OSError, ValueError, KeyError) as error:
        found["error"] = str(error) or type(error).__name__
    finally:
        cell.remove()
    good = {} if found["error"] or found["skipped"] else {"good_at": int(started)}
    seconds = int(time.time() - started)
    backup_state.update("drill", stack, at=int(started), seconds=seconds, **found, **good)
    _CURRENT.unlink(missing_ok=True)
    sys.stderr.write(f"{stack}: {found['error'] or found['skipped'] or 'restored, as it is in the repository'}\n")
    return str(found["error"])


def _try(stack: str, cell: Cell, deadline: float) -> Value:
    """What was found of a stack's newest snapshot. Raises TooLittleError, or RemoteError with what is wrong."""
    every = restic.snapshots(stack)
    if not every:
        raise TooLittleError("there is no snapshot yet")
    newest = every[-1]
    size = snapshot_files.size_of(newest["id"], _WITHIN)
    _check_means(size, cell, deadline - time.monotonic(), _last(stack))
    cell.make()
    found = {"snapshot": newest["id"][:8], "bytes": size, **_restore(newest, cell, deadline)}
    if stack == restic.HOST:
        return {**found, "read": _read_repository(deadline)}
    loaded = [one for one in _databases(stack, cell) if _load(stack, *one, cell, deadline)]
    return {**found, "loaded": [service for service, _ in loaded]}


def _last(stack: str) -> Value:
    found: Value = backup_state.read()["drill"].get(stack, {})
    return found


# ---- whether it can be tried


def _check_means(size: int, cell: Cell, seconds: float, last: Value) -> None:
    """Space, memory and time for a snapshot of this size. Raises TooLittleError."""
    reason = lacks(
        size,
        free=image_storage.free(cell.directory.parents[1]),
        memory=status.memory()["available"],
        seconds=seconds,
        rate=last["bytes"] / last["seconds"] if last.get("bytes") and last.get("seconds") else _RATE,
    )
    if reason:
        raise TooLittleError(reason)


def lacks(size: int, *, free: int, memory: int, seconds: float, rate: float) -> str:
    """What there is too little of for a snapshot of so many bytes, in a sentence; nothing where it can be tried."""
    mib = 1 << 20
    if size + size // 10 > free:
        return f"the snapshot has {size // mib:,} MiB, and {max(free, 0) // mib:,} are free beside what runs"
    if memory < _MEMORY:
        return f"of the memory {memory // mib} MiB are free, and it takes {_MEMORY // mib}"
    if size / max(rate, 1) > seconds:
        return f"it would take {size / max(rate, 1) / 3600:.1f} hours, and {max(seconds, 0) / 3600:.1f} are left"
    return ""


# ---- files


def _restore(snapshot: Value, cell: Cell, deadline: float) -> Value:
    """Restore all of a snapshot, and read it again; its number of files. Raises RemoteError with what is wrong."""
    words = ["restore", snapshot["id"], f"--target={HOME}/files", "--json", "--verify", "--sparse"]
    done = cell.restic(words, max(60.0, deadline - time.monotonic()))
    if time.monotonic() > deadline:
        raise TooLittleError("it was not restored within the time that a drill has")
    wrong, files = judged(done.returncode, f"{done.stdout}\n{done.stderr}")
    if wrong:
        count = f"{len(wrong)} files are" if len(wrong) > 1 else "a file is"
        raise RemoteError(f"{count} damaged in the repository: {'; '.join(wrong[:3])}")
    if files is None:
        raise explain(Done(done.returncode, done.stdout, done.stderr), restic.settings()["repository"])
    return {"files": files}


# What restic before 0.17 says of a file, with --json as well.
_PLAIN_ERROR: Final = re.compile(r"ignoring error for (\S+): (.*)")


def judged(code: int, said: str) -> tuple[list[str], int | None]:
    """What a restore of restic's found wrong, and how many files it restored: None where it did not come to its end."""
    messages = [one for line in said.splitlines() if (one := _message(line))]
    errors = [one for one in messages if one.get("message_type") == "error"]
    wrong = [text for text in map(snapshot_files.error_text, errors) if not _is_special(text)]
    summary = next((one for one in messages if one.get("message_type") == "summary"), None)
    if summary is None or (code and not errors):
        return wrong, None
    return wrong, int(summary.get("files_restored") or summary.get("total_files") or 0)


def _message(line: str) -> Value:
    """A line as restic says it now; nothing where it is none of its messages."""
    if old := _PLAIN_ERROR.match(line):
        return {"message_type": "error", "error": {"message": old[2]}, "item": old[1]}
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_special(text: str) -> bool:
    """Whether it is about a file that only root can make: it has no content to compare."""
    return ": mknod " in text


# ---- databases


def _databases(stack: str, cell: Cell) -> list[tuple[str, Value]]:
    """The dumps of the snapshot that has been restored, by service."""
    found = restored_data.read_json(_dumps(stack, cell), "stack.json")
    return list(found["dumps"].items())


def _dumps(stack: str, cell: Cell) -> Path:
    return cell.home / "files" / facts.BACKUPS.lstrip("/") / stack


def _load(stack: str, service: str, told: Value, cell: Cell, deadline: float) -> bool:
    """Whether a dump was loaded: one of the spec's own command can only be compared. Raises RemoteError."""
    dump = dumps.of_kind(told["kind"])
    if dump is None:
        return False
    wanted = service_container.container(stack, service)
    _check_load(stack, wanted.image, told["bytes"], cell)
    seconds = max(60.0, deadline - time.monotonic())
    image = cell.bring_image(common.user_of(stack), wanted.image, seconds)
    own = cell.mounts(stack, wanted)
    values = service_container.made_up(wanted)
    try:
        with restored_data.open_file(_dumps(stack, cell), told["file"]) as stream:
            dump_load.load(
                cell.account(), replace(wanted, image=image), dump, stream,
                mounts=own, values=values, name="drill", seconds=seconds, empty=True,
            )  # fmt: skip
    except dump_load.LoadError as error:
        raise RemoteError(f"the dump of {service}: {error}") from None
    return True


def _check_load(stack: str, image: str, dump: int, cell: Cell) -> None:
    """Space and memory for a database. Raises TooLittleError."""
    argv = ["podman", "image", "inspect", "--format", "{{.Size}}", image]
    size = common.as_user(common.user_of(stack), argv, check=False, timeout=common.PODMAN_TIMEOUT).strip()
    if not size.isdigit():
        raise TooLittleError(f"the files are as in the repository; {image}, to load the dump into, is not here")
    reason = lacks(
        _IMAGE * int(size) + _LOADED * dump,
        free=image_storage.free(cell.directory),
        memory=status.memory()["available"] - _MEMORY,
        seconds=_WITHIN,
        rate=_RATE,
    )
    if reason:
        raise TooLittleError(f"the files are as in the repository; to load the dump: {reason}")


# ---- the repository


def _read_repository(deadline: float) -> str:
    """Read a share of what is stored, and all of how it hangs together; which share. Raises RemoteError."""
    total = json.loads(restic.run(["stats", "--json", "--no-lock", "--mode=raw-data"]).out)["total_size"]
    share = share_of(int(total), int(time.time() // (7 * 86_400)))
    words: Sequence[str] = ["--read-data"] if share == "all" else [f"--read-data-subset={share}"]
    done = restic.run(["check", "--no-lock", *words], accept=(0, 1), timeout=max(600.0, deadline - time.monotonic()))
    if done.code:
        lines = [line.strip() for line in f"{done.out}\n{done.err}".splitlines() if line.strip()]
        bad = [dump_load.printable(line) for line in lines if "error" in line.lower() or "damaged" in line.lower()]
        raise RemoteError(f"the repository is damaged: {(bad or lines or ['restic did not say where'])[0]}")
    return share


def share_of(size: int, week: int) -> str:
    """What of a repository of so many bytes is read in a week: all, or `N/OF` in turn."""
    count = min(-(-size // _READ), 256)
    return "all" if count <= 1 else f"{week % count + 1}/{count}"
