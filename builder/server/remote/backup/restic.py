"""Restic: this host's repository of backups, how it is called, what it says when it fails, and its locks.

A repository belongs to one host. A snapshot has the host's name, the tag `er` and the tag `stack=STACK`; what belongs
to no stack (certificates, bans, releases) is that of the stack `host`. Whoever changes the repository, or what a backup
reads, does so inside `locks.backup`.

Passwords and keys are files of root's (host_secrets), or variables of the process: never words of a command line.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final
from urllib.parse import urlsplit

from builder import facts, files
from builder.server.remote import common, host_secrets
from builder.server.remote.backup.restic_errors import Done, ResticError, explain
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from builder.server.remote.common import Value

HOST: Final = facts.BACKUP_HOST
"""The stack of what belongs to none."""

DIRECTORY: Final = Path(facts.BACKUPS)
_CACHE: Final = "/var/cache/easyrunner-restic"
_RUN: Final = Path(facts.RUN, "backup")


def made(path: Path) -> Path:
    """A directory below `DIRECTORY`, or that itself, made with all on the way where it is not there: root's alone."""
    for one in reversed((path, *path.parents)):
        if one.is_relative_to(DIRECTORY):
            one.mkdir(mode=0o700, exist_ok=True)
    return path


def settings() -> Value:
    """What the spec says of backups; see `host/build.py`. Raises RemoteError where it says nothing."""
    try:
        found: Value = json.loads(Path(facts.BACKUP).read_bytes())
    except FileNotFoundError:
        raise RemoteError(
            "the spec of this host has no backup", "write `backup: {to: …}`, then er server apply HOST SPEC"
        ) from None
    return found


def is_configured() -> bool:
    """Whether the spec of this host says where backups go."""
    return Path(facts.BACKUP).exists()


def host_name() -> str:
    """The name under which this host's snapshots are."""
    return common.server_env().get("NAME", "")


# ---- calls


def run(
    words: Sequence[str],
    *,
    accept: Sequence[int] = (0,),
    each: Callable[[Value], None] | None = None,
    stdout: IO[bytes] | None = None,
    patience: float = 0,
    timeout: float | None = None,
) -> Done:
    """Run restic with these words to its end; its options are those that the spec asks for. Raises ResticError.

    `each` gets every message of a call with --json as it comes. `stdout` takes what is printed, as of `dump`. `accept`
    are exit codes that are no failure. A lock of somebody else's is waited for, so many seconds of `patience`; one
    whose holder is gone is removed. `timeout` in seconds, for a call that somebody waits for.
    """
    until = time.monotonic() + patience
    while True:
        try:
            return _call(words, accept, each, stdout, timeout)
        except ResticError as error:
            if error.kind != "locked" or not (remove_dead_locks() or time.monotonic() < until):
                raise
            time.sleep(min(10.0, max(0.0, until - time.monotonic())))


def _call(
    words: Sequence[str],
    accept: Sequence[int],
    each: Callable[[Value], None] | None,
    stdout: IO[bytes] | None,
    timeout: float | None,
) -> Done:
    argv, env = [*base_words(settings()), *words], environment()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        into = subprocess.PIPE if each else (stdout or out)
        try:
            process = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=into, stderr=err, cwd="/")
        except FileNotFoundError:
            raise ResticError("", "restic is not installed", "er server doctor HOST --fix installs it") from None
        try:
            with _known_as_ours(process.pid):
                for message in _messages(process.stdout) if each else ():
                    each(message)  # type: ignore[misc]
                code = _wait(process, timeout)
        finally:
            process.kill()
            process.wait()
        done = Done(code, _text(out), _text(err))
    if code not in accept:
        raise _explained(done, env["RESTIC_REPOSITORY"])
    return done


def _explained(done: Done, repository: str) -> ResticError:
    """The error of a call that has failed; why ssh did not get there, restic may leave unsaid as it ends before it."""
    error = explain(done, repository)
    if error.kind or not repository.startswith("sftp:"):
        return error
    told = explain(Done(done.code, done.out, f"{done.err}\n{_ssh_says()}"), repository)
    return told if told.kind else error


