"""The files, users and packages of an image, from outside or on the running system. No link leads out of it."""

from __future__ import annotations

import os
import stat
from bisect import bisect_left
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

# What is not on a disk; and where container images lie, whose files belong to other users and other systems.
_NOT_DISK: Final = frozenset({"/proc", "/sys", "/dev"})
_STORAGE: Final = "/containers/storage"
_MEMORY: Final = frozenset(
    {"autofs", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "mqueue"}
    | {"hugetlbfs", "nsfs", "proc", "pstore", "ramfs", "securityfs", "sysfs", "tmpfs", "tracefs"}
)
_LINKS: Final = 40
_NO_LOGIN: Final = frozenset({"nologin", "false", "sync", "halt", "shutdown"})


class User(NamedTuple):
    """A row of passwd(5)."""

    name: str
    password: str
    uid: int
    gid: int
    home: str
    shell: str

    @property
    def may_login(self) -> bool:
        """Whether the shell lets anybody in; an empty one is /bin/sh."""
        return self.shell.rpartition("/")[2] not in _NO_LOGIN


class Entry(NamedTuple):
    """A file of any kind, by its absolute path in the image."""

    path: str
    stat: os.stat_result

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.stat.st_mode)

    @property
    def directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.stat.st_mode)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.stat.st_size


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that the host's baked part has: octal mode with a leading 0, names of owner and group, SHA-256 in hex."""

    path: str
    mode: str
    owner: str
    group: str
    sha256: str


class Tree:
    """The files below `root`. `live` is for the running system, whose memory file systems are not the image's.

    `expected` are the baked files where they are known. Paths that go in and out are absolute paths in the image.
    """

    def __init__(self, root: Path, *, live: bool = False, expected: tuple[Expected, ...] = ()) -> None:
        self.root = root
        self.live = live
        self.expected = expected

    def where(self, path: str) -> Path:
        """The path on this machine of a path in the image; links on the way are followed within the image."""
        todo = list(reversed(PurePosixPath(path).parts[1:]))
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop()
            real = self.root.joinpath(*done, part)
            if part == "..":
                done = done[:-1]
            elif links < _LINKS and real.is_symlink():
                links += 1
                target = real.readlink()
                done = [] if target.is_absolute() else done
                todo += [piece for piece in reversed(target.parts) if piece != "/"]
            else:
                done.append(part)
        return self.root.joinpath(*done)

    def exists(self, path: str) -> bool:
        """Whether something is there, a link that leads nowhere included."""
        return os.path.lexists(self._unfollowed(path))

    def link(self, path: str) -> str | None:
        """What a symbolic link says, or None for anything else."""
        real = self._unfollowed(path)
        return str(real.readlink()) if real.is_symlink() else None

    def content(self, path: str, limit: int = 1 << 20) -> bytes:
        """The first `limit` bytes of a regular file; nothing for anything else."""
        real = self.where(path)
        if not real.is_file():
            return b""
        with real.open("rb") as stream:
            return stream.read(limit)

    def text(self, path: str) -> str:
        """The content as text."""
        return self.content(path).decode(errors="replace")

    def lines(self, path: str) -> list[str]:
        """The lines that are neither empty nor comments."""
        stripped = (line.strip() for line in self.text(path).splitlines())
        return [line for line in stripped if line and not line.startswith("#")]

    def children(self, folder: str, pattern: str = "*") -> list[str]:
        """The paths of a directory's entries whose names match; none when it is no directory."""
        real = self.where(folder)
        names = sorted(path.name for path in real.iterdir()) if real.is_dir() else []
        return [f"{folder.rstrip('/')}/{name}" for name in names if fnmatch(name, pattern)]

    def _unfollowed(self, path: str) -> Path:
        parent, _, name = path.rpartition("/")
        return self.where(parent or "/") / name

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Every file of the image, by path; what is not on its disk and container storage are left out."""
        return tuple(sorted(self._walk("")))

    @cached_property
    def _paths(self) -> list[str]:
        return [entry.path for entry in self.entries]

    def below(self, *folders: str) -> Iterator[Entry]:
        """The entries below these directories, they themselves left out."""
        for folder in folders:
            # "0" follows "/" in ASCII: from "dir/" to "dir0" is all that lies below "dir".
            first, last = (bisect_left(self._paths, f"{folder}{end}") for end in "/0")
            yield from self.entries[first:last]

    def files(self, *folders: str) -> Iterator[Entry]:
        """The regular files below these directories."""
        return (entry for entry in self.below(*folders) if entry.regular)

    def _walk(self, folder: str) -> Iterator[Entry]:
        try:
            names = sorted(path.name for path in Path(f"{self.root}{folder}/").iterdir())
        except FileNotFoundError:
            return  # A running system takes directories away meanwhile.
        for name in names:
            path = f"{folder}/{name}"
            try:
                entry = Entry(path, Path(f"{self.root}{path}").lstat())
            except FileNotFoundError:
                continue
            yield entry
            if entry.directory and not self._is_skipped(path):
                yield from self._walk(path)

    def _is_skipped(self, path: str) -> bool:
        return path in self._not_disk or path.endswith(_STORAGE)

    @cached_property
    def _not_disk(self) -> frozenset[str]:
        return _NOT_DISK | (memory_mounts(Path("/proc/self/mountinfo").read_text()) if self.live else frozenset())

    @cached_property
    def users(self) -> tuple[User, ...]:
        """The users of /etc/passwd."""
        return parse_passwd(self.text("/etc/passwd"))

    @cached_property
    def homes(self) -> tuple[str, ...]:
        """Every directory where a user's own files may be: homes of all users, and those without a user any more."""
        named = {user.home for user in self.users if user.home.startswith("/")}
        found = {self.where(home) for home in (*named, "/root", "/etc/skel", *self.children("/home"))}
        relative = {f"/{home.relative_to(self.root)}" for home in found if home.is_dir() and home != self.root}
        return tuple(sorted(relative))

    @cached_property
    def owners(self) -> dict[str, str]:
        """The package that each file came with, by path as it is on a system with a merged /usr."""
        found: dict[str, str] = {}
        for listing in self.children("/var/lib/dpkg/info", "*.list"):
            package = listing.rpartition("/")[2].removesuffix(".list").partition(":")[0]
            for line in self.content(listing, 1 << 26).decode(errors="replace").splitlines():
                found[merged(line)] = package
        for line in self.text("/var/lib/dpkg/status").split("\n\n"):
            found.update(_conffiles(line))
        return found

    def ours(self, path: str) -> bool:
        """Whether a path is the host's own: by the files to expect, or by its name where they are not known."""
        if self.expected:
            return any(file.path == path for file in self.expected)
        return "easyrunner" in path.rpartition("/")[2]

    @cached_property
    def packages(self) -> dict[str, str]:
        """The state of each package that dpkg knows, as `install ok installed`."""
        return dict(_states(self.content("/var/lib/dpkg/status", 1 << 26).decode(errors="replace")))


