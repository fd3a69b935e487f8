"""What of a host's data travels, listed; and paths opened step by step.

Stacks own what lies in their directories, and may swap any of it for a link at any moment: each step of a path is
opened by itself and no link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import shared_certificates
from builder.server.remote.common import RemoteError
from builder.server.remote.images import image_storage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# What comes is put together here, on the file system on which it is to be; nobody but root reaches it.
INCOMING: Final = Path(facts.DATA, ".incoming")
# What runs on writes to its database: a whole copy of it stands for that one.
BANS: Final = "fail2ban/fail2ban.sqlite3"
BANS_COPY: Final = Path(facts.STATE, "move", "fail2ban.sqlite3")
KINDS: Final = {stat.S_IFDIR: "d", stat.S_IFREG: "f", stat.S_IFLNK: "l", stat.S_IFIFO: "p"}
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def free() -> int:
    """How many bytes may be written to the data's file system without touching what has to stay free."""
    return image_storage.free(facts.DATA)


def listed(*, incoming: bool = False) -> list[list[Any]]:
    """What there is of this host's data, or of what has come so far.

    An entry is path, kind (d, f, l, p, or ? for what cannot travel), mode, uid, gid, size, mtime and ctime in ns, the
    target of a link, and a number that entries of one file with several names share, else 0.
    """
    if incoming:
        return [*_listed(INCOMING)] if INCOMING.is_dir() else []
    return [*_listed(Path(facts.DATA), _travels)]


def _travels(path: str) -> bool:
    """Fail2Ban's database only once there is a copy of it; of images what is in the stores, and not what is kept."""
    if path.startswith("fail2ban/"):
        return path == BANS and BANS_COPY.exists()
    steps = path.split("/")
    return is_data(path) if len(steps) == 1 else steps[::2][:2] != ["stacks", "images"]


def is_data(name: str) -> bool:
    """Whether this is data, of what lies directly in the directory; `format` says what the machine takes up.

    Certificates that hosts share are no host's own.
    """
    others = {"lost+found", *([Path(facts.CADDY_DATA).name] if shared_certificates.source() else [])}
    return not name.startswith((".", "format")) and name not in others


def _listed(root: Path, travels: Callable[[str], bool] = bool) -> Iterator[list[Any]]:
    top = os.open(root, DIRECTORY)
    try:
        for path, there, link in _walk(top, "", travels):
            found = BANS_COPY.stat() if path == BANS and root != INCOMING else there
            kind = KINDS.get(stat.S_IFMT(found.st_mode), "?")
            size = found.st_size if kind == "f" else 0
            number = found.st_ino if kind == "f" and found.st_nlink > 1 else 0
            owner = [stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid]
            yield [path, kind, *owner, size, found.st_mtime_ns, found.st_ctime_ns, link, number]
    finally:
        os.close(top)


def _walk(directory: int, prefix: str, travels: Callable[[str], bool]) -> Iterator[tuple[str, os.stat_result, str]]:
    """Everything below an open directory: path, what lstat(2) says, target of a link. What goes meanwhile is left."""
    for name in sorted(os.listdir(directory)):
        path = prefix + name
        if not travels(path):
            continue
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if stat.S_ISSOCK(found.st_mode):
                continue  # who listens makes it anew
            link = os.readlink(name, dir_fd=directory) if stat.S_ISLNK(found.st_mode) else ""
            yield path, found, link
            if stat.S_ISDIR(found.st_mode):
                with opened(directory, name, DIRECTORY) as below:
                    yield from _walk(below, f"{path}/", travels)


@contextlib.contextmanager
def opened(directory: int, name: str, flags: int, mode: int = 0o600) -> Iterator[int]:
    """A file of an open directory; a link raises NotADirectoryError."""
    try:
        file = os.open(name, flags, mode, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(*error.args) from None
        raise
    try:
        yield file
    finally:
        os.close(file)


class Tree:
    """A directory in which paths are opened step by step; the last parent stays open, as entries come in order."""

    def __init__(self, root: Path) -> None:
        self._root = os.open(root, DIRECTORY)
        self._open: tuple[str, int] | None = None

    def parent(self, path: str) -> tuple[int, str]:
        """The open directory of a path, and the name in it. Raises OSError where a step is a link or is missing."""
        above, _, name = path.rpartition("/")
        if not name or {*path.split("/")} & {"", ".", ".."} or "\0" in path:
            raise RemoteError(f"{path!r} is no path of data")
        if self._open is None or self._open[0] != above:
            self.close_parent()
            self._open = (above, self._descend(above))
        return self._open[1], name

    def _descend(self, path: str) -> int:
        current = os.dup(self._root)
        for step in path.split("/") if path else ():
            try:
                below = os.open(step, DIRECTORY, dir_fd=current)
            finally:
                os.close(current)
            current = below
        return current

    def close_parent(self) -> None:
        """Before a directory may become another one."""
        if self._open is not None:
            os.close(self._open[1])
            self._open = None
