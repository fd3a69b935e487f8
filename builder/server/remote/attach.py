"""The second connection of a session: what `session` has prepared, with the streams and the terminal of the connection.

Podman's client alone would end with its connection, and leave the command running in the container.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.server.remote.session import ENV_FILE, JOB

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_SIGNALS: Final = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
# prctl(2): what is orphaned below a process becomes its child. Podman leaves the container's monitor to it.
_PR_SET_CHILD_SUBREAPER: Final = 36
# After the connection is lost: a signal, and how long the command has before the next one, in seconds.
_ENDING: Final = ((signal.SIGHUP, 2.0), (signal.SIGTERM, 8.0), (signal.SIGKILL, 2.0))


def attach() -> None:
    """Run what was prepared in the file that Python was given; the exit code is the command's."""
    path = Path(sys.argv[0])
    with zipfile.ZipFile(path) as archive:
        job = json.loads(archive.read(JOB))
    path.unlink()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    Path("/proc/self/oom_score_adj").write_text(str(job["oom"]))
    woken = _wake_on_signals()
    variables = _env_file(job["env"])
    argv = [f"--env-file=/dev/fd/{variables}" if word == ENV_FILE else word for word in job["argv"]]
    client = subprocess.Popen(argv, pass_fds=(variables,))
    code = _wait(client, woken)
    _end(_in_containers())
    os._exit(code)


def _env_file(env: Mapping[str, str]) -> int:
    """A file in memory with a line for each variable."""
    file = os.memfd_create("er-env", 0)
    os.write(file, "".join(f"{name}={value}\n" for name, value in env.items()).encode())
    return file


def _wake_on_signals() -> int:
    """What becomes readable, with the signal's number, when one arrives."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing)
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    return reading


def _wait(client: subprocess.Popen[bytes], woken: int) -> int:
    """Until the client ends, a signal comes, or nobody reads stdout any more: the connection is lost."""
    ended = os.pidfd_open(client.pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(woken, select.POLLIN)
    poll.register(sys.stdout.fileno(), 0)
    found = dict(poll.poll())
    if ended in found:
        code = client.wait()
        return code if code >= 0 else 128 - code
    return 128 + (os.read(woken, 1)[0] if woken in found else signal.SIGHUP)


def _in_containers() -> list[int]:
    """Processes below this one that are in another PID namespace: the containers', not Podman's own."""
    own = Path("/proc/self/ns/pid").stat().st_ino
    return [pid for pid in _descendants(os.getpid()) if _pid_namespace(pid) not in (own, None)]


def _descendants(top: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # proc_pid_stat(5): after the name, in brackets, stand state and parent.
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if state != "Z":
            children.setdefault(int(parent), []).append(int(path.parent.name))
    found = [*children.get(top, [])]
    for pid in found:
        found += children.get(pid, [])
    return found


def _pid_namespace(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}/ns/pid").stat().st_ino
    except OSError:
        return None


def _end(pids: Sequence[int]) -> None:
    """End processes, harder and harder, in a process of its own: sudo gives this one two seconds after a lost terminal.

    Nothing is left of a command that has ended by itself.
    """
    if not pids or os.fork() != 0:
        return
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):
        os.dup2(null, stream)
    left = [*_opened(pids)]
    for number, seconds in _ENDING:
        left = [one for one in left if _sent(one, number)]
        until = time.monotonic() + seconds
        while left and time.monotonic() < until:
            ended = {one for one, _ in _polled(left, until - time.monotonic())}
            left = [one for one in left if one not in ended]
    os._exit(0)


def _opened(pids: Sequence[int]) -> Iterator[int]:
    for pid in pids:
        try:
            yield os.pidfd_open(pid)
        except OSError:
            continue


def _polled(pidfds: Sequence[int], seconds: float) -> list[tuple[int, int]]:
    poll = select.poll()
    for one in pidfds:
        poll.register(one, select.POLLIN)
    return poll.poll(max(0.0, seconds) * 1000)


def _sent(pidfd: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except OSError:
        return False
    return True
