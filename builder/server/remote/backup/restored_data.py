"""What a restore lays beside a stack's data, how the two change places, and what is kept of before.

/var/lib/easyrunner/data/restores/STACK is root's, on the disk of the data:

tree/        what comes from the snapshot, as below data/stacks/STACK; once it has been switched, what was there before
dumps/       the dumps of the snapshot, and its stack.json
record.json  the snapshot, the paths that are switched, and by path the inode of what was restored

A path is switched by one rename(2) that exchanges two names: whatever ends who does it, the old or the new one stands
there whole. Which one does is read from the inode on root's own side, so the record cannot be behind. The path `.` is
all of the stack's data.
"""

from __future__ import annotations

import ctypes
import json
import os
import stat
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple

from builder import facts, files
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.server.remote.common import Value

ALL: Final = "."
"""The path of all of a stack's data."""

# What of the old stays in use where the snapshot has none of it: volumes that are left out of backups, and images.
_CARRIED: Final = ("volumes", "images")
# How long the removal of what was before may take, in seconds.
_REMOVAL: Final = 3600


class Ids(NamedTuple):
    """A stack's own number, and the first of those that its containers' users have."""

    uid: int
    first: int

    @classmethod
    def of_uid(cls, uid: int) -> Ids:
        """The range follows from the number."""
        return cls(uid, (uid - facts.UID_BASE) * facts.SUBID_SIZE)

    def mapped(self, number: int, old: Ids) -> int:
        """The number here of a user or group that was `old`'s; what is of nobody of a stack becomes its own."""
        if old.first <= number < old.first + facts.SUBID_SIZE:
            return self.first + number - old.first
        return self.uid


@dataclass(frozen=True)
class Beside:
    """Where something is restored to, which is root's, and the data that it is for."""

    directory: Path
    live: Path

    @classmethod
    def of_stack(cls, stack: str) -> Beside:
        """Of a stack's data."""
        return cls(Path(facts.RESTORES, stack), Path(facts.STACK_DATA, stack))

    @classmethod
    def of_host(cls) -> Beside:
        """Of what belongs to no stack; no stack has such a name."""
        return cls(Path(facts.RESTORES, ".host"), Path(facts.DATA))

    @property
    def tree(self) -> Path:
        """What is restored; then what was before."""
        return self.directory / "tree"

    @property
    def dumps(self) -> Path:
        """The dumps of the snapshot."""
        return self.directory / "dumps"

    @property
    def _record(self) -> Path:
        return self.directory / "record.json"

    def begin(self) -> None:
        """An empty place that only root enters."""
        self.remove()
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        self.directory.parent.chmod(0o711)
        for path in (self.directory, self.tree, self.dumps):
            path.mkdir(mode=0o700)

    def open_to(self, group: int) -> None:
        """Let the stack's user through, whose containers fill a database; what is in the tree is its own."""
        os.chown(self.directory, 0, group)
        self.directory.chmod(0o710)

    def record(self) -> Value | None:
        """What the last restore has noted, from before its switch on; None where there is none."""
        try:
            found = json.loads(self._record.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def note(self, paths: Sequence[str], **more: object) -> None:
        """Note what is about to be switched, for who has stopped the stack. All of it is on the disk then."""
        inodes = {path: self._inode(path) for path in paths}
        carried = _lacking(self.live, self.tree) if ALL in inodes else []
        with _directory(self.directory) as place:
            _libc.syncfs(place)
        text = json.dumps({**more, "inodes": inodes, "carried": carried}).encode()
        files.replace(self._record, text, 0o600, owner=(0, 0), name=".record.part")

    def is_switched(self) -> bool:
        """Whether the stack has what was restored, all of it."""
        return all(self._is_switched(path, inode) for path, inode in self._inodes().items())

    def is_begun(self) -> bool:
        """Whether the stack has any of what was restored."""
        return any(self._is_switched(path, inode) for path, inode in self._inodes().items())

    def switch(self, *, forward: bool) -> None:
        """Let the stack have what was restored, or what it had before; what is so already is left alone.

        For who has stopped the stack.
        """
        inodes = self._inodes()
        for path, inode in inodes.items():
            if self._is_switched(path, inode) != forward:
                self._exchange(path)
        for path in (self.record() or {}).get("carried", ()):
            self._carry(path)

    def remove(self) -> None:
        """Remove all of it: what is half removed has no record any more."""
        self._record.unlink(missing_ok=True)
        if self.directory.exists():
            common.run(["rm", "-rf", "--one-file-system", "--", str(self.directory)], timeout=_REMOVAL)

    def place_of(self, path: str) -> str:
        """The path to switch for one that is to be restored: where a directory above it is gone, that directory."""
        parts = Path(path).parts
        for count in range(1, len(parts)):
            above = "/".join(parts[:count])
            with ExitStack() as entered:
                try:
                    entered.enter_context(opened(self.live, f"{above}/."))
                except (FileNotFoundError, NotADirectoryError):
                    return above
        return path

    def _inodes(self) -> dict[str, int]:
        found = self.record()
        return found["inodes"] if found else {}

    def _is_switched(self, path: str, inode: int) -> bool:
        try:
            return self._inode(path) != inode
        except FileNotFoundError:
            return True

    def _inode(self, path: str) -> int:
        with self._ours(path) as (place, name):
            return os.lstat(name, dir_fd=place).st_ino

    def _exchange(self, path: str) -> None:
        """One rename; where one side has nothing, the other's goes there."""
        with self._ours(path) as ours, self._theirs(path) as theirs:
            there = [_exists(*ours), _exists(*theirs)]
            if all(there):
                _rename(ours, theirs, _EXCHANGE)
            elif any(there):
                one, other = (ours, theirs) if there[0] else (theirs, ours)
                _rename(one, other, _NO_REPLACE)
            os.fsync(ours[0])
            os.fsync(theirs[0])

    def _carry(self, path: str) -> None:
        """What only the old has goes on as it was, with whichever the stack has now."""
        with opened(self.tree, path) as ours, opened(self.live, path) as theirs:
            if _exists(*ours) and not _exists(*theirs):
                _rename(ours, theirs, _NO_REPLACE)

    def _ours(self, path: str) -> _Opened:
        return opened(self.directory, "tree") if path == ALL else opened(self.tree, path)

    def _theirs(self, path: str) -> _Opened:
        return opened(self.live.parent, self.live.name) if path == ALL else opened(self.live, path)


if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    _Opened = AbstractContextManager[tuple[int, str]]


_libc: Final = ctypes.CDLL(None, use_errno=True)
# Flags of renameat2(2), for which Python has no function.
_NO_REPLACE, _EXCHANGE = 1, 2


def _rename(one: tuple[int, str], other: tuple[int, str], flags: int) -> None:
    if _libc.renameat2(one[0], os.fsencode(one[1]), other[0], os.fsencode(other[1]), flags):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one[1], None, other[1])


