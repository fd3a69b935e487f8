"""What a host that an older er made has elsewhere, moved to where it outlives the machine: see docs/data.md.

A link stays at the old place until the change is there to stay: what runs, and what a change that is taken back runs
again, finds its data at both. A stack's volumes and secrets move when its manager starts next (user@.service.d).
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


def move() -> None:
    """Move all of it; what has moved already stays. Raises OSError."""
    for old, new in _moves():
        if old.is_dir() and not old.is_symlink():
            new.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                new.rmdir()
            new.symlink_to(new)
            _exchange(old, new)
    _copy_bans()


def remove_links() -> None:
    """Nothing looks at the old places any more."""
    for old, _ in _moves():
        if old.is_symlink():
            old.unlink()


def _moves() -> Iterator[tuple[Path, Path]]:
    yield Path(facts.STATE, "caddy"), Path(facts.CADDY_DATA)
    for stack in common.stacks():
        yield Path(facts.HOMES, stack, "data"), Path(facts.STACK_DATA, stack, "files")


_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


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
