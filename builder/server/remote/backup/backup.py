"""A backup of all stacks: dumps, then the files as they are, stack by stack; then what is old is forgotten.

It runs in easyrunner-backup.service, by its timer or when the admin asks. A snapshot of a stack has two directories:
its data, and /var/lib/easyrunner/backup/STACK, which is root's and emptied afterwards, with `dumps/` and `stack.json`.
What goes wrong with one stack stops no other. Whenever it is cut, the snapshots that were made are whole, and the next
run goes on.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, host_secrets, locks, release_record, services, shared_certificates, sleepers
from builder.server.remote.backup import backup_progress as progress
from builder.server.remote.backup import backup_state, dumps, restic
from builder.server.remote.backup.restic_errors import ResticError, explain
from builder.server.remote.common import RemoteError
from builder.server.remote.images import kept_images

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.server.remote.common import Value

_RUN: Final = Path(facts.RUN, "backup")
# The services of a stack that a backup has stopped, by name of the stack.
_STOPPED: Final = _RUN / "stopped"
# Seconds that somebody else may have the backup, a stack, or the repository, before this gives up.
_TURN, _STACKS_TURN, _LOCK = 6 * 3600.0, 1800.0, 2400.0
# Days between two runs that give room free: it reads and writes the repository.
_PRUNE_DAYS: Final = 7
# The version of stack.json.
FORMAT: Final = 1


# ---- the verbs that somebody asks for


def backup_start(anew: str = "") -> Value:
    """Begin a backup, or join the one that runs; `joined` says which. Raises RemoteError for what it lacks.

    With the word `anew`, another repository than before may be where this host's was.
    """
    restic.settings()
    if missing := host_secrets.missing("backup"):
        ways = "; ".join(f"er server secret set HOST --host {name}" for name in missing)
        raise RemoteError(f"these secrets of the host are not set: {', '.join(missing)}", ways)
    common.keep_code()
    joined = progress.joins()
    if anew:
        backup_state.replace("repository", {})
    if not joined:
        progress.say("starting")
        common.run(["systemctl", "--no-block", "start", progress.UNIT])
    return {"joined": joined, **progress.read()}


def backup_list() -> Value:
    """The `snapshots` in the repository, the newest first, and the `stacks` of which none is there."""
    found = restic.snapshots()
    there = {one["stack"] for one in found}
    return {
        "repository": restic.settings()["repository"],
        "snapshots": found[::-1],
        "without": [name for name in included() if name not in there],
    }


def backup_check(share: str = "") -> Value:
    """Look for damage: of the repository's structure, and of this share of its data in percent, read and decoded."""
    words = ["check", *([f"--read-data-subset={int(share)}%"] if share else [])]
    with locks.backup("er server backup check"):
        done = restic.run(words, accept=(0, 1), patience=60)
    said = [line.strip() for line in f"{done.out}\n{done.err}".splitlines() if line.strip()]
    if done.code != 0 and (error := explain(done, restic.settings()["repository"])).kind:
        raise error
    return {"good": done.code == 0, "said": [] if done.code == 0 else said[-20:]}


def included() -> list[str]:
    """The stacks that are backed up, and `host`."""
    left_out = {name for name, found in restic.settings()["stacks"].items() if found is False}
    return [*(name for name in common.stacks() if name not in left_out), restic.HOST]


# ---- the run


def backup_run() -> Value:
    """Back up every stack; returns the snapshots. Raises RemoteError at the end for all that went wrong."""
    errors: dict[str, str] = {}
    started = time.time()
    try:
        with locks.backup("a backup", _TURN, lambda holder: progress.say("waiting for its turn", holder=holder)):
            errors = _run_all()
    except (RemoteError, OSError) as error:
        errors = {"": f"{error}"}
        _end(started, errors, getattr(error, "hint", None))
        raise
    _end(started, errors, None)
    if errors:
        raise RemoteError("; ".join(f"{stack}: {text}" for stack, text in errors.items()))
    return {stack: found.get("snapshot") for stack, found in backup_state.read()["stacks"].items()}


def _end(started: float, errors: dict[str, str], hint: str | None) -> None:
    run = {"at": int(started), "seconds": int(time.time() - started), "error": errors.get("", ""), "hint": hint or ""}
    backup_state.replace("run", {**backup_state.read()["run"], **run})
    progress.say("failed" if errors else "done", errors=errors, hint=hint, stacks=backup_state.read()["stacks"])