def parse_passwd(passwd: str) -> tuple[User, ...]:
    """The users of a passwd file, in its order; lines that are none are left out."""
    rows = (line.split(":") for line in passwd.splitlines())
    return tuple(
        User(row[0], row[1], int(row[2]), int(row[3]), row[5], row[6])
        for row in rows
        if len(row) == 7 and row[2].isdigit() and row[3].isdigit()
    )


def merged(path: str) -> str:
    """A path with /usr in front where the merged /usr has it."""
    top = path.split("/", 2)[1] if path.count("/") > 1 else ""
    return f"/usr{path}" if top in {"bin", "sbin", "lib", "lib64", "lib32", "libx32"} else path


def memory_mounts(mountinfo: str) -> frozenset[str]:
    """The mount points of file systems that live in memory, from the text of /proc/self/mountinfo (proc(5))."""
    rows = (line.split() for line in mountinfo.splitlines())
    return frozenset(row[4] for row in rows if row[row.index("-") + 1] in _MEMORY and row[4] != "/")


def _conffiles(stanza: str) -> Iterator[tuple[str, str]]:
    package, _, rest = stanza.removeprefix("Package: ").partition("\n")
    _, found, listing = rest.partition("\nConffiles:\n")
    if found:
        for line in listing.splitlines():
            if not line.startswith(" "):
                return
            yield line.split()[0], package


def _states(status: str) -> Iterator[tuple[str, str]]:
    for stanza in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in stanza.splitlines() if ": " in line and line[:1] != " ")
        if "Package" in fields:
            arch = fields.get("Architecture", "")
            yield f"{fields['Package']}:{arch}", fields.get("Status", "")
