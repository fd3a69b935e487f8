"""Making the parts of a server: all of them, or what this run has made is taken away again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.aws import running
from builder.aws.errors import AwsError
from builder.aws.pace import Pace, persist
from builder.aws.resources import Addresses, Group, Key, Servers
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from builder.aws.api import Door
    from builder.aws.part import Ids, Part
    from builder.aws.prerequisites import Ground
    from builder.aws.progress import Timed
    from builder.aws.request import Order


class HalfwayError(UserError):
    """Not all could be made, nor all of that be taken away again; the hint says what remains and how to remove it."""


def parts(order: Order, ground: Ground, pace: Pace) -> tuple[Part, ...]:
    """What the order takes, in the order of making: what costs nothing first, an address once it has a server."""
    key: tuple[Part, ...] = (Key(order),) if order.key else ()
    address: tuple[Part, ...] = (Addresses(order),) if order.wishes.eip else ()
    return (Group(order, ground), *key, Servers(order, ground), running.Running(pace), *address)


def make(door: Door, wanted: Sequence[Part], told: Timed, pace: Pace, remedy: str) -> dict[str, Ids]:
    """Make every part; the ids of each. On a failure or Ctrl-C, undo what this run made, and raise.

    `remedy` is the command that removes what may remain.
    """
    made: dict[str, Ids] = {}
    try:
        for part in wanted:
            with told.step(part.title):
                made[part.name] = _made(door, part, made, told, pace)
    except (UserError, KeyboardInterrupt) as error:
        left = _undo(door, [part for part in wanted if part.before is not None], told, pace)
        if not left:
            raise
        message, hint = (error.message, error.hint) if isinstance(error, UserError) else ("interrupted", None)
        remains = f"there may be left of it: {', '.join(left)}; remove it by: {remedy}"
        raise HalfwayError(message, "\n".join(filter(None, (hint, remains)))) from error
    return made


def _made(door: Door, part: Part, made: Mapping[str, Ids], told: Timed, pace: Pace) -> Ids:
    return persist(lambda: part.make(door, made), pace, told.line)


def _undo(door: Door, parts: Sequence[Part], told: Timed, pace: Pace) -> list[str]:
    """Last things first. What could not be taken away, or may be there unseen, in words."""
    left: list[str] = []
    for part in reversed(parts):
        try:
            _take_away(door, part, told, pace)
        except (UserError, KeyboardInterrupt):
            left.append(" ".join([part.title, *sorted(part.known)]))
    return left


def _take_away(door: Door, part: Part, told: Timed, pace: Pace) -> None:
    new = _new(door, part)
    if new:
        told.line(f"taking away again: {part.title} {' '.join(sorted(new))}")
        persist(lambda: part.undo(door, new), pace, told.line)
        if part.name == Servers.name:
            running.ended(door, new, pace)


def _new(door: Door, part: Part) -> set[str]:
    """What this run has made: as AWS lists it, and as it answered when it was made."""
    try:
        now = set(part.look(door))
    except AwsError:
        if not part.known:
            raise
        now = set()
    return (now | part.known) - (part.before or frozenset())
