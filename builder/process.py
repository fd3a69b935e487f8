"""Other programs: run to the end, started, read line by line; and the signals that end this one.

On the machine that er runs on nothing else starts a process. Unit tests lock it.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn, Self, cast

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType


_CHUNK: Final = 65_536
_PIECE: Final = 1 << 18


class CommandError(UserError):
    """A program ended with a non-zero exit code; keeps the argv, the code and the output."""

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


def feed(
    argv: Sequence[str], chunks: Iterable[bytes], *, timeout: float | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end with stdin handed over piece by piece; output is text. Who does not read on gets no more.

    `timeout` is in seconds, from when the last piece is on its way.
    """
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(list(argv), stdin=subprocess.PIPE, stdout=output, stderr=errors) as running,
    ):
        try:
            with contextlib.suppress(BrokenPipeError), cast("IO[bytes]", running.stdin) as stdin:
                for chunk in chunks:
                    stdin.write(chunk)
            code = running.wait(timeout)
        except BaseException:
            running.kill()
            raise
        texts = [_whole(stream) for stream in (output, errors)]
    return subprocess.CompletedProcess(running.args, code, *texts)


def chunks(
    argv: Sequence[str], stdin: bytes, *, silence: float | None = None
) -> Generator[bytes, None, subprocess.CompletedProcess[str]]:
    """Run, and yield stdout as it comes; returns how it ended, with stderr. Closed before, the program is ended.

    Raises TimeoutExpired when nothing comes for so many seconds of `silence`.
    """
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as errors,
    ):
        given.write(stdin)
        given.seek(0)
        with subprocess.Popen(list(argv), stdin=given, stdout=subprocess.PIPE, stderr=errors) as running:
            stdout = cast("IO[bytes]", running.stdout).fileno()
            try:
                while _comes(stdout, running.args, silence) and (chunk := os.read(stdout, _PIECE)):
                    yield chunk
                code = running.wait()
            except BaseException:
                running.kill()
                raise
        return subprocess.CompletedProcess(running.args, code, "", _whole(errors))


def _comes(stream: int, argv: Any, silence: float | None) -> bool:
    """Once there is something to read, or the end. Raises TimeoutExpired."""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        if silence is not None and not selector.select(silence):
            raise subprocess.TimeoutExpired(argv, silence)
    return True


def into(argv: Sequence[str], target: IO[bytes]) -> None:
    """Run to the end with stdout into a file. Raises CommandError on a non-zero exit."""
    done = subprocess.run(list(argv), stdin=subprocess.DEVNULL, stdout=target, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise CommandError(argv, done.returncode, done.stderr.decode(errors="replace"))


def _whole(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace")


def show(argv: Sequence[str], write: Callable[[str], object]) -> tuple[int, str]:
    """Run with stdout handed to `write` as it comes; returns the exit code and stderr."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as running,
    ):
        try:
            while chunk := os.read(cast("IO[bytes]", running.stdout).fileno(), _CHUNK):
                write(decoder.decode(chunk))
            write(decoder.decode(b"", final=True))
            code = running.wait()
        except BaseException:
            running.kill()
            raise
        errors.seek(0)
        return code, errors.read().decode(errors="replace")


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


def become(argv: Sequence[str]) -> NoReturn:
    """Go on as another program: it has this one's streams, terminal, signals and exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    # Python ignores it, and the next program would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execvp(argv[0], list(argv))  # noqa: S606 - no shell is wanted


# In seconds: how long a read waits for output.
_READ_WAIT: Final = 0.2
# In seconds: how long the kernel may take to end what was killed; only a process stuck in a device takes any.
_KILL_WAIT: Final = 10.0


class Session:
    """A program whose output is read line by line. A context manager: leaving it ends the whole process group."""

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
        self._process = start(
            dies_with_parent(argv), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, cwd=cwd
        )
        self._unread = b""
        self._ended = False

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
        """Standard output and error as they come, until the program has ended; what it leaves running is killed then.

        After `timeout` seconds the iterator just ends. `tick` is called a few times a second, and may raise. May be
        called again, also after an exception: it goes on with the next line.
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
        """Read what is there, waiting a moment for it; False once there will be no more.

        A pipe that is still open though the program has ended is held by a process that it left running.
        """
        if self._process.stdout is None:
            return False
        stream = self._process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            if not selector.select(_READ_WAIT):
                return self._process.poll() is None
        chunk = os.read(stream, _CHUNK)
        self._unread += chunk
        return bool(chunk)

    def signal(self, number: signal.Signals) -> None:
        """Signal the program alone, not what it started."""
        if self._process.poll() is None:
            self._process.send_signal(number)

    def end(self) -> None:
        """Kill the program and its whole group, and wait until they are gone. May be called again.

        Once they are, the number may be another program's, which is left alone.
        """
        deadline = time.monotonic() + _KILL_WAIT
        while not self._ended and time.monotonic() < deadline:
            if not members(self.pid):
                self._ended = self._process.poll() is not None
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
            time.sleep(0.01)


def dies_with_parent(argv: Sequence[str]) -> list[str]:
    """`argv`, ended by SIGTERM when this process dies, however it dies; unchanged where there is no setpriv(1)."""
    return [*(("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()), *argv]


def members(group: int) -> tuple[int, ...]:
    """The living processes of a process group, without zombies."""
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


_ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold back the signals that end a program until the block is done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def terminable() -> Iterator[None]:
    """In the block SIGTERM and SIGHUP raise KeyboardInterrupt as Ctrl-C does, so that `with` and `finally` run."""
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