def _ssh_says() -> str:
    """What the ssh of the repository complains of, when it is called alone."""
    # It gives up an address that does not answer before this limit.
    argv = ["timeout", "40", *sftp_command(settings())]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.stderr.decode(errors="replace")


def _wait(process: subprocess.Popen[bytes], timeout: float | None) -> int:
    """The exit code; that of a call that does not end in time is as if it had been killed."""
    try:
        return process.wait(timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def _messages(stdout: IO[bytes] | None) -> Iterator[Value]:
    for line in stdout or ():
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def base_words(backup: Value) -> list[str]:
    """The first words of every call."""
    words = ["restic", f"--cache-dir={_CACHE}", "--cleanup-cache"]
    if backup["bandwidth"]:
        words.append(f"--limit-upload={max(1, round(backup['bandwidth'] * 1_000_000 / 8 / 1024))}")
    if backup["repository"].startswith("sftp:"):
        words += ["-o", f"sftp.command={' '.join(sftp_command(backup))}"]
    return words


def environment() -> dict[str, str]:
    """The variables of a call: where the repository is, and who may open it. Raises RemoteError for a missing secret.

    Without keys of its own, S3 is asked as the server's role.
    """
    backup = settings()
    for name in backup["secrets"]:
        host_secrets.read(name)
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "TMPDIR": "/var/tmp",  # noqa: S108 - of the host, and files have names of restic's own
        "RESTIC_REPOSITORY": backup["repository"],
        "RESTIC_PASSWORD_FILE": str(host_secrets.path("restic-password")),
        "RESTIC_PROGRESS_FPS": "1",
    }
    variables = _VARIABLES.get(backup["repository"].partition(":")[0], {})
    there = {variable: name for variable, name in variables.items() if host_secrets.is_set(name)}
    return {**env, **{variable: host_secrets.read(name).decode().strip() for variable, name in there.items()}}


# The variables that restic reads credentials from, by the kind of the repository.
_VARIABLES: Final = {
    "s3": {"AWS_ACCESS_KEY_ID": "s3-access-key", "AWS_SECRET_ACCESS_KEY": "s3-secret-key"},
    "rest": {"RESTIC_REST_USERNAME": "rest-username", "RESTIC_REST_PASSWORD": "rest-password"},
}


def sftp_command(backup: Value) -> list[str]:
    """The ssh that speaks SFTP with the server of a repository, and takes no other for it."""
    user, host, port = _sftp_place(backup["repository"])
    known = _RUN / "known_hosts" if backup["host_key"] else DIRECTORY / "known_hosts"
    _RUN.mkdir(mode=0o700, parents=True, exist_ok=True)
    made(DIRECTORY)
    if backup["host_key"]:
        known.write_text(f"{f'[{host}]:{port}' if port != facts.SSH else host} {backup['host_key']}\n")
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityFile": host_secrets.path("sftp-key"),
        "UserKnownHostsFile": known,
        # Without a key in the spec, the first one that is seen counts from then on.
        "StrictHostKeyChecking": "yes" if backup["host_key"] else "accept-new",
        "ServerAliveInterval": 30,
        "ConnectTimeout": 30,
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", *words, "-p", str(port), "-l", user, host, "-s", "sftp"]


def _sftp_place(repository: str) -> tuple[str, str, int]:
    """User, host and port of `sftp:USER@HOST:/PATH` or `sftp://USER@HOST:PORT/PATH`."""
    if repository.startswith("sftp://"):
        parts = urlsplit(repository)
        return parts.username or "", parts.hostname or "", parts.port or facts.SSH
    user, _, host = repository.removeprefix("sftp:").partition(":")[0].rpartition("@")
    return user, host, facts.SSH


def check_place(to: str) -> None:
    """Raise RemoteError for a directory that goes with the host: where a disk is to be mounted, and is not."""
    if not to.startswith("/"):
        return
    there = next(path for path in (Path(to), *Path(to).parents) if path.exists())
    if there.stat().st_dev in {Path(place).stat().st_dev for place in ("/", facts.STATE, facts.STACK_DATA)}:
        raise RemoteError(f"{to} lies on a disk of the host's own", "mount another one there: what is it to outlive?")


