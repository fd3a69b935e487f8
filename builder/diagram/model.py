"""What the picture of a host says, as values: words by the box that they stand in, and marks of what was seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Words:
    """A text and its look; it may take so many lines before it is cut, and have a sign before it."""

    text: str
    look: str = "note"
    lines: int = 1
    icon: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """What was seen of a host at one place, and whether it is as it should be."""

    text: str
    good: bool

    @property
    def words(self) -> Words:
        """With a sign, so that no colour has to be seen."""
        return Words(f"{'✓' if self.good else '✗'} {self.text}", "good" if self.good else "bad", lines=4)


Marks = Mapping[str, Sequence[Mark]]


@dataclass(frozen=True, slots=True)
class ServiceShown:
    """One container. `socket` is the path by which the proxy reaches it, with what it asks of its `sites`.

    `networks` are numbers of its stack's.
    """

    name: str
    side: str  # at the right of the name
    words: tuple[Words, ...]
    networks: tuple[int, ...]
    socket: str = ""
    sites: tuple[Words, ...] = ()


@dataclass(frozen=True, slots=True)
class StackShown:
    """A stack: what is said of it, its containers, its networks, and what it may reach."""

    head: tuple[Words, ...]
    services: tuple[ServiceShown, ...]
    networks: tuple[str, ...]
    out: tuple[Words, ...]
    has_way_out: bool


@dataclass(frozen=True, slots=True)
class Content:
    """Everything that is said, by the box that it stands in. A gate is an open port of the firewall."""

    name: str
    machine: str
    visitors: tuple[Words, ...]
    wall: tuple[Words, ...]
    web_gates: tuple[tuple[Words, ...], ...]
    limits: tuple[Words, ...]
    sockets: tuple[Words, ...]
    proxy: tuple[Words, ...]
    proxy_foot: tuple[Words, ...]
    stacks: tuple[StackShown, ...]
    elsewhere: tuple[Words, ...]
    way_out: tuple[Words, ...]
    admins: tuple[Words, ...]
    ssh_gate: tuple[Words, ...]
    sshd: tuple[Words, ...]
    data: tuple[Words, ...]
    backup: tuple[Words, ...]  # none without backups
    backup_leaves: bool
