"""The files that an image is built from: those of the context's directory that its ignore file leaves.

What is handed to a program that builds, or sent to the server, has nothing else in it, whichever program it is.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import stat
import tarfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final, Literal

from builder.imagebuild import ignored
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from builder.imagebuild.ignored import Patterns
    from builder.stack.model import Build

# Left out unless the ignore file asks for them by name, as by `!.env`: history, and what holds passwords.
NEVER: Final = (".git", ".env")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, a directory or a symbolic link of a context: `path` from its root, the bits of its mode, its target."""

    path: str
    kind: Literal["file", "directory", "link"]
    mode: int
    size: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True)
class Context:
    """What counts, in order of path. `withheld` are files of secrets that an image may be thought to need."""

    root: Path
    entries: tuple[Entry, ...]
    withheld: tuple[str, ...]

    def digest(self) -> str:
        """Of all names, kinds, modes and contents; not of times and owners, which differ on another machine."""
        found = hashlib.sha256()
        for one in self.entries:
            content = _digest(self.root / one.path) if one.kind == "file" else one.target
            found.update(f"{one.kind}\0{one.mode:o}\0{one.path}\0{content}\0".encode("utf-8", "surrogateescape"))
        return found.hexdigest()

    def copy(self, target: Path) -> None:
        """Lay the files down in a new directory, as links to the same contents where that can be done."""
        target.mkdir(mode=0o700)
        for one in self.entries:
            _lay(self.root / one.path, target / one.path, one)
        for one in reversed(self.entries):
            if one.kind == "directory":
                (target / one.path).chmod(one.mode)

    def write_tar(self, stream: IO[bytes]) -> None:
        """Write the files as a tar archive; they are nobody's in particular."""
        with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            for one in self.entries:
                member = _member(self.root / one.path, one)
                if one.kind == "file":
                    with (self.root / one.path).open("rb") as content:
                        tar.addfile(member, content)
                else:
                    tar.addfile(member)

    def tar(self) -> bytes:
        """The same in memory."""
        buffer = io.BytesIO()
        self.write_tar(buffer)
        return buffer.getvalue()


def _digest(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _lay(source: Path, target: Path, one: Entry) -> None:
    if one.kind == "directory":
        target.mkdir(mode=0o700)
    elif one.kind == "link":
        target.symlink_to(one.target)
    else:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, target, follow_symlinks=False)


def _member(path: Path, one: Entry) -> tarfile.TarInfo:
    member = tarfile.TarInfo(one.path)
    member.mode, member.mtime = one.mode, int(path.lstat().st_mtime)
    if one.kind == "directory":
        member.type = tarfile.DIRTYPE
    elif one.kind == "link":
        member.type, member.linkname = tarfile.SYMTYPE, one.target
    else:
        member.size = one.size
    return member


def read(build: Build) -> Context:
    """The files of a build's context that count. Raises UserError for one that cannot be read."""
    root = build.context.resolve()
    own = None if build.inline is not None else build.context / build.containerfile
    file = ignored.find(build.context, own)
    rules = _Rules(ignored.Patterns(ignored.read(file) if file else ()), frozenset(_inside(root, build.never)))
    found = tuple(sorted(_walk(root, "", rules), key=lambda one: one.path))
    return Context(root, found, tuple(rules.withheld_of(root)))


def _inside(root: Path, files: tuple[Path, ...]) -> list[str]:
    found = (path.resolve() for path in files)
    return [path.relative_to(root).as_posix() for path in found if path.is_relative_to(root)]


@dataclass(frozen=True, slots=True)
class _Rules:
    """What the ignore file says, and the files that the spec knows to hold secrets."""

    patterns: Patterns
    never: frozenset[str]

    def keeps(self, path: str) -> bool:
        """Whether it counts."""
        return not self.patterns.ignores(path) and not self.withholds(path)

    def withholds(self, path: str) -> bool:
        """Whether it may hold passwords, and no pattern asks for it by its name."""
        return (path.rpartition("/")[2] in NEVER or path in self.never) and not self.patterns.asks_for(path)

    def withheld_of(self, root: Path) -> Iterator[str]:
        """Files of the root, or that the spec names, which an image may be thought to have."""
        for path in dict.fromkeys((".env", *sorted(self.never))):
            if (root / path).is_file() and self.withholds(path) and not self.patterns.ignores(path):
                yield path


def _walk(root: Path, directory: str, rules: _Rules) -> Iterator[Entry]:
    try:
        children = sorted(os.scandir(root / directory), key=lambda child: child.name)
    except OSError as error:
        raise _unreadable(directory or ".", error) from None
    for child in children:
        path = f"{directory}/{child.name}" if directory else child.name
        kept, is_directory = rules.keeps(path), child.is_dir(follow_symlinks=False)
        if is_directory and (kept or (rules.patterns.may_keep_below(path) and not rules.withholds(path))):
            below = list(_walk(root, path, rules))
            if kept or below:
                yield Entry(path, "directory", stat.S_IMODE(child.stat(follow_symlinks=False).st_mode))
            yield from below
        elif kept and not is_directory and (entry := _entry(root, path)):
            yield entry


def _entry(root: Path, path: str) -> Entry | None:
    """A file or a link; None for a socket, a pipe or a device, which no image has."""
    try:
        found = (root / path).lstat()
        if stat.S_ISLNK(found.st_mode):
            target = os.readlink(root / path)  # noqa: PTH115 - a Path would not keep it as it is
            return Entry(path, "link", 0o777, target=target)
        if not stat.S_ISREG(found.st_mode):
            return None
        (root / path).open("rb").close()
    except OSError as error:
        raise _unreadable(path, error) from None
    return Entry(path, "file", stat.S_IMODE(found.st_mode), found.st_size)


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(
        f"{path}, which the image is built from, cannot be read: {error.strerror}",
        f"write its name into {ignored.NAMES[0]}, or make it readable",
    )
