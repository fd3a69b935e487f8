"""Where an apply keeps what it needs to finish, or to take back: on disk before the first file changes.

plan.json   the new tree, as the client sent it
old.tar     every file that it changes or removes, as it was; `added` names those that were not there
pending     there from the first change until the end; the boot that finds it puts the old files back
state.json  how far it is; `confirmed` is the client's word that it can still log in
"""

from __future__ import annotations

import base64
import grp
import io
import json
import os
import pwd
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts, files
from builder.server.remote import common, egress
from builder.server.remote.common import Value, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


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


# What only er writes there, an er of another version or with another spec too: by place, or by its name in a place that
# others share. The users' own directories are the numbers from UID_BASE on.
_OURS: Final = (
    (facts.ETC, "**/*"),
    (facts.LIB, "**/*"),
    (facts.QUADLETS, "*/**/*"),
    ("/etc", "**/*easyrunner"),
    ("/etc", "**/*easyrunner.*"),
    ("/etc/sysusers.d", f"{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/tmpfiles.d", f"{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.service"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.service.d/*"),
    ("/etc/fail2ban", "*.d/er-*.conf"),
    ("/etc/fail2ban", "jail.d/20-host.local"),
    ("/usr/lib/systemd", "*/er-*"),
    ("/usr/lib/systemd", "*/er-*.d/*"),
    ("/usr/lib/sysusers.d", "easyrunner*.conf"),
    ("/usr/lib/tmpfiles.d", "easyrunner*.conf"),
)
# Every path that the last apply laid: a later one removes what it no longer has, whatever its name.
LAID: Final = Path(facts.STATE, "laid.json")


def ours() -> Iterator[str]:
    """The paths of files that are here and ours."""
    yield from known(Path("/"))
    if LAID.exists():
        yield from (path for path in json.loads(LAID.read_bytes()) if Path(path).is_file())


def known(root: Path) -> Iterator[str]:
    """The paths under `root` that place and name tell to be ours."""
    for top, pattern in _OURS:
        found = (path for path in (root / top.lstrip("/")).glob(pattern) if path.is_file() and not path.is_symlink())
        yield from (path for path in (f"/{one.relative_to(root)}" for one in found) if _mine(Path(path)))


def _mine(path: Path) -> bool:
    if path.is_relative_to(facts.FIREWALL) and egress.MADE.search(path.name):
        return False  # the host made it
    if not path.is_relative_to(facts.QUADLETS):
        return True
    uid = path.relative_to(facts.QUADLETS).parts[0]
    return uid.isdigit() and int(uid) >= facts.PROXY_UID


def inventory() -> Value:
    """Each file that is ours, or stands at a path of the JSON list on stdin: its rights and content; and who it is."""
    paths = {*ours(), *(path for path in json.load(sys.stdin.buffer) if os.path.lexists(path))}
    return {"files": {path: _file(path) for path in sorted(paths)}, "name": common.server().get("NAME", "")}


def _file(path: str) -> list[str]:
    rights = rights_of(os.lstat(path))
    if not os.path.isfile(path) or os.path.islink(path):  # noqa: PTH113, PTH114
        return [rights, "", "not a file"]
    return [rights, base64.b64encode(Path(path).read_bytes()).decode()]


def rights_of(status: os.stat_result) -> str:
    """Mode, owner and group of a file, as the tree of a host says them."""
    return f"0{status.st_mode & 0o7777:o} {_name(pwd.getpwuid, status.st_uid)}:{_name(grp.getgrgid, status.st_gid)}"


def _name(look: Callable[[int], Any], number: int) -> str:
    try:
        return str(look(number)[0])
    except KeyError:
        return str(number)
