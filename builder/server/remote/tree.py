"""The files on the host that are ours: those of the tree, and those that an older tree left."""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common, names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value

# What only er writes there; the users' own directories are the numbers from UID_BASE on.
_OURS: Final = (
    (facts.ETC, "**/*"),
    (facts.LIB, "**/*"),
    ("/etc/sysusers.d", f"{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/tmpfiles.d", f"{facts.STACK_USER_PREFIX}*.conf"),
    ("/etc/systemd/system", "user@*.service.d/10-easyrunner.conf"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.service"),
    ("/etc/systemd/system", f"{facts.STACK_USER_PREFIX}*.service.d/*"),
    (facts.QUADLETS, "*/**/*"),
)
# Every path that the last apply laid: a later one removes what it no longer has.
LAID: Final = Path(facts.STATE, "laid.json")


def ours() -> Iterator[str]:
    """The paths of files that are here and ours."""
    for top, pattern in _OURS:
        yield from (str(path) for path in Path(top).glob(pattern) if path.is_file() and _mine(path))
    if LAID.exists():
        yield from (path for path in json.loads(LAID.read_bytes()) if Path(path).is_file())


def _mine(path: Path) -> bool:
    if path.is_relative_to(facts.FIREWALL) and names.MADE.search(path.name):
        return False  # the host made it
    if not path.is_relative_to(facts.QUADLETS):
        return True
    uid = path.relative_to(facts.QUADLETS).parts[0]
    return uid.isdigit() and int(uid) >= facts.PROXY_UID


def inventory() -> Value:
    """Each file that is ours, or stands at a path of the JSON list on stdin: its mode and content; and who logs in."""
    paths = {*ours(), *(path for path in json.load(sys.stdin.buffer) if os.path.lexists(path))}
    return {"files": {path: _file(path) for path in sorted(paths)}, "name": common.server().get("NAME", "")}


def _file(path: str) -> list[str]:
    mode = f"0{os.lstat(path).st_mode & 0o7777:o}"
    if not os.path.isfile(path) or os.path.islink(path):  # noqa: PTH113, PTH114
        return [mode, "", "not a file"]
    return [mode, base64.b64encode(Path(path).read_bytes()).decode()]