def _lacking(old: Path, new: Path) -> list[str]:
    """What the old tree has and the new one has nothing of: paths of volumes and images."""
    found = []
    for top in _CARRIED:
        with ExitStack() as entered:
            try:
                there = [_names(entered.enter_context(_directory(tree / top))) for tree in (old, new)]
            except FileNotFoundError:
                continue
            found += [f"{top}/{name}" for name in sorted(there[0] - there[1])]
    return found


def _names(place: int) -> set[str]:
    with os.scandir(place) as entries:
        return {entry.name for entry in entries}


@contextmanager
def opened(top: Path, path: str) -> Iterator[tuple[int, str]]:
    """The directory that a path below `top` is in, opened without following a link, and the name in it."""
    *above, name = path.split("/")
    with ExitStack() as entered:
        place = entered.enter_context(_directory(top))
        for part in above:
            place = entered.enter_context(_directory(part, place))
        yield place, name


def open_file(top: Path, path: str) -> IO[bytes]:
    """A file below a directory, to read; no link is followed, and nothing waited for."""
    with opened(top, path) as (place, name):
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=place)
    return os.fdopen(file, "rb")


def read_json(top: Path, path: str) -> Any:
    """The value in a JSON file below a directory, up to some size."""
    with open_file(top, path) as stream:
        return json.loads(stream.read(_LARGEST))


_LARGEST: Final = 64 << 20


@contextmanager
def _directory(path: str | Path, above: int | None = None) -> Iterator[int]:
    """A directory, opened; a link that stands in its place is refused."""
    place = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    try:
        yield place
    finally:
        os.close(place)


def _exists(place: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=place)
    except FileNotFoundError:
        return False
    return True


def set_owners(top: Path, own: Ids, old: Ids) -> None:
    """Give all below a directory to a stack's users, which were those of `old`. No link is followed."""
    for _, directories, names, place in os.fwalk(top, follow_symlinks=False):
        for name in (*directories, *names):
            _set_owner(name, place, own, old)


def _set_owner(name: str, place: int, own: Ids, old: Ids) -> None:
    found = os.lstat(name, dir_fd=place)
    owner = own.mapped(found.st_uid, old), own.mapped(found.st_gid, old)
    if owner == (found.st_uid, found.st_gid):
        return
    os.chown(name, *owner, dir_fd=place, follow_symlinks=False)
    # A change of owner takes these bits away.
    if stat.S_ISREG(found.st_mode) and found.st_mode & (stat.S_ISUID | stat.S_ISGID):
        os.chmod(name, stat.S_IMODE(found.st_mode), dir_fd=place)


def checked(path: str) -> str:
    """A path as a user gives it, below a stack's data: `volumes/NAME/…` is in Podman's `_data`. Raises RemoteError."""
    parts = [part for part in path.removeprefix(f"{facts.STACK_DATA}/").split("/") if part not in ("", ".")]
    if not parts or ".." in parts or parts[0] not in ("volumes", "files", "secrets"):
        raise RemoteError(
            f"{path} is nothing of a stack's data", "as in volumes/NAME, volumes/NAME/some/file or files/DIRECTORY"
        )
    if parts[0] == "volumes" and len(parts) > 2 and parts[2] != "_data":
        parts.insert(2, "_data")
    return "/".join(parts)
