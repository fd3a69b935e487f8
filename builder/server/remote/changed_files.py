"""The files of a change: which ones on the host are er's, how they are replaced, and what restores the old ones.

All of that is on disk before the first file changes, in /var/lib/easyrunner/apply, or apply-STACK for a release:

plan.json   what the client sent: the new tree, or the images
old.tar     every file that the change replaces or removes, as it was; `added` names those that did not exist
pending     exists from the first change until the end; the boot that finds it restores the old files
state.json  how far the change is; `confirmed` says that the client can still log in
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
from builder.server.remote import common, egress, release_record
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.server.remote.common import Value

# What only er writes, whatever its version or spec: by directory, or by name in a directory that others share.
# The users' own directories are the numbers from UID_BASE on.
_OWN: Final = (
    (facts.ETC, "**/*"),
    (facts.LIB, "**/*"),
    (facts.QUADLETS, "*/**/*"),
    ("/etc", "**/*easyrunner"),
    ("/etc", "**/*easyrunner.*"),
    ("/etc/sysusers.d", f"{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/tmpfiles.d", f"{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.service"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.service.d/*"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.timer"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.path"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.socket"),
    ("/etc/systemd/system", f"sockets.target.d/{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/systemd/system", "*easyrunner-*"),
    ("/etc/fail2ban", "*.d/er-*.conf"),
    ("/etc/fail2ban", "jail.d/20-host.local"),
    ("/usr/lib/systemd", "*/er-*"),
    ("/usr/lib/systemd", "*/easyrunner-*"),
    ("/usr/lib/systemd", "*/er-*.d/*"),
    ("/usr/lib/systemd", "user/*.d/*easyrunner.conf"),
    ("/usr/lib/sysusers.d", "easyrunner*.conf"),
    ("/usr/lib/tmpfiles.d", "easyrunner*.conf"),
)
# Every path that the last apply wrote: a later one removes those that its spec has no more, whatever their names.
INSTALLED: Final = Path(facts.STATE, "laid.json")


def inventory() -> Value:
    """The server's `name`, and its `files`: rights and content of each file that is er's or at a path given on stdin.

    stdin is a JSON list of paths; content is Base64. What a stack runs by a release is no difference to its spec. A
    host of a fleet refuses: it is not to differ from the others.
    """
    if Path(facts.FLEET).exists():
        message = "this host is one of a fleet, and all of them are the same"
        raise RemoteError(message, "er launch SPEC replaces them all, one after another, by hosts of the new spec")
    asked = set(json.load(sys.stdin.buffer))
    own = (path for path in own_files() if release_record.unit_of(path) not in asked)
    paths = {*own, *(path for path in asked if os.path.lexists(path))}
    return {"files": {path: _file(path) for path in sorted(paths)}, "name": common.server_env().get("NAME", "")}


def own_files() -> Iterator[str]:
    """The paths of the files on this host that are er's."""
    yield from own_files_below(Path("/"))
    if INSTALLED.exists():
        yield from (path for path in json.loads(INSTALLED.read_bytes()) if Path(path).is_file())


def own_files_below(root: Path) -> Iterator[str]:
    """The paths of the files under `root` that are er's by directory and name."""
    for top, pattern in _OWN:
        found = (path for path in (root / top.lstrip("/")).glob(pattern) if path.is_file() and not path.is_symlink())
        yield from (path for path in (f"/{one.relative_to(root)}" for one in found) if _is_own(Path(path)))


def _is_own(path: Path) -> bool:
    if path.is_relative_to(facts.FIREWALL) and egress.GENERATED.search(path.name):
        return False  # the host made it
    if not path.is_relative_to(facts.QUADLETS):
        return True
    uid = path.relative_to(facts.QUADLETS).parts[0]
    return uid.isdigit() and int(uid) >= facts.PROXY_UID


def _file(path: str) -> list[str]:
    rights = rights_of(os.lstat(path))
    if not os.path.isfile(path) or os.path.islink(path):  # noqa: PTH113, PTH114
        return [rights, "", "not a file"]
    return [rights, base64.b64encode(Path(path).read_bytes()).decode()]


def rights_of(status: os.stat_result) -> str:
    """Mode, owner and group of a file, as the host's tree has them: `0640 root:er-shop`."""
    return f"0{status.st_mode & 0o7777:o} {_name(pwd.getpwuid, status.st_uid)}:{_name(grp.getgrgid, status.st_gid)}"


