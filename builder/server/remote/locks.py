"""One lock for the host and one for each stack, for what changes them: the second waits, or is told who holds it.

Who changes one stack holds that stack's lock and shares the host's; who changes the host as a whole (`apply`) holds the
host's alone. Backups, restores and their drill have a lock of their own, as they take long and stop no deploy. The
kernel lets go of them when the process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, held
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class BusyError(RemoteError):
    """Somebody else holds the lock; `holder` says who, and since when."""

    def __init__(self, what: str, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{what} is being changed: {holder}", "wait for its end, then try again")


_DIRECTORY: Final = Path(facts.RUN, "locks")
_HOST: Final = "host"
_BACKUP: Final = "backup"
# The phase of a change that has not begun, because somebody else is at it.
WAITING: Final = "waiting for its turn"
# How long somebody waits who is waited for in turn, in seconds: less than the near side gives a call.
SHORT: Final = 60.0


@contextmanager
def stack(name: str, what: str, seconds: float = SHORT, waits: Callable[[str], None] | None = None) -> Iterator[None]:
    """Change one stack. `what` is shown to others; `waits` is called once with who holds the lock before this waits.

    Raises BusyError when it is not free within so many seconds, and RemoteError where the stacks' data is not there.
    """
    common.check_data()
    deadline = time.monotonic() + seconds
    held.refuse()
    with ExitStack() as locks:
        locks.enter_context(_held(_HOST, fcntl.LOCK_SH, "", deadline, waits))
        locks.enter_context(_held(f"stack-{name}", fcntl.LOCK_EX, what, deadline, waits))
        held.refuse()
        yield


@contextmanager
def host(
    what: str, seconds: float = SHORT, waits: Callable[[str], None] | None = None, *, moves: bool = False
) -> Iterator[None]:
    """Change the host as a whole: no stack is changed meanwhile. Who `moves` it may do so while it is held."""
    with _held(_HOST, fcntl.LOCK_EX, what, time.monotonic() + seconds, waits):
        if not moves:
            held.refuse()
        yield


@contextmanager
def backup(what: str, seconds: float = SHORT, waits: Callable[[str], None] | None = None) -> Iterator[None]:
    """Read what is backed up, change it by a restore, or change the repository: one at a time.

    Held for hours by a first backup, which stops no deploy. Who needs another lock as well takes this one first.
    """
    with _held(_BACKUP, fcntl.LOCK_EX, what, time.monotonic() + seconds, waits):
        yield


@contextmanager
def _held(name: str, kind: int, what: str, deadline: float, waits: Callable[[str], None] | None) -> Iterator[None]:
    _DIRECTORY.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = os.open(_DIRECTORY / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(file, name, kind, deadline, waits)
        if what:
            _write_holder(file, what)
        yield
        if what:
            os.ftruncate(file, 0)
    finally:
        os.close(file)


def _take(file: int, name: str, kind: int, deadline: float, waits: Callable[[str], None] | None) -> None:
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise BusyError(_what(name), holder(name)) from None
        else:
            return
        if waits is not None:
            waits(holder(name))
            waits = None
        time.sleep(0.1)


def _what(name: str) -> str:
    return {_HOST: "the server", _BACKUP: "the backup"}.get(name) or name.removeprefix("stack-")


def _write_holder(file: int, what: str) -> None:
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps({"what": what, "since": int(time.time())}).encode(), 0)


def holder(name: str) -> str:
    """Who holds a lock, and since when; of the host's, when many share it, one of those who change a stack."""
    for path in (_DIRECTORY / name, *(_DIRECTORY.glob("stack-*") if name == _HOST else ())):
        try:
            found = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue
        if _is_free(path):
            continue  # who wrote that was ended before it could take it away
        since = time.strftime("%H:%M:%S", time.gmtime(found["since"]))
        return f"{found['what']}, since {since} UTC"
    return "somebody who has just begun"


def times() -> dict[str, tuple[float, float]]:
    """Of each lock since the boot: from when until when it was held last, in seconds since 1970; perhaps until now."""
    found = {}
    for path in _DIRECTORY.glob("*"):
        since = path.stat().st_mtime
        found[path.name] = (since, since if _is_free(path) else time.time())
    return found


def held_now() -> set[str]:
    """The stacks that somebody is changing; all of them, with the proxy, while the host is being changed."""
    names = {path.name for path in _DIRECTORY.glob("*") if not _is_free(path)}
    if _HOST in names:
        return {"proxy", *common.stacks()}
    return {name.removeprefix("stack-") for name in names if name.startswith("stack-")}


def _is_free(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
