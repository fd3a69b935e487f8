"""The data of a host, sent and received: what `er server move` needs of rsync, by the standard library alone.

`move-send` writes records to stdout, `move-receive` takes them from stdin. A record is
a line of JSON, and of a file the bytes of its extents. Stacks own what lies in their directories, and may swap any of
it for a link at any moment: each step of a path is opened by itself and no link is followed, neither by who reads nor
by who writes.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import fcntl
import hashlib
import json
import os
import signal
import stat
import sys
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn

from builder import facts
from builder.server.remote.common import RemoteError
from builder.server.remote.move.data_list import BANS, BANS_COPY, DIRECTORY, INCOMING, KINDS, Tree, free, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.server.remote.common import Value

# Of a large file that is there already, blocks of so many bytes are compared and only those that differ are sent.
BLOCK: Final = 1 << 18
_CHUNK: Final = 1 << 20
_FILE: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


# Who reads.


def move_send() -> None:
    """Write a record for each path that stdin names as a JSON list: path, path of its first name, digests of blocks."""
    tree, out = Tree(Path(facts.DATA)), sys.stdout.buffer
    count = 0
    for path, first, blocks in json.load(sys.stdin.buffer):
        try:
            _send(tree, out, path, first, blocks)
            count += 1
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has gone since; the next pass knows
    _write_header(out, {"end": count})
    out.flush()
    raise SystemExit(0)


def _write_header(out: IO[bytes], value: Value) -> None:
    out.write(json.dumps(value).encode() + b"\n")


def _send(tree: Tree, out: IO[bytes], path: str, first: str, blocks: list[str] | None) -> None:
    directory, name = tree.parent(path)
    found = BANS_COPY.stat() if path == BANS else os.stat(name, dir_fd=directory, follow_symlinks=False)
    kind = KINDS.get(stat.S_IFMT(found.st_mode))
    if kind is None:
        return
    header = {"path": path, "kind": kind, **_attributes(found)}
    if first:
        _write_header(out, {"path": path, "kind": "h", "to": first})
    elif kind == "l":
        _write_header(out, {**header, "to": os.readlink(name, dir_fd=directory)})
    elif kind == "p":
        _write_header(out, header)
    elif kind == "d":
        with opened(directory, name, DIRECTORY) as file:
            _write_header(out, {**header, **_attributes(os.fstat(file)), "xattrs": _xattrs(file)})
    elif path == BANS:
        with BANS_COPY.open("rb") as copy:
            _send_file(out, copy.fileno(), path, None)
    else:
        with opened(directory, name, os.O_RDONLY | _FILE) as file:
            _send_file(out, file, path, blocks)


def _attributes(found: os.stat_result) -> Value:
    return {"mode": stat.S_IMODE(found.st_mode), "owner": [found.st_uid, found.st_gid], "mtime": found.st_mtime_ns}


def _send_file(out: IO[bytes], file: int, path: str, blocks: list[str] | None) -> None:
    """Its extents; where `blocks` are known there, those that differ. What it is cut by meanwhile is sent as zeros."""
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode):
        return
    extents = [*_extents(file, found.st_size)] if blocks is None else _differing(file, found.st_size, blocks)
    header = {"path": path, "kind": "f", **_attributes(found), "size": found.st_size, "xattrs": _xattrs(file)}
    _write_header(out, {**header, "keep": blocks is not None, "extents": extents})
    for start, length in extents:
        done = 0
        while done < length:
            wanted = min(length - done, _CHUNK)
            done += out.write(os.pread(file, wanted, start + done) or bytes(wanted))


def _extents(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of what is no hole."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError:
            return  # ENXIO: only a hole is left
        end = min(os.lseek(file, start, os.SEEK_HOLE), size)
        if start >= end:
            return
        yield start, end - start


def _differing(file: int, size: int, known: list[str]) -> list[tuple[int, int]]:
    found = enumerate(_digests(file, size))
    return [
        (number * BLOCK, min(BLOCK, size - number * BLOCK))
        for number, digest in found
        if number >= len(known) or known[number] != digest
    ]


def _digests(file: int, size: int) -> Iterator[str]:
    for start in range(0, size, BLOCK):
        yield hashlib.blake2b(os.pread(file, min(BLOCK, size - start), start), digest_size=16).hexdigest()


def _xattrs(file: int) -> dict[str, str]:
    """Extended attributes, access control lists and file capabilities among them; values in Base64."""
    try:
        return {name: base64.b64encode(os.getxattr(file, name)).decode() for name in os.listxattr(file)}
    except OSError:
        return {}  # the file system has none


# Who writes.


def move_blocks() -> dict[str, list[str]]:
    """The digests of the blocks of what has come already, by path, of the paths that stdin names."""
    tree, found = Tree(INCOMING), {}
    for path in json.load(sys.stdin.buffer):
        with contextlib.suppress(OSError):
            directory, name = tree.parent(path)
            with opened(directory, name, os.O_RDONLY | _FILE) as file:
                found[path] = [*_digests(file, os.fstat(file).st_size)]
    return found


def remove(paths: Iterable[str]) -> None:
    """Remove what has come and is there no more; a directory comes after what is in it."""
    tree = Tree(INCOMING)
    for path in paths:
        directory, name = tree.parent(path)
        with contextlib.suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                tree.close_parent()
                directory, name = tree.parent(path)
                os.rmdir(name, dir_fd=directory)
            else:
                os.unlink(name, dir_fd=directory)


def move_receive() -> Value:
    """Take records from stdin until the last one; how many there were, and their bytes. Raises RemoteError."""
    try:
        with _alone(), _ends_in_silence():
            return _Receiver(sys.stdin.buffer).run()
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise RemoteError(f"writing what came failed: {error}") from None
        raise RemoteError(NO_ROOM, NO_ROOM_HINT) from None


# Seconds without a byte, after which a transfer is over and the next one may begin.
_SILENCE: Final = 120


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One transfer at a time. Raises RemoteError."""
    with (BANS_COPY.parent / "receiving").open("wb") as lock:
        deadline = time.monotonic() + _SILENCE + 15
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RemoteError("another er server move sends to this server", "wait for its end") from None
                time.sleep(0.2)
            else:
                break
        yield


