"""Where an apply keeps what it needs to finish, or to take back: on disk before the first file changes.

plan.json   the new tree, as the client sent it
old.tar     every file that it changes or removes, as it was; `added` names those that were not there
pending     there from the first change until the end; the boot that finds it puts the old files back
state.json  how far it is; `confirmed` is the client's word that it can still log in
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote.common import Value, run

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE: Final = Path(facts.STATE, "apply")
PLAN, OLD, ADDED, PENDING, STATE, CONFIRMED = (
    HERE / name for name in ("plan.json", "old.tar", "added", "pending", "state.json", "confirmed")
)
ROLLBACK: Final = f"{facts.LIB}/rollback"


@dataclass(frozen=True)
class New:
    """A file to be. `laid` is the mode with which it comes, root's; `rights` are mode, owner and group in the end."""

    path: str
    laid: str
    rights: str
    content: bytes


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Root's, with exactly this mode; a cut of power leaves the old or the new file."""
    files.replace(path, content, mode, owner=(0, 0), name=f".{path.name}.er-new")


def set_state(phase: str, **more: object) -> None:
    """What the client is told when it asks."""
    write(STATE, json.dumps({"phase": phase, **more}).encode())


def state() -> Value:
    """The last word of the last apply."""
    return json.loads(STATE.read_bytes()) if STATE.exists() else {"phase": "none"}


def keep_old(paths: Iterable[str]) -> None:
    """Save the files at these paths, then mark the change as begun. Nothing has changed before this returns."""
    added, buffer = [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(paths):
            if os.path.lexists(path):
                tar.add(path, recursive=False)
            else:
                added.append(path)
    write(OLD, buffer.getvalue())
    write(ADDED, "".join(f"{path}\0" for path in added).encode())
    write(PENDING, b"")


def lay(new: Iterable[New], gone: Iterable[str]) -> None:
    """The new tree over the old one; directories that it leaves empty go too."""
    for file in new:
        _close(Path(file.path))
        write(Path(file.path), file.content, int(file.laid, 8))
    for path in gone:
        Path(path).unlink(missing_ok=True)
        _prune(Path(path).parent)


def _close(path: Path) -> None:
    """A stack's directory is closed before anything lies in it; `users` opens it for the stack."""
    for top in (facts.STACKS, facts.QUADLETS):
        if path.is_relative_to(top):
            Path(top).mkdir(parents=True, exist_ok=True)
            Path(top, path.relative_to(top).parts[0]).mkdir(mode=0o700, exist_ok=True)


def _prune(directory: Path) -> None:
    while directory.is_relative_to(facts.ETC) or directory.is_relative_to(facts.QUADLETS):
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent


def give() -> None:
    """What stacks alone may read becomes theirs; those that have no user yet get it when first boot makes that."""
    run([f"{facts.LIB}/users", "own"], check=False)


def put_back() -> None:
    """The old tree again, by the same script that a boot uses."""
    run([ROLLBACK])
    give()


def finish() -> None:
    """The change stands."""
    PENDING.unlink()
    files.sync(HERE)
