"""Logins to Amazon ECR by the server's role: what /usr/lib/easyrunner/ecr noted of them, and asking anew."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder import facts
from builder.server.remote import common

if TYPE_CHECKING:
    from collections.abc import Iterator

USERNAME: Final = "AWS"
"""Who logs in to ECR, always."""


class Answer(NamedTuple):
    """Until when the last password is good, in seconds since 1970; `said`: why there was none when last asked."""

    until: float | None = None
    said: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the registry still takes the password."""
        return self.until is not None and self.until > time.time()


def answers() -> dict[tuple[str, str], Answer]:
    """By stack and registry."""
    try:
        found: dict[str, Any] = json.loads(Path(facts.ROLE_STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {
        (stack, registry): Answer(_seconds(one["until"]), _why(one["said"]))
        for key, one in found.items()
        for stack, _, registry in [key.partition(" ")]
    }


def _seconds(moment: str | None) -> float | None:
    return datetime.fromisoformat(moment).timestamp() if moment else None


# What the helper says in AWS's words, and what it means. The first that is found counts.
_MEANINGS: Final = (
    ("AccessDenied", "the role may not log in: its policy lacks ecr:GetAuthorizationToken"),
    ("no EC2 IMDS role found.*StatusCode: 404", "the server has no role: attach an instance profile"),
    ("no EC2 IMDS role found", "no metadata service answers, as on EC2"),
    ("No such file or directory.*docker-credential", "amazon-ecr-credential-helper is not installed"),
)


def _why(said: str) -> str:
    """Why AWS gave no password, in plain words where they are known."""
    return next((words for form, words in _MEANINGS if re.search(form, said)), said)


_UNIT: Final = "er-ecr.service"
# How long AWS has to answer, in seconds.
_ANSWER: Final = 100


def ask() -> None:
    """Ask AWS now for all passwords that the server's role has; what comes of it is in the answers then.

    A stack that is new gets its user before, and so starts with its login.
    """
    if Path(facts.ROLE_LOGINS).exists():
        common.run([f"{facts.LIB}/users"], check=False)
        common.run(["systemctl", "start", "er-ecr.timer"], check=False)
        common.run(["systemctl", "restart", _UNIT], check=False, timeout=_ANSWER)


@contextmanager
def locked() -> Iterator[None]:
    """The unit may be writing the same files. No user of a stack can open the lock and hold it."""
    path = Path(facts.ROLE_LOCK)
    if not path.parent.exists():
        yield
        return
    lock = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
