"""A first boot that is cut at a point and made good by the next boot, beside one that was not cut."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from builder.lab.trial import READY
from tests.machine.cuts import disks, points
from tests.machine.cuts.compare_hosts import OWN, UNFINISHED, Likeness, Own, differences, likeness
from tests.machine.cuts.disk_events import Watch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.machine.cuts.disks import Bench, Image, Kind
    from tests.machine.hosts import Host

_SPEC: Final = "three"
_SECONDS = 600


class NotReachedError(Exception):
    """This boot was over before it came to the point: what runs in parallel runs some programs more or fewer times."""


@dataclass(frozen=True)
class Course:
    """A way a first boot goes: the image it starts from, and where it is cut."""

    name: str
    image: Callable[[str, Path], Image]
    rows: tuple[points.Row, ...]
    own: tuple[Own, ...]


MAKING: Final = Course("The host is made, its packages being there", disks.stock, points.ROWS, OWN)
INSTALLING: Final = Course(
    "Its packages are installed", partial(disks.stock, packages=()), points.INSTALLING, (*OWN, *UNFINISHED)
)
BAKED: Final = Course("A baked image becomes the host", disks.baked, points.ROWS, OWN)
COURSES: Final = (MAKING, INSTALLING, BAKED)


@dataclass(frozen=True)
class Reference:
    """A host whose power was never cut: how it is after two boots, and the points of the first."""

    course: Course
    likeness: Likeness
    points: list[str]


@dataclass(frozen=True)
class Result:
    """`cut` and `ready` are in seconds: of the first boot, until the cut, and of the second, until it was ready."""

    point: str
    kind: Kind
    cut: float
    ready: float
    differences: list[str]


def prepared(course: Course, directory: Path) -> Bench:
    """A bench for boots that go this way."""
    return disks.Bench(course.image(_SPEC, directory), directory)


def reference(bench: Bench, course: Course) -> Reference:
    """Boot twice, the first time with every event noted."""
    with bench.disk("whole") as disk, bench.host(disk) as host:
        with Watch(host.machine.files.tree) as watch:
            host.boot(_SECONDS)
        host.reboot()
        return Reference(course, likeness(host), points.chosen(watch.events, course.rows))


def cut_at(bench: Bench, wanted: Reference, point: str, kind: Kind) -> Result:
    """Cut at the point, boot again, compare. Raises NotReachedError."""
    return _judged(bench, point, kind, lambda found: differences(wanted.likeness, found, wanted.course.own))


def well_after(bench: Bench, point: str, kind: Kind) -> Result:
    """The same without another host beside it: what is wrong with this one. Raises NotReachedError."""
    return _judged(bench, point, kind, lambda found: [*found.faults])


def _judged(bench: Bench, point: str, kind: Kind, judge: Callable[[Likeness], list[str]]) -> Result:
    with bench.disk(re.sub(r"\W+", "-", f"{kind} {point}")) as disk:
        seconds = _first(bench, disk, point, kind)
        start = time.monotonic()
        ready = 0.0
        try:
            with bench.host(disk) as host:
                host.boot(_SECONDS)
                ready = time.monotonic() - start
                found = judge(likeness(host))
        except Exception as error:
            # The whole story, for a person.
            found = [f"{error} {''.join(getattr(error, '__notes__', ()))}"]
        return Result(point, kind, seconds, ready, found)


def _first(bench: Bench, disk: Path, point: str, kind: Kind) -> float:
    """The first boot until the point. Returns its seconds."""
    with bench.host(disk) as host, Watch(host.machine.files.tree, stop=point) as watch:
        start = time.monotonic()
        host.machine.boot()
        host.machine.wait(lambda: watch.reached.is_set() or _over(host), timeout=_SECONDS, what=point)
        if not watch.reached.is_set():
            raise NotReachedError(point)
        seconds = time.monotonic() - start
        disks.cut(host.machine, kind)
        return seconds


def _over(host: Host) -> bool:
    return READY in host.machine.console_text() and host.machine.cloud_init_done()
