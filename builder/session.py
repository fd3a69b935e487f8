"""A program read line by line; however it ends, nothing that it started goes on."""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from builder import process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

_LOOK: Final = 0.2
_CHUNK: Final = 65_536
# How long the kernel may take to end what was killed: only a process stuck in a device takes any time.
_LAST: Final = 10.0


class Session:
    """A context manager: leaving it ends the program and all in its process group, whatever became of its parents."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._process = process.start(tied(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd)
        self._unread = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if self._process.stdout is not None:
            self._process.stdout.close()

    @property
    def pid(self) -> int:
        """The program's process id, which is its group's as well."""
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code, negative for the signal that ended it; None while it runs."""
        return self._process.returncode

    def lines(self, *, timeout: float | None = None, tick: Callable[[], None] | None = None) -> Iterator[str]:
        """Standard output and error as they come, until the program has ended; what it leaves running is ended then.

        After `timeout` seconds it just stops. `tick` is called a few times a second, and may raise. May be called
        again, also after an exception: it goes on with the next line.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        more = True
        while more:
            if deadline is not None and time.monotonic() > deadline:
                return
            if tick is not None:
                tick()
            more = self._read()
            yield from self._whole_lines()
        self._process.wait()
        self.end()
        if self._unread:
            line, self._unread = self._unread, b""
            yield line.decode(errors="replace")

    def _whole_lines(self) -> Iterator[str]:
        while b"\n" in self._unread:
            line, _, self._unread = self._unread.partition(b"\n")
            yield line.decode(errors="replace")

    def _read(self) -> bool:
        """Take in what there is, waiting a moment for it; False once there will be no more.

        A pipe that is still open though the program has ended is held by something that it left running.
        """
        if self._process.stdout is None:
            return False
        stream = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(_LOOK):
                return self._process.poll() is None
        chunk = os.read(stream, _CHUNK)
        self._unread += chunk
        return bool(chunk)

    def signal(self, number: signal.Signals) -> None:
        """Signal the program alone, not what it started."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Kill the program and its whole group, and wait until they are gone."""
        deadline = time.monotonic() + _LAST
        while members(self.pid) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
            time.sleep(0.01)


def tied(argv: Sequence[str]) -> list[str]:
    """`argv`, asked to end when this process is killed and can pass nothing on; where the system can do that."""
    return [*(("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()), *argv]


def members(group: int) -> tuple[int, ...]:
    """The living processes of a group; a dead one whose parent has not asked yet is not one of them."""
    proc = Path("/proc")
    if not (proc / "self/stat").exists():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, 0)
            return (group,)
        return ()
    return tuple(int(path.name) for path in proc.glob("[0-9]*") if _in_group(path, group))


def _in_group(path: Path, group: int) -> bool:
    """proc_pid_stat(5): after the name, in brackets, stand state, parent and group."""
    try:
        state, _, found = (path / "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(found) == group and state not in "ZX"
