"""What a machine does to its disk, event by event: every program that starts, every file that is made.

The kernel asks before it goes on (fanotify's permission events, see fanotify(7) and linux/fanotify.h), so the process
that would do the next step waits until it is let go: a point of a boot can be stopped at exactly.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from builder.problems import UserError
from tests.machine.cuts.points import Counter, name

if TYPE_CHECKING:
    from types import TracebackType

Kind = Literal["runs", "makes"]
_CLASS_CONTENT: Final = 0x4
_CLOEXEC: Final = 0x1
_UNLIMITED_QUEUE: Final = 0x10
_ADD: Final = 0x1
_FILE_SYSTEM: Final = 0x100
_OPEN: Final = 0x00010000
_EXEC: Final = 0x00040000
_ALLOW: Final = 1
_CWD: Final = -100
# struct fanotify_event_metadata and fanotify_response.
_EVENT: Final = struct.Struct("=IBBHQii")
_ANSWER: Final = struct.Struct("=iI")
_LIBC: Final = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Event:
    """A process, by its command line, is about to run `path`, or has made it and written nothing yet.

    `seconds` are since the watch began.
    """

    seconds: float
    kind: Kind
    path: str
    command: str


class Watch:
    """Sees every event of the file system that `tree` is on; the process whose event `stop` names stays in it."""

    def __init__(self, tree: Path, *, stop: str = "") -> None:
        self.events: list[Event] = []
        self.reached = threading.Event()
        self._tree = tree
        self._stop = stop
        self._counter = Counter()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._start = time.monotonic()

    def __enter__(self) -> Self:
        self._notices = _checked(_LIBC.fanotify_init(_CLASS_CONTENT | _CLOEXEC | _UNLIMITED_QUEUE, os.O_RDONLY))
        self._wakes, self._wake = os.pipe()
        what = ctypes.c_uint64(_OPEN | _EXEC)
        _checked(_LIBC.fanotify_mark(self._notices, _ADD | _FILE_SYSTEM, what, _CWD, os.fsencode(self._tree)))
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._wake)
        self._thread.join()
        # Whoever still waits is let go by this.
        os.close(self._notices)
        os.close(self._wakes)

    def _work(self) -> None:
        # The machine waits for this thread at every file that it opens; another's work must not come between.
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        poll = select.poll()
        for number in (self._notices, self._wakes):
            poll.register(number, select.POLLIN | select.POLLHUP)
        while True:
            if any(number == self._wakes for number, _ in poll.poll()):
                return
            try:
                self._answer(os.read(self._notices, 65536))
            except OSError:
                # The disk is gone: nothing on it can be opened any more, here neither.
                return

    def _answer(self, notices: bytes) -> None:
        at = 0
        while at < len(notices):
            length, *_, mask, file, process = _EVENT.unpack_from(notices, at)
            at += length
            try:
                held = self._note(mask, file, process)
                if not held:
                    os.write(self._notices, _ANSWER.pack(file, _ALLOW))
            finally:
                os.close(file)

    def _note(self, mask: int, file: int, process: int) -> bool:
        """Whether this is the event to stop at."""
        kind: Kind = "runs" if mask & _EXEC else "makes"
        if kind == "makes" and (os.fstat(file).st_size or process == os.getpid()):
            return False
        event = Event(
            time.monotonic() - self._start, kind, str(Path(f"/proc/self/fd/{file}").readlink()), _command(process)
        )
        self.events.append(event)
        if self._counter.next(name(event)) != self._stop:
            return False
        self.reached.set()
        return True


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _checked(result: int) -> int:
    if result < 0:
        raise UserError(f"the kernel does not tell what a file system is used for: {os.strerror(ctypes.get_errno())}")
    return result
