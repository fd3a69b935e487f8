"""`er server restore`: a stack's data from a snapshot, back, and for good; see `remote/backup/restore.py`.

The host does the work in a unit of its own; this follows it to its end.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from builder.server.releases import follow

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.server.ssh import Remote


def look(remote: Remote, stack: str, *, at: str, paths: Sequence[str]) -> dict[str, Any]:
    """What would be restored: `snapshot`, `at` in seconds, `paths`, `bytes`, and the bytes that are `free`."""
    found: dict[str, Any] = remote.ask("restore-look", stack, stdin=_request(at, paths, 0), timeout=400)
    return found


def restore(remote: Remote, stack: str, *, at: str, paths: Sequence[str], timeout: float) -> Iterator[dict[str, Any]]:
    """Restore and switch; yields each state once, the last is how it ended: `done`, `rolled back` or `failed`."""
    content = _request(at, paths, timeout)
    yield from follow(remote, stack, "restore", lambda: remote.ask("restore-start", stack, stdin=content))


def back(remote: Remote, stack: str, *, timeout: float) -> Iterator[dict[str, Any]]:
    """Back to what the stack had before; as `restore`."""
    content = _request("", (), timeout)
    yield from follow(remote, stack, "restore", lambda: remote.ask("restore-back", stack, stdin=content))


def confirm(remote: Remote, stack: str) -> dict[str, Any]:
    """Remove what the stack had before; returns the `snapshot` that it has for good."""
    found: dict[str, Any] = remote.ask("restore-confirm", stack, timeout=4000)
    return found


def _request(at: str, paths: Sequence[str], timeout: float) -> bytes:
    return json.dumps({"at": at, "paths": list(paths), "timeout": timeout}).encode()


_FORMS = (("%Y-%m-%d %H:%M:%S", 0), ("%Y-%m-%d %H:%M", 59), ("%Y-%m-%d", 86_399))


def snapshot_at(text: str) -> str:
    """What --at says, as the host takes it: a snapshot's id, or `@SECONDS` for a time of this machine's clock.

    A day is meant to its end, a minute too. Raises ValueError.
    """
    for form, more in _FORMS:
        try:
            return f"@{time.mktime(time.strptime(text.replace('T', ' '), form)) + more:.0f}"
        except ValueError:
            continue
    if not text or not all(one in "0123456789abcdef" for one in text) or not 4 <= len(text) <= 64:
        raise ValueError(text)
    return text
