"""A part of a server: found by its tags, made when it is missing, and taken away again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.aws.api import Door

Ids = tuple[str, ...]


class Part(ABC):
    """A kind of resource of one server. `before` is what was there when this run first looked, `known` what it made."""

    name: str
    title: str

    def __init__(self) -> None:
        self.before: frozenset[str] | None = None
        self.known: set[str] = set()

    def seen(self, ids: Iterable[str]) -> None:
        """Note what is there, the first time."""
        if self.before is None:
            self.before = frozenset(ids)

    @abstractmethod
    def look(self, door: Door) -> Ids:
        """What is there now, by its tags."""

    @abstractmethod
    def make(self, door: Door, made: Mapping[str, Ids]) -> Ids:
        """Look, and make what is missing; may be repeated at any time. `made` are the parts before this one."""

    @abstractmethod
    def undo(self, door: Door, ids: Iterable[str]) -> None:
        """Take these away; what is gone already is no error."""
