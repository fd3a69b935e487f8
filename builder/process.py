"""The one door to other programs. Unit tests lock it."""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn, Self, cast

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType


_CHUNK: Final = 65_536


class CommandError(UserError):
    """A program ended with a failure; keeps the argv, the exit code and the end of what it said."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.output = output
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"{argv[0]} failed with exit code {code}" + (f":\n{tail}" if tail else ""))


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; output is text. Raises CommandError on a non-zero exit when `check`.

    `env` replaces the environment; `timeout` is in seconds.
    """
    done = subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    stdout, stderr = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    if check and done.returncode != 0:
        raise CommandError(argv, done.returncode, stderr or stdout)
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


def show(argv: Sequence[str], write: Callable[[str], object]) -> tuple[int, str]:
    """Run with stdout handed to `write` as it comes; returns the exit code and stderr."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as running,
    ):
        try:
            while chunk := os.read(cast("IO[bytes]", running.stdout).fileno(), _CHUNK):
                write(decoder.decode(chunk))
            write(decoder.decode(b"", final=True))
            code = running.wait()
        except BaseException:
            running.kill()
            raise
        said.seek(0)
        return code, said.read().decode(errors="replace")


def start(
    argv: Sequence[str],
    *,
    stdout: int | None = subprocess.DEVNULL,
    stderr: int | None = subprocess.DEVNULL,
    stdin: int | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that goes on; the caller ends it.

    It gets a session of its own, so Ctrl-C is the caller's to pass on.
    """
    return subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )


_LOOK: Final = 0.2
_CHUNK_session: Final = 65_536
# How long the kernel may take to end what was killed: only a process stuck in a device takes any time.
_LAST: Final = 10.0


class Session:
    """A context manager: leaving it ends the program and all in its process group, whatever became of its parents."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._process = start(tied(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd)
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
        chunk = os.read(stream, _CHUNK_session)
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


_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back the signals that end a program until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that `with` and `finally` run."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = [(number, signal.signal(number, _interrupt)) for number in (signal.SIGTERM, signal.SIGHUP)]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt
