"""The OS user of a stack on the host: name, uid and subordinate range, from nothing but the stack's name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Collection

# Slot 8 is the proxy's; stacks begin at 9.
FIRST_STACK_SLOT: Final = facts.PROXY_SLOT + 1
FIRST_UID: Final = facts.UID_BASE + FIRST_STACK_SLOT
LAST_UID: Final = facts.UID_BASE + facts.LAST_SLOT


@dataclass(frozen=True, slots=True)
class SubIds:
    """A range of subordinate ids, as /etc/subuid and /etc/subgid have it."""

    first: int
    count: int = facts.SUBID_SIZE


def user(stack: str) -> str:
    """The OS user of a stack."""
    return f"{facts.STACK_USER_PREFIX}{stack}"


def uid(stack: str) -> int:
    """The uid that a stack's name gives, on every machine and in every spec the same."""
    return _hashed(stack)


def _hashed(text: str) -> int:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    return FIRST_UID + number % (facts.LAST_SLOT - FIRST_STACK_SLOT + 1)


def build_user(uid: int) -> str:
    """The OS user of what a stack builds on the server; no stack has this name, since none begins with a digit."""
    return f"{facts.STACK_USER_PREFIX}{uid}-build"


def build_uid(uid: int) -> int:
    """The uid of what a stack builds on the server; it follows from the stack's, and moves with it."""
    return _hashed(f"{uid}:build")


def subids(uid: int) -> SubIds:
    """The subordinate range of a uid; ranges of different uids never overlap."""
    return SubIds((uid - facts.UID_BASE) * facts.SUBID_SIZE)


def in_range(uid: int) -> bool:
    """True for a uid that a stack may have."""
    return FIRST_UID <= uid <= LAST_UID


def free_uid(start: int, taken: Collection[int], *, builds: bool = False) -> int:
    """The first uid from `start` on that nobody has, nor its builds'; begins again at the start of the range."""
    size = LAST_UID - FIRST_UID + 1
    candidates = (FIRST_UID + (start - FIRST_UID + step) % size for step in range(size))
    return next(
        candidate
        for candidate in candidates
        if candidate not in taken and not (builds and build_uid(candidate) in taken)
    )