def _run_all() -> dict[str, str]:
    """What went wrong, by stack."""
    recover()
    progress.say("opening the repository")
    _open()
    errors = {stack: error for stack in included() if (error := _back_up(stack))}
    if not restic.settings()["append_only"]:
        progress.say("forgetting what is old")
        try:
            _forget()
        except RemoteError as error:
            errors["what is old"] = str(error)
    return errors


def _open() -> None:
    """Open the repository, or make it where there never was one. Raises RemoteError where another one was before."""
    to = restic.settings()["repository"]
    restic.check_place(to)
    known = backup_state.read()["repository"]
    before = known.get("id") if known.get("to") == to else None
    try:
        found = _repository_id()
    except ResticError as error:
        if error.kind != "missing":
            raise
        if before:
            why = "is what it is on mounted, and the right one?"
            raise RemoteError(f"the repository at {to} is gone; {why}", _ANEW) from None
        restic.run(["init"])
        found = _repository_id()
    if before not in (None, found):
        raise RemoteError(f"another repository is at {to} than before", _ANEW)
    backup_state.replace("repository", {"to": to, "id": found})


_ANEW: Final = "if this is meant: er server backup HOST now --anew"


def _repository_id() -> str:
    return str(json.loads(restic.run(["cat", "config", "--no-lock"]).out)["id"])


def _back_up(stack: str) -> str:
    """Back up one stack and note how it went; what went wrong, or nothing."""
    started = time.time()
    try:
        found, errors = _snapshot(stack)
    except (RemoteError, OSError) as failure:
        found, errors = {}, [str(failure)]
    finally:
        _empty(stack)
    error = "; ".join(errors)
    good = {} if error else {"good_at": int(started)}
    seconds = int(time.time() - started)
    backup_state.update("stacks", stack, at=int(started), seconds=seconds, error=error, **found, **good)
    return error


def _snapshot(stack: str) -> tuple[Value, list[str]]:
    """The snapshot of a stack, and what is wrong with it."""
    wanted = _of_stack(stack)
    if stack == restic.HOST:
        _describe(stack, {})
        return _save(stack, wanted)
    if wanted["stop"]:
        progress.say(f"{stack}: files, while it serves")
        _save(stack, wanted, tag=_FIRST_PASS)
    with locks.stack(stack, "a backup", _STACKS_TURN):
        progress.say(f"{stack}: dumps")
        kept_images.keep(stack)
        made, errors = dumps.dump(stack, wanted["before"], restic.made(_directory(stack)))
        _describe(stack, made)
        if wanted["stop"]:
            progress.say(f"{stack}: files, while it is stopped")
            with _stopped(stack):
                found, more = _save(stack, wanted)
            return found, errors + more
    progress.say(f"{stack}: files")
    found, more = _save(stack, wanted)
    return found, errors + more


_RULE: Final = {"before": {}, "stop": False, "exclude": []}


def _of_stack(stack: str) -> Value:
    """What the spec says of one stack's backups."""
    return restic.settings()["stacks"].get(stack) or _RULE


# ---- files

# The first of two passes is no snapshot of the stack: it brings most of the files while that serves.
_FIRST_PASS: Final = "er-first-pass"  # noqa: S105 - no password


def sources(stack: str) -> list[str]:
    """The directories of a snapshot: where a stack's data is, or what belongs to none; and the one of its dumps."""
    if stack != restic.HOST:
        return [f"{facts.STACK_DATA}/{stack}", str(_directory(stack))]
    return [*shared_certificates.host_data(), str(_directory(stack))]


def _directory(stack: str) -> Path:
    return Path(facts.BACKUPS, stack)


def _save(stack: str, wanted: Value, tag: str = "") -> tuple[Value, list[str]]:
    """What the snapshot is, and what of the files could not be read."""
    tags = tag or f"er,stack={stack}"
    words = ["backup", "--json", f"--host={restic.host_name()}", f"--tag={tags}"]
    words += [f"--exclude={pattern}" for pattern in wanted["exclude"]]
    there = [path for path in sources(stack) if Path(path).exists()]
    summary: Value = {}

    def each(message: Value) -> None:
        if message.get("message_type") == "summary":
            summary.update(message)

    done = restic.run([*words, "--", *there], accept=(0, 3), each=each, patience=_LOCK)
    found = {
        "snapshot": summary.get("snapshot_id", "")[:8],
        "bytes": summary.get("total_bytes_processed", 0),
        "added": summary.get("data_added", 0),
    }
    return found, unreadable(done.err) if done.code else []


