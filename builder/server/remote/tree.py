"""The files on the host that are ours: those of the tree, and those that an older tree left."""

from __future__ import annotations

import base64
import grp
import json
import os
import pwd
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import common, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.server.remote.common import Value

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
    if path.is_relative_to(facts.FIREWALL) and names.MADE.search(path.name):
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
