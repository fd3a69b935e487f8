"""Instances on their way: until they run, or have ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.aws import instance
from builder.aws.pace import Clock, Pace
from builder.aws.part import Part
from builder.aws.resources import Servers
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from builder.aws.api import Door
    from builder.aws.part import Ids

_POWER_ON: Final = 300.0
# Ending holds the security group: undoing waits for it, so long at most. Both in seconds.
_ENDING: Final = 300.0
_HINT: Final = "another --type or --subnet may help; an own key for EBS encryption must be usable by this identity"


class Running(Part):
    """No resource, but a time: the servers run."""

    name = "running"
    title = "power on"

    def __init__(self, pace: Pace) -> None:
        super().__init__()
        self.pace = pace

    def look(self, door: Door) -> Ids:
        """Nothing of its own."""
        del door
        return ()

    def make(self, door: Door, made: Mapping[str, Ids]) -> Ids:
        """Wait; raises UserError for a server that AWS ended again."""
        ids = made[Servers.name]
        Clock(_POWER_ON, self.pace).until(lambda: _run(find(door, ids), len(ids)), "the server to run")
        return ()

    def undo(self, door: Door, ids: Iterable[str]) -> None:
        """Nothing of its own."""


def find(door: Door, ids: Iterable[str]) -> tuple[instance.Server, ...]:
    """These instances as they are now; one that was just made may be missing for a moment."""
    return instance.servers(door.items("DescribeInstances", Filters=[{"Name": "instance-id", "Values": sorted(ids)}]))


def _run(found: Sequence[instance.Server], wanted: int) -> bool:
    for one in found:
        if one.state in instance.GONE | instance.STOPPED:
            raise UserError(f"AWS has {one.state} {one.id} again: {one.reason or 'no reason given'}", _HINT)
    return len(found) == wanted and all(one.state == "running" for one in found)


def ended(door: Door, ids: Iterable[str], pace: Pace) -> None:
    """Wait until these instances are no more."""
    listed = sorted(ids)
    over = lambda: all(one.state == "terminated" for one in find(door, listed))  # noqa: E731
    Clock(_ENDING, pace).until(over, "the server to end")