def _name(look_up: Callable[[int], Any], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


@dataclass(frozen=True)
class Change:
    """A change of files that can be taken back, with the directory that it keeps for that."""

    directory: Path

    @property
    def plan(self) -> Path:
        """What the client sent."""
        return self.directory / "plan.json"

    @property
    def confirmed(self) -> Path:
        """It is there when the client has said that it can still log in."""
        return self.directory / "confirmed"

    @property
    def pending(self) -> Path:
        """It is there while files have changed and may be taken back."""
        return self.directory / "pending"

    @property
    def _old(self) -> Path:
        return self.directory / "old.tar"

    @property
    def _added(self) -> Path:
        return self.directory / "added"

    def state(self) -> Value:
        """The state of the last change; its phase is `none` when there was none."""
        try:
            found: Value = json.loads((self.directory / "state.json").read_bytes())
        except FileNotFoundError:
            return {"phase": "none"}
        return found

    def set_state(self, phase: str, **more: object) -> None:
        """Write the state that clients read."""
        write(self.directory / "state.json", json.dumps({"phase": phase, **more}).encode())

    def save_old(self, paths: Iterable[str]) -> None:
        """Save the files at these paths, then mark the change as pending. Nothing has changed before this returns."""
        added, buffer = [], io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for path in sorted(paths):
                if os.path.lexists(path):
                    tar.add(path, recursive=False)
                else:
                    added.append(path)
        write(self._old, buffer.getvalue())
        write(self._added, "".join(f"{path}\0" for path in added).encode())
        write(self.pending, b"")

    def commit(self) -> None:
        """The change stays: it is pending no more."""
        self.pending.unlink()
        files.sync(self.directory)

    def saved_paths(self) -> list[str]:
        """The paths that a pending change writes or removes; none without one."""
        if not self.pending.exists():
            return []
        with tarfile.open(self._old) as tar:
            old = [f"/{name}" for name in tar.getnames()]
        return [path for path in (*self._added.read_text().split("\0"), *old) if path]

    def restore_old(self) -> None:
        """Restore the old files by the script that a boot uses."""
        common.run([f"{facts.LIB}/rollback", str(self.directory)])
        set_owners()


APPLY: Final = Change(Path(facts.STATE, "apply"))


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Replace a file, owned by root and with exactly this mode; a power cut leaves the old or the new file."""
    files.replace(path, content, mode, owner=(0, 0), name=f".{path.name}.er-new")


@dataclass(frozen=True)
class NewFile:
    """A file to write: as root's, with `initial_mode`; `rights` are mode, owner and group in the end."""

    path: str
    initial_mode: str
    rights: str
    content: bytes

    def is_installed(self) -> bool:
        """Whether the host has this file already, with this content and these rights."""
        try:
            existing = os.lstat(self.path)
            return rights_of(existing) == self.rights and Path(self.path).read_bytes() == self.content
        except OSError:
            return False


def install(new: Iterable[NewFile], removed: Iterable[str]) -> None:
    """Write the new files and remove others; directories that become empty go too."""
    for file in new:
        _close_directory(Path(file.path))
        write(Path(file.path), file.content, int(file.initial_mode, 8))
    for path in removed:
        Path(path).unlink(missing_ok=True)
        _remove_empty(Path(path).parent)


def _close_directory(path: Path) -> None:
    """A stack's directory is closed before there is a file in it; the script `users` opens it for the stack."""
    for top in (facts.STACKS, facts.QUADLETS):
        if path.is_relative_to(top):
            Path(top).mkdir(parents=True, exist_ok=True)
            Path(top, path.relative_to(top).parts[0]).mkdir(mode=0o700, exist_ok=True)


def _remove_empty(directory: Path) -> None:
    while directory.is_relative_to(facts.ETC) or directory.is_relative_to(facts.QUADLETS):
        try:
            directory.rmdir()
        except OSError:
            return
        directory = directory.parent


def set_owners() -> None:
    """Give the stacks the files that they alone may read; first boot does that for a stack that has no user yet."""
    common.run([f"{facts.LIB}/users", "own"], check=False)


def write_admin_keys(plan: Value) -> None:
    """The admin's authorized_keys hold the spec's keys, and no others."""
    for name in admin_key_files(plan):
        path, admin = Path(name), pwd.getpwnam(plan["admin"]["name"])
        text = "".join(f"{key}\n" for key in plan["admin"]["ssh_keys"])
        if path.exists() and path.read_text() == text:
            continue
        owner = (admin.pw_uid, admin.pw_gid)
        files.replace(path, text.encode(), 0o600, owner=owner, name=".authorized_keys.er-new")


def admin_key_files(plan: Value) -> list[str]:
    """The path of the admin's authorized_keys, where the admin has an account."""
    try:
        home = pwd.getpwnam(plan["admin"]["name"]).pw_dir
    except KeyError:
        return []
    return [f"{home}/.ssh/authorized_keys"]
