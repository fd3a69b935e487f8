"""What restic means when it fails: the kind, in our words with the way out, and its own last words."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from builder.server.remote.common import RemoteError


class ResticError(RemoteError):
    """Restic has failed; `kind` is one of `_FAILURES`, or empty."""

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        self.kind = kind
        super().__init__(message, hint)


@dataclass(frozen=True)
class Done:
    """A call that has ended: its exit code, and what it printed."""

    code: int
    out: str
    err: str


# The kind, exit codes of restic 0.17 and later, and what it (or ssh, or S3) says. The first that is found counts.
_FAILURES: Final[tuple[tuple[str, frozenset[int], str], ...]] = (
    ("password", frozenset({12}), "wrong password or no key found"),
    ("locked", frozenset({11}), "already locked|unable to create lock"),
    ("full", frozenset(), "no space left|quota|insufficient storage|storage ?full|507 "),
    ("host key", frozenset(), "host key verification failed"),
    (
        "refused",
        frozenset(),
        "access ?denied|forbidden|signaturedoesnotmatch|invalidaccesskey|permission denied|40[13] ",
    ),
    (
        "unreachable",
        frozenset(),
        "refused|no such host|timed? ?out|could not resolve|unreachable|no route|retrying after",
    ),
    ("missing", frozenset({10}), "(?s)(no such file|not exist|not found|nosuchbucket).*is there a repository at"),
)
_HINTS: Final = {
    "password": "is it the one that the repository was made with? er server secret set HOST --host restic-password",
    "locked": "who is it? when it has ended, try again",
    "full": "make it larger, or keep less; what is there is whole",
    "host key": "is it the right server? its key belongs into the spec: backup: {host_key: …}",
    "refused": "are the host's secrets right? er server secret list HOST --host",
    "unreachable": "is the address right, and does it run? restic has tried for a while",
    "missing": "the first backup makes it: er server backup HOST now",
}
_MESSAGES: Final = {
    "password": "the repository does not open with the host's secret restic-password",
    "locked": "somebody else is at the repository",
    "full": "there is no room left where backups go",
    "host key": "the server of the repository has another host key",
    "refused": "the repository does not let this host in",
    "unreachable": "the repository cannot be reached",
    "missing": "there is no repository",
}


def explain(done: Done, repository: str) -> ResticError:
    """The error for a call that has failed."""
    text = f"{done.out[-4000:]}\n{done.err[-8000:]}"
    kinds = (kind for kind, codes, words in _FAILURES if done.code in codes or re.search(words, text, re.IGNORECASE))
    kind, said = next(kinds, ""), _last_words(done.err or done.out)
    if not kind:
        return ResticError("", f"restic has failed: {said or f'exit code {done.code}'}")
    where = f" at {repository}" if kind in ("missing", "unreachable") else ""
    return ResticError(kind, f"{_MESSAGES[kind]}{where}{f' ({said})' if said else ''}", _HINTS[kind])


def _last_words(text: str) -> str:
    """What went wrong, in restic's words: its fatal line, or the last one."""
    lines = [_plain(line) for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith("Fatal:")]
    last = (fatal or lines or [""])[-1].removeprefix("Fatal:").strip()
    return "".join(one for one in last if one.isprintable())[:300]


def _plain(line: str) -> str:
    """The message of a line that may be JSON."""
    try:
        found = json.loads(line)
    except ValueError:
        return line.strip()
    if not isinstance(found, dict):
        return line.strip()
    error = found.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    return str(found.get("message") or inner or line).strip()