# ---- snapshots


def snapshots(stack: str = "") -> list[Value]:
    """This host's snapshots, or those of one stack, the oldest first: `id`, `stack`, `at` in seconds, `paths`."""
    tag = f"er,stack={stack}" if stack else "er"
    argv = ["snapshots", "--json", "--no-lock", f"--host={host_name()}", f"--tag={tag}"]
    found = json.loads(run(argv, timeout=FOREGROUND).out or "null") or []
    rows = (
        {"id": one["id"], "stack": stack_of(one), "at": _seconds(one["time"]), "paths": one["paths"]} for one in found
    )
    return sorted((one for one in rows if one["stack"]), key=lambda one: one["at"])


# How long somebody waits for an answer, in seconds: restic itself tries for a quarter of an hour.
FOREGROUND: Final = 100.0


def stack_of(snapshot: Value) -> str:
    """The stack that a snapshot of restic's is of, empty for what is none of ours."""
    tags = snapshot.get("tags") or []
    return next((tag.removeprefix("stack=") for tag in tags if tag.startswith("stack=")), "")


def _seconds(stamp: str) -> float:
    """Seconds since 1970 of a time as Go writes it, with nanoseconds."""
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", stamp)).timestamp()


# ---- locks

# A process of restic holds a lock as long as it lives, and makes it new every five minutes; restic itself takes one
# that is older than this for dead.
_DEAD_AFTER: Final = 1800
_HOLDERS: Final = DIRECTORY / ".holders"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def _known_as_ours(pid: int) -> Iterator[None]:
    """A note of the process, which stays when the power goes: so the lock that is left is known to be ours."""
    note = made(_HOLDERS) / str(pid)
    files.replace(note, json.dumps({"boot": _BOOT.read_text().strip(), "since": time.time()}).encode(), 0o600)
    yield
    note.unlink(missing_ok=True)


def locked_by() -> list[Value]:
    """Each lock of the repository: `time` in seconds, `hostname`, `pid`, and whether its holder is `gone`."""
    found = []
    for name in run(["list", "locks", "--no-lock"], timeout=FOREGROUND).out.split():
        try:
            lock = json.loads(run(["cat", "lock", name, "--no-lock"], timeout=FOREGROUND).out)
        except ResticError:
            continue  # it has just been given up
        lock = {**lock, "time": _seconds(lock["time"])}
        found.append({**lock, "gone": is_gone(lock, time.time(), _note(lock["pid"]), alive=_is_restic(lock["pid"]))})
    return found


def is_gone(lock: Value, now: float, note: Value | None, *, alive: bool) -> bool:
    """Whether the holder of a lock is gone: `note` is ours of a process of that number, `alive` whether one runs.

    Another machine may have this one's name, as the old one has when a new one takes over: its locks are not ours.
    """
    if now - lock["time"] > _DEAD_AFTER:
        return True
    if lock["hostname"] != os.uname().nodename or note is None or lock["time"] < note["since"] - 5:
        return False
    return not alive or note["boot"] != _BOOT.read_text().strip()


def _note(pid: int) -> Value | None:
    try:
        found: Value = json.loads((_HOLDERS / str(pid)).read_bytes())
    except (OSError, ValueError):
        return None
    return found


def _is_restic(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "restic"
    except OSError:
        return False


def remove_dead_locks() -> bool:
    """Remove locks whose holders are gone, and no other; whether any was removed.

    Restic takes a lock of this name for dead whose process is not here, also when it is another machine's; and one for
    alive whose process has left its number to another one.
    """
    locks = locked_by()
    if not any(lock["gone"] for lock in locks):
        return False
    if all(lock["gone"] for lock in locks):
        run(["unlock", "--remove-all"], timeout=FOREGROUND)
    elif all(lock["gone"] or lock["hostname"] != os.uname().nodename or _is_restic(lock["pid"]) for lock in locks):
        run(["unlock"], timeout=FOREGROUND)
    for note in _HOLDERS.glob("*"):
        if not _is_restic(int(note.name)):
            note.unlink(missing_ok=True)
    return len(locked_by()) < len(locks)