def unreadable(said: str) -> list[str]:
    """Files that restic could not read, in a sentence; one that has gone since it was listed is none."""
    lines = [line for line in said.splitlines() if line.strip()]
    lost = [line for line in lines if not re.search(r'no such file|"Err":2\b', line) and "error" in line.lower()]
    lost = [line for line in lost if not re.search("at least one source file could not be read", line)]
    shown = "".join(one for one in lost[0] if one.isprintable())[:200] if lost else ""
    return [f"{len(lost)} files could not be read, as in: {shown}"] if lost else []


def _forget() -> None:
    """Keep what the spec says of each stack; and give room free, now and then."""
    keep = restic.settings()["keep"]
    host = f"--host={restic.host_name()}"
    rules = [f"--keep-{name}={number}" for name, number in keep.items() if number]
    restic.run(["forget", host, "--tag=er", "--group-by=host,tags", *rules], patience=_LOCK)
    if any(_of_stack(stack)["stop"] for stack in included()):
        _forget_first_passes(host)
    run = backup_state.read()["run"]
    due = run.get("pruned", time.time()) + (_PRUNE_DAYS - 0.5) * 86_400
    if time.time() > due:
        progress.say("giving room free")
        restic.run(["prune", "--max-unused=10%"], patience=_LOCK)
    if time.time() > due or "pruned" not in run:
        backup_state.replace("run", {**run, "pruned": int(time.time())})


def _forget_first_passes(host: str) -> None:
    found = json.loads(restic.run(["snapshots", "--json", "--no-lock", host, f"--tag={_FIRST_PASS}"]).out or "null")
    if found:
        restic.run(["forget", *(one["id"] for one in found)], patience=_LOCK)


# ---- what a restore has to know


def _describe(stack: str, made: dict[str, Value]) -> None:
    """Write stack.json: what a restore, and its drill, have to know besides the files."""
    directory = restic.made(_directory(stack))
    value: Value = {"format": FORMAT, "stack": stack, "host": restic.host_name(), "at": int(time.time()), "dumps": made}
    if stack != restic.HOST:
        user = common.stack_user(stack)
        value |= {
            "uid": common.uid(user),
            "services": {name: _image(stack, name) for name in release_record.services(stack)},
        }
    files.replace(directory / "stack.json", json.dumps(value, indent=1).encode(), 0o600)


def _image(stack: str, service: str) -> Value:
    """The image of a service by the spec; and by id and digest the one that runs, or will when it wakes."""
    words = ["podman", "container", "inspect", "--format", "{{.ImageName}} {{.Image}} {{.ImageDigest}}"]
    user, value = common.user_of(stack), {"image": release_record.of_spec(stack, service)}
    said = common.as_user(
        user, [*words, dumps.container(stack, service)], check=False, timeout=common.PODMAN_TIMEOUT
    ).split()
    if not said and service in sleepers.asleep(stack):
        return {**value, **release_record.would_run(stack, service)}
    return {**value, **dict(zip(("name", "id", "digest"), said, strict=False))}


def _empty(stack: str) -> None:
    shutil.rmtree(_directory(stack), ignore_errors=True)


# ---- a stack that is stopped meanwhile


@contextlib.contextmanager
def _stopped(stack: str) -> Iterator[None]:
    """Stop what runs of a stack, and start it again; a boot starts it by itself, and `recover` after anything else."""
    names = services.running(stack)
    _STOPPED.mkdir(mode=0o700, parents=True, exist_ok=True)
    (_STOPPED / stack).write_text(" ".join(names))
    try:
        if names:
            services.act("stop", stack, names)
        yield
    finally:
        _start_again(stack, names)


def _start_again(stack: str, names: Sequence[str]) -> None:
    if names:
        services.act("start", stack, names)
    (_STOPPED / stack).unlink(missing_ok=True)


def recover() -> None:
    """Take away what a run that was killed has left: stacks that it had stopped, and dumps."""
    for note in _STOPPED.glob("*"):
        with locks.stack(note.name, "a backup that was cut off", _STACKS_TURN):
            _start_again(note.name, note.read_text().split())
    for path in Path(facts.BACKUPS).glob("*/stack.json"):
        _empty(path.parent.name)
    for path in Path(facts.BACKUPS).glob("*/dumps"):
        _empty(path.parent.name)


def backup_recover() -> Value:
    """What systemd has done when a run has ended, however that was."""
    recover()
    if progress.read()["phase"] not in facts.APPLY_ENDS:
        _end(time.time(), {"": "it was cut off"}, None)
    return {}
