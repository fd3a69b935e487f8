"""Writing files for the user, and the state of a host: a power cut leaves the old or the new one, never half of either.

A regular file is replaced: written aside, flushed to disk, renamed. A link is followed, its target is what is replaced
or made. A device or a pipe is written to. `-`, /dev/stdout and the like are this process's own descriptors. What cannot
be written is one OutputError: the path, the rule, the way out. This module runs on a host too: standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Target = str | Path
    Reporter = Callable[[str], object]

STDOUT: Final = "-"
_LINKS: Final = 40
# How long a named pipe that nobody reads is waited for, in seconds.
READER_TIMEOUT: Final = 60.0
_ELSEWHERE: Final = "give another place, or `-` for stdout"
# What the system says, the rule in words, and the way out.
_RULES: Final = {
    errno.EISDIR: ("names a directory, and a file is to be written", "give a file name, in it or elsewhere"),
    errno.ENOTDIR: ("a file stands where a directory is needed", "give another name, or move that file away"),
    errno.EACCES: ("you may not write there", f"{_ELSEWHERE}; or run it as who may"),
    errno.EPERM: ("you may not write there", f"{_ELSEWHERE}; or run it as who may"),
    errno.EROFS: ("its file system is read-only", _ELSEWHERE),
    errno.ENOSPC: ("no space is left there", f"free some, or {_ELSEWHERE}"),
    errno.EDQUOT: ("your quota there is used up", f"free some, or {_ELSEWHERE}"),
    errno.EFBIG: ("it would be larger than a file may be there", _ELSEWHERE),
    errno.ELOOP: ("its links lead in a circle", "remove the link, or give another name"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter one"),
    errno.EBUSY: ("something is mounted there, so it cannot be replaced", _ELSEWHERE),
    errno.ENXIO: ("nobody reads that pipe", "start its reader, or give a file name"),
    errno.EPIPE: ("its reader went away before the end", "look at what the reader says"),
    errno.EBADF: ("it is not open for writing", "give a file name"),
}
_SOCKET: Final = ("is a socket, which cannot be written to as a file", _ELSEWHERE)


class OutputError(UserError):
    """Something cannot be written."""


def write(target: Target, content: bytes, mode: int | None = None, *, report: Reporter = str) -> None:
    """Write all of `content` or raise OutputError; missing directories are made.

    `mode` is exact; without, an old file's is kept, and a new one gets what the umask leaves of 0644. `report` gets a
    line when a pipe has to wait for its reader.
    """
    with explained(target):
        destination = _destination(target)
        if isinstance(destination, Path) and _is_regular(destination):
            replace(destination, content, mode)
        else:
            with _opened(destination, report) as stream:
                stream.write(content)


def stream(target: Target, mode: int, *, report: Reporter = str) -> IO[bytes]:
    """A stream for what is written as it comes, such as a log: a regular file is begun anew, with exactly this mode."""
    with explained(target):
        destination = _destination(target)
        if not isinstance(destination, Path) or not _is_regular(destination):
            return _opened(destination, report)
        replace(destination, b"", mode)
        return destination.open("wb")


def move(source: Path, target: Target, *, report: Reporter = str) -> None:
    """A finished file goes to its path, whole or not at all; into a device or pipe its content goes."""
    with explained(target):
        destination = _destination(target)
        if isinstance(destination, Path) and _is_regular(destination):
            _move(source, destination)
            return
        with source.open("rb") as content, _opened(destination, report) as into:
            shutil.copyfileobj(content, into)
        source.unlink()


def check(target: Target) -> None:
    """Raise the OutputError that can be foreseen before hours of work; nothing is written or made."""
    with explained(target):
        destination = _destination(target)
        if isinstance(destination, int):
            return
        if not destination.exists():
            directory = next(parent for parent in destination.parents if parent.exists())
            _check_directory(directory)
            return
        if _is_regular(destination):
            _check_directory(destination.parent)
        if not os.access(destination, os.W_OK):
            raise PermissionError(errno.EACCES, "")


def is_stream(target: Target) -> bool:
    """Whether it is a descriptor, device or pipe, and no file that is replaced. Raises OutputError."""
    with explained(target):
        destination = _destination(target)
        return isinstance(destination, int) or not _is_regular(destination)


def is_terminal(target: Target) -> bool:
    """Whether somebody would look at it. Raises OutputError."""
    with explained(target):
        destination = _destination(target)
        return isinstance(destination, int) and os.isatty(destination)


def is_stdout(target: Target) -> bool:
    """Whether it is where data goes anyway. Raises OutputError."""
    with explained(target):
        return _destination(target) == 1


def replaces(target: Target) -> bool:
    """Whether there is a regular file of which nothing would be left. Raises OutputError."""
    return not is_stream(target) and Path(target).exists()


def directory(target: Target) -> Path:
    """The directory of that name, its links followed; it may be missing. Raises OutputError for anything else."""
    with explained(target):
        if str(target) == STDOUT:
            raise _refusal(target, ("is stdout, and a directory is to be written", "give the name of a directory"))
        path = Path(target)
        if path.exists() and not path.is_dir():
            way = "give the name of a directory"
            raise _refusal(target, ("is no directory, and a directory is to be written", way))
        return Path(os.path.realpath(path))


def replace(
    path: Path,
    content: bytes,
    mode: int | None = None,
    *,
    owner: tuple[int, int] | None = None,
    name: str | None = None,
) -> None:
    """The file of exactly this path: what stands there is replaced, and a link is not followed. Raises OSError."""
    with aside(path, mode, owner=owner, name=name) as stream:
        stream.write(content)


@contextmanager
def aside(
    path: Path, mode: int | None = None, *, owner: tuple[int, int] | None = None, name: str | None = None
) -> Iterator[IO[bytes]]:
    """A new file beside `path`, which takes its place at the end of the block, on disk by then. Raises OSError.

    `mode` and `owner` (user, group) are exact; without, an old file's are kept. `name` is the new file's own till then,
    where one process writes at a time: what a power cut has left of it is removed.
    """
    old = path.lstat() if path.is_file() and not path.is_symlink() else None
    if old and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "")
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(name or f".er-new-{secrets.token_hex(8)}")
    if name:
        new.unlink(missing_ok=True)
    initial_mode = 0o644 if old is None and mode is None else 0o600
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, initial_mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            _set_owner_and_mode(descriptor, old, mode, owner)
            os.fsync(descriptor)
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Flush a directory, that is the names in it, to disk; one that may not be read is left alone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explained(target: Target) -> Iterator[None]:
    """An OSError becomes an OutputError about `target`, but for a BrokenPipeError of stdout, whose reader left."""
    try:
        yield
    except BrokenPipeError:
        if _is_stdout(target):
            raise
        raise _explain(OSError(errno.EPIPE, ""), target) from None
    except OSError as error:
        raise _explain(error, target) from error


def _explain(error: OSError, target: Target) -> OutputError:
    """The system's refusal in words; `target` is what the user called it."""
    text, hint = _RULES.get(error.errno or 0, (error.strerror or str(error), None))
    if str(target) == STDOUT:
        return OutputError(f"stdout: {text}", "look where stdout leads")
    return OutputError(f"{target}: {text}", hint)