@contextlib.contextmanager
def _ends_in_silence() -> Iterator[None]:
    """A connection that has died is not waited for: each chunk sets the alarm anew. Raises RemoteError."""

    def give_up(*_: object) -> NoReturn:
        raise RemoteError(f"nothing came for {_SILENCE} s", _CUT_HINT)

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_SILENCE)
    yield
    signal.alarm(0)


NO_ROOM: Final = "the disk of the new server is too small for the data, or has become full meanwhile"
NO_ROOM_HINT: Final = "give it a larger disk; what has come is removed by: er server move OLD NEW --back"
_CUT: Final = "the connection was cut"
_CUT_HINT: Final = "the same command goes on where it stopped"


class _Receiver:
    """Writes records below INCOMING, where only root's own writing is."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._tree = Tree(INCOMING)
        self._bytes = 0
        self._directories: list[Value] = []

    def run(self) -> Value:
        """All records; attributes of directories come last, as what is written into them changes those."""
        count = 0
        while line := self._source.readline():
            try:
                record = json.loads(line)
            except ValueError:
                break
            if "end" in record:
                signal.alarm(0)
                self._finish_directories()
                os.sync()
                return {"entries": record["end"], "bytes": self._bytes}
            self._take(record)
            signal.alarm(_SILENCE)
            count += 1
        raise RemoteError(_CUT, _CUT_HINT)

    def _take(self, record: Value) -> None:
        directory, name = self._tree.parent(record["path"])
        kind = record["kind"]
        if kind == "d":
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=directory)
            self._directories.append(record)
        elif kind == "f":
            self._write_file(directory, name, record)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            self._make(directory, name, record)

    def _make(self, directory: int, name: str, record: Value) -> None:
        """A link, a further name of a file, or a pipe."""
        if record["kind"] == "h":
            tree = Tree(INCOMING)
            other, first = tree.parent(record["to"])
            # The first name may have gone before it was sent: the next pass has both.
            with contextlib.suppress(FileNotFoundError):
                os.link(first, name, src_dir_fd=other, dst_dir_fd=directory, follow_symlinks=False)
            tree.close_parent()
            return
        if record["kind"] == "l":
            os.symlink(record["to"], name, dir_fd=directory)
        elif record["kind"] == "p":
            os.mkfifo(name, 0o600, dir_fd=directory)
        else:
            raise RemoteError(f"{record['kind']!r} is no kind of file that travels")
        uid, gid = record["owner"]
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if record["kind"] == "p":
            os.chmod(name, record["mode"], dir_fd=directory)
        times = (record["mtime"], record["mtime"])
        os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)

    def _write_file(self, directory: int, name: str, record: Value) -> None:
        flags = os.O_RDWR | os.O_CREAT | _FILE
        if not record["keep"] or self._has_other_names(directory, name):
            # Written anew, as another name of the same file may not be one any more.
            if record["keep"]:
                raise RemoteError(f"{record['path']} has become another file meanwhile", _CUT_HINT)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name, dir_fd=directory)
            flags |= os.O_EXCL
        with opened(directory, name, flags) as file:
            os.ftruncate(file, record["size"])
            for start, length in record["extents"]:
                self._write_extent(file, start, length)
            _set_attributes(file, record)

    def _has_other_names(self, directory: int, name: str) -> bool:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_nlink > 1

    def _write_extent(self, file: int, start: int, length: int) -> None:
        while length:
            chunk = self._source.read(min(length, _CHUNK))
            if not chunk:
                raise RemoteError(_CUT, _CUT_HINT)
            if free() < len(chunk):
                raise RemoteError(NO_ROOM, NO_ROOM_HINT)
            signal.alarm(_SILENCE)
            rest = memoryview(chunk)
            while rest:
                written = os.pwrite(file, rest, start)
                rest, start = rest[written:], start + written
            self._bytes += len(chunk)
            length -= len(chunk)

    def _finish_directories(self) -> None:
        for record in reversed(self._directories):
            directory, name = self._tree.parent(record["path"])
            with opened(directory, name, DIRECTORY) as file:
                _set_attributes(file, record)


def _set_attributes(file: int, record: Value) -> None:
    """Owner first, as a change of that takes set-user-ID and capabilities away; the mode after access control lists."""
    uid, gid = record["owner"]
    os.fchown(file, uid, gid)
    wanted = {name: base64.b64decode(value) for name, value in record["xattrs"].items()}
    for name in {*_xattrs(file)} - {*wanted}:
        os.removexattr(file, name)
    for name, value in wanted.items():
        os.setxattr(file, name, value)
    os.fchmod(file, record["mode"])
    os.utime(file, ns=(record["mtime"], record["mtime"]))
