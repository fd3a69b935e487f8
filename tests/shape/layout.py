"""Where boxes on floors go, and the lines between them: no line crosses a box.

A line that passes a floor has a place of its own there, as a box has. Places of a floor are put in the order with the
fewest crossings, then moved under what they belong to. The same input gives the same places.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GAP: Final = 24.0
_ORDERINGS: Final = 24
_MOVES: Final = 200
# How much more a line is kept straight than a box is kept in the middle.
_STRAIGHT: Final = 8.0


@dataclass
class Place:
    """A box on a floor, or the point where a line passes it (`name` is then empty). `x` is its middle."""

    floor: int
    width: float
    name: str = ""
    x: float = 0.0
    above: list[Place] = field(default_factory=list, repr=False)
    below: list[Place] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class Layout:
    """The places of each floor from left to right, and for each arrow the places that it goes by."""

    floors: list[list[Place]]
    routes: dict[tuple[str, str], list[Place]]


def lay_out(floors: Sequence[Mapping[str, float]], arrows: Iterable[tuple[str, str]], passing: float) -> Layout:
    """Boxes by floor, with their widths, and the arrows, each from a higher floor to a lower one."""
    boxes = {name: Place(number, width, name) for number, floor in enumerate(floors) for name, width in floor.items()}
    places = [[boxes[name] for name in floor] for floor in floors]
    routes = {arrow: _route(boxes[arrow[0]], boxes[arrow[1]], places, passing) for arrow in arrows}
    for route in routes.values():
        for upper, lower in pairwise(route):
            upper.below.append(lower)
            lower.above.append(upper)
    _move(_ordered(places))
    return Layout(places, routes)


def _route(start: Place, end: Place, floors: list[list[Place]], passing: float) -> list[Place]:
    points = [Place(number, passing) for number in range(start.floor + 1, end.floor)]
    for point in points:
        floors[point.floor].append(point)
    return [start, *points, end]


def _ordered(floors: list[list[Place]]) -> list[list[Place]]:
    """The floors in place, each in the best order that was seen while they were sorted by their neighbours."""
    best, fewest = [[*floor] for floor in floors], crossings(floors)
    for number in range(_ORDERINGS):
        down = number % 2 == 0
        for floor in floors if down else reversed(floors):
            _sort(floor, floors, down)
        if crossings(floors) < fewest:
            best, fewest = [[*floor] for floor in floors], crossings(floors)
    for floor, order in zip(floors, best, strict=True):
        floor[:] = order
    return floors


def _sort(floor: list[Place], floors: list[list[Place]], down: bool) -> None:
    """Each place goes to the mean of its neighbours' ranks; without neighbours it keeps its own."""
    ranks = {id(place): _rank(index, other) for other in floors for index, place in enumerate(other)}

    def wanted(place: Place) -> float:
        near = place.above if down else place.below
        return sum(ranks[id(other)] for other in near) / len(near) if near else ranks[id(place)]

    floor.sort(key=wanted)


def _rank(index: int, floor: list[Place]) -> float:
    """From 0 to 1, so that floors of different lengths compare."""
    return (index + 0.5) / len(floor)


def crossings(floors: list[list[Place]]) -> int:
    """How many lines between neighbouring floors cross."""
    count = 0
    for upper, lower in pairwise(floors):
        index = {id(place): number for number, place in enumerate(lower)}
        lines = [(number, index[id(end)]) for number, place in enumerate(upper) for end in place.below]
        count += sum((a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(lines, 2))
    return count


def _move(floors: list[list[Place]]) -> None:
    """Give each place its `x`: as near as its floor allows to the middle of what it is joined to."""
    for floor in floors:
        _spread(floor, [0.0] * len(floor))
    for number in range(_MOVES):
        for floor in floors if number % 2 == 0 else reversed(floors):
            _spread(floor, [_middle(place) for place in floor])
    left = min(place.x - place.width / 2 for floor in floors for place in floor)
    for place in (place for floor in floors for place in floor):
        place.x -= left


def _middle(place: Place) -> float:
    """The mean of the places above and below, lines before boxes."""
    near = [(other.x, _weight(other)) for other in (*place.above, *place.below)]
    return _mean(near) if near else place.x


def _weight(place: Place) -> float:
    return 1.0 if place.name else _STRAIGHT


def _spread(floor: list[Place], wanted: list[float]) -> None:
    """Put the places as near as can be to where they are wanted, in their order and without overlap.

    Places that would overlap are joined to a group, which goes to the mean of what its members want.
    """
    offsets = _offsets(floor)
    groups: list[list[tuple[float, float]]] = []
    for place, x, offset in zip(floor, wanted, offsets, strict=True):
        groups.append([(x - offset, _weight(place))])
        while len(groups) > 1 and _mean(groups[-2]) > _mean(groups[-1]):
            groups[-2:] = [[*groups[-2], *groups[-1]]]
    starts = [_mean(group) for group in groups for _ in group]
    for place, start, offset in zip(floor, starts, offsets, strict=True):
        place.x = round(start + offset, 1)


def _offsets(floor: list[Place]) -> list[float]:
    """The middle of each place when the floor is packed as tightly as it can be."""
    offsets = [0.0]
    for one, other in pairwise(floor):
        offsets.append(offsets[-1] + (one.width + other.width) / 2 + GAP)
    return offsets[: len(floor)]


def _mean(values: Sequence[tuple[float, float]]) -> float:
    """The mean of numbers with weights."""
    return sum(value * weight for value, weight in values) / sum(weight for _, weight in values)
