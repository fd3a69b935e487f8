"""What a host that an older er made has elsewhere, moved to where it outlives the machine: see docs/data.md.

Until the change is there to stay, what runs, and what runs again when it is taken back, finds its data at both places:
Caddy's by a link, the stacks' files by a mount, which a cut of power ends. A stack's volumes and secrets, and what a
cut has left of its files, move when its manager starts (/usr/lib/easyrunner/store).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common

if TYPE_CHECKING:
    from collections.abc import Iterator

_OLD_BANS: Final = Path("/var/lib/fail2ban/fail2ban.sqlite3")


def begin() -> None:
    """Before the new files are laid: the data is at the new places too. Raises OSError and RemoteError."""
    _move_caddy()
    _copy_bans()
    for stack, old, new in _files():
        owner = common.uid(common.user_of(stack))
        new.parent.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        for directory, mode, uid in ((new.parent, 0o750, 0), (new, 0o700, owner)):
            directory.mkdir(mode=mode, exist_ok=True)
            os.chown(directory, uid, owner)
        common.run(["mount", "--bind", str(old), str(new)])


def take_back() -> None:
    """The change is taken back: the stacks' files are at the old places alone."""
    for _, _, new in _files():
        _unmount(new)


def end() -> None:
    """The change stays: nothing looks at the old places any more."""
    for stack, old, new in _files():
        _unmount(new)
        # What containers have mounted is the same directory, whatever it is called.
        found = ["podman", "unshare", "find", str(old), "-mindepth", "1", "-maxdepth", "1"]
        move = ["-exec", "mv", "--no-copy", "-t", str(new), "{}", "+"]
        common.as_user(common.user_of(stack), [*found, *move], check=False)
        with contextlib.suppress(OSError):
            old.rmdir()
    link = Path(facts.STATE, "caddy")
    if link.is_symlink():
        link.unlink()


def _files() -> Iterator[tuple[str, Path, Path]]:
    """The stacks that have files at the old place, and both places."""
    for stack in common.uids(common.stacks()):
        old = Path(facts.HOMES, stack, "data")
        if old.is_dir() and not old.is_symlink():
            yield stack, old, Path(facts.STACK_DATA, stack, "files")


def _unmount(place: Path) -> None:
    while os.path.ismount(place):
        common.run(["umount", "--lazy", str(place)])


_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def _move_caddy() -> None:
    old, new = Path(facts.STATE, "caddy"), Path(facts.CADDY_DATA)
    if old.is_dir() and not old.is_symlink():
        new.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            new.rmdir()
        new.symlink_to(new)
        _exchange(old, new)


def _exchange(one: Path, two: Path) -> None:
    """Swap two names in one step: renameat2(2), which Python has no call for."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(_AT_FDCWD, bytes(one), _AT_FDCWD, bytes(two), _RENAME_EXCHANGE):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(one), None, str(two))


def _copy_bans() -> None:
    """Fail2Ban's database, which a running server may be writing to."""
    new = Path(facts.BANS, _OLD_BANS.name)
    if not _OLD_BANS.exists() or new.exists():
        return
    new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = new.with_name(".moved")
    aside.unlink(missing_ok=True)
    with contextlib.closing(sqlite3.connect(_OLD_BANS)) as source, contextlib.closing(sqlite3.connect(aside)) as copy:
        source.backup(copy)
    aside.chmod(0o600)
    aside.rename(new)