def _is_stdout(target: Target) -> bool:
    try:
        return _destination(target) == 1
    except (OSError, OutputError):
        return False


def _refusal(target: Target, rule: tuple[str, str]) -> OutputError:
    text, hint = rule
    return OutputError(f"{target}: {text}", hint)


def _destination(target: Target) -> int | Path:
    """A descriptor of this process, or the path that the links lead to."""
    if str(target) == STDOUT:
        return 1
    path = Path(target)
    if not path.name or str(target).endswith("/"):
        raise IsADirectoryError(errno.EISDIR, "")
    with contextlib.suppress(FileNotFoundError):
        # The kernel's own judgement comes first: of loops, and of links that others laid in a shared directory.
        path.stat()
    own = (Path("/dev/fd"), Path("/proc/self/fd").resolve())
    for _ in range(_LINKS):
        path = path.parent.resolve() / path.name
        if path.name.isdigit() and path.parent in own:
            return int(path.name)
        if not path.is_symlink():
            return _checked(path, target)
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, "")


def _checked(path: Path, target: Target) -> Path:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "")
    if path.is_socket():
        raise _refusal(target, _SOCKET)
    return path


def _is_regular(path: Path) -> bool:
    return path.is_file() or not path.exists()


def _check_directory(path: Path) -> None:
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "")
    if not os.access(path, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "")


def _set_owner_and_mode(
    descriptor: int, old: os.stat_result | None, mode: int | None, owner: tuple[int, int] | None
) -> None:
    """Owner, then mode: a change of owner takes bits away."""
    if owner:
        os.fchown(descriptor, *owner)
    elif old:
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, old.st_uid, old.st_gid)
    if mode is None and old:
        mode = stat.S_IMODE(old.st_mode)
    if mode is not None:
        os.fchmod(descriptor, mode)


def _move(source: Path, path: Path) -> None:
    with source.open("r+b") as content:
        if path.parent.exists() and path.parent.stat().st_dev == source.stat().st_dev:
            _set_owner_and_mode(content.fileno(), path.stat() if path.exists() else None, None, None)
            os.fsync(content.fileno())
            source.replace(path)
            sync(path.parent)
            return
        with aside(path) as stream:
            shutil.copyfileobj(content, stream)
    source.unlink()


def _opened(destination: int | Path, report: Reporter) -> IO[bytes]:
    if isinstance(destination, Path):
        return os.fdopen(_open(destination, report), "wb")
    if destination == 1 and sys.stdout is not None:
        # What is still buffered comes first.
        sys.stdout.flush()
    return os.fdopen(os.dup(destination), "wb")


def _open(path: Path, report: Reporter) -> int:
    """A device at once; a pipe that nobody reads yet is waited for, not for ever and not without a word."""
    deadline, waiting = time.monotonic() + READER_TIMEOUT, False
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno != errno.ENXIO or not path.is_fifo() or time.monotonic() > deadline:
                raise
        else:
            os.set_blocking(descriptor, True)
            return descriptor
        if not waiting:
            report(f"{path}: nobody reads this pipe yet; waiting {READER_TIMEOUT:.0f} s for its reader")
            waiting = True
        time.sleep(0.05)
