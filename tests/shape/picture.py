"""docs/architecture.svg: the packages on their layers, and arrows for the imports between them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from tests.shape import layers, layout
from tests.shape.modules import LOOSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.shape.layers import Package
    from tests.shape.layout import Layout, Place
    from tests.shape.modules import Modules

    Arrow = tuple[str, str]

_BOX: Final = (190.0, 44.0)
_PITCH: Final = 78.0
_MARGIN: Final = 24.0
# Room at the left for what the groups of layers are for.
_LEFT: Final = 150.0
_HEAD: Final = 60.0
_PASSING: Final = 6.0
# What layers are for, from which package's on, and the colours of their stripe and their boxes.
_GROUPS: Final = (
    ("takes the command", "and prints", "cli", "#fff4d6", "#b8860b"),
    ("makes and runs", "images, servers, hosts", "aws", "#e3f0e5", "#3f7d4e"),
    ("renders", "values, no I/O", "userdata", "#e2edf7", "#33658a"),
    ("reads", "what the user wrote", "spec", "#efe6f5", "#76508f"),
    ("serves all", "", "yamlfile", "#eceff1", "#607078"),
)
_LEGEND: Final = (
    "An arrow means: imports. Left out: arrows that follow from others, and those to the lowest row. "
    "Dashed: an exception."
)
_STYLE: Final = """  <style>
    text { font-family: "DejaVu Sans", Verdana, Helvetica, Arial, sans-serif; fill: #1d2b33; }
    .name { font-size: 14px; font-weight: bold; }
    .holds, .count { font-size: 10.5px; fill: #46565f; }
    .group { font-size: 13px; font-weight: bold; fill: #46565f; }
    .title { font-size: 17px; font-weight: bold; }
    .arrow { fill: none; stroke: #7d8c94; stroke-width: 1.3; }
    .beside { stroke-dasharray: 4 3; }
  </style>
  <defs>
    <marker id="head" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="7" markerHeight="7" orient="auto">
      <path d="M0 0.8 L8 4 L0 7.2 z" fill="#7d8c94"/>
    </marker>
  </defs>
"""


def svg(modules: Modules) -> str:
    """The picture as text; the same imports give the same bytes."""
    arrows = imports(modules)
    down = [arrow for arrow in sorted(arrows) if _floor(arrow[0]) < _floor(arrow[1])]
    boxes = [{package.name: _BOX[0] for package in layer} for layer in layers.LAYERS[:-1]]
    plan = layout.lay_out(boxes, _telling(down), _PASSING)
    width = max(place.x + place.width / 2 for floor in plan.floors for place in floor) + _LEFT + _MARGIN
    height = _top(len(layers.LAYERS)) + 14
    size = f'width="{width:g}" height="{height:g}"'
    label = "The packages of er, and which imports which"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" {size}\n',
        f'     role="img" aria-label="{label}">\n',
        _STYLE,
        f'  <rect {size} fill="#ffffff"/>\n',
        *_bands(width),
        _text(20, 30, "title", "builder/: who imports whom"),
        *_arrows(plan),
        *_beside(plan, [arrow for arrow in sorted(arrows) if _floor(arrow[0]) == _floor(arrow[1])]),
        *_boxes(plan, layers.count(modules), width),
        _text(20, height - 14, "holds", _LEGEND),
        "</svg>\n",
    ]
    return "".join(lines)


def imports(modules: Modules) -> set[Arrow]:
    """Which package imports which; the loose modules, which everybody imports, left out."""
    return {
        (module.package, modules[name].package)
        for module in modules.values()
        for name in module.imports
        if module.package != modules[name].package and LOOSE not in {module.package, modules[name].package}
    }


def _telling(arrows: Iterable[Arrow]) -> list[Arrow]:
    """Those that do not follow from others: A to C says nothing where A leads to B and B to C."""
    ends: dict[str, set[str]] = {}
    for start, end in arrows:
        ends.setdefault(start, set()).add(end)

    def beyond(name: str) -> set[str]:
        return set().union(*({end} | beyond(end) for end in ends.get(name, ())))

    return [
        (start, end) for start, near in ends.items() for end in sorted(near) if not any(end in beyond(n) for n in near)
    ]


def _floor(name: str) -> int:
    return layers.RULES.depth()[name]


def _top(floor: int) -> float:
    return _HEAD + floor * _PITCH


def _bands(width: float) -> Iterator[str]:
    """A stripe behind the layers of each group, with its name."""
    ends = [*(_floor(group[2]) for group in _GROUPS[1:]), len(layers.LAYERS)]
    for (name, what, package, fill, _), end in zip(_GROUPS, ends, strict=True):
        first = _floor(package)
        top, height = _top(first) - 17, (end - first) * _PITCH - 4
        size = f'width="{width - 16:g}" height="{height:g}"'
        yield f'  <rect x="8" y="{top:g}" {size} rx="8" fill="{fill}" opacity="0.45"/>\n'
        yield _text(20, top + 26, "group", name)
        yield _text(20, top + 43, "holds", what)


def _arrows(plan: Layout) -> Iterator[str]:
    for route in plan.routes.values():
        starts = _port(route[0], route[1], route[0].below)
        ends = _port(route[-1], route[-2], route[-1].above)
        yield f'  <path class="arrow" marker-end="url(#head)" d="{_curve(route, starts, ends)}"/>\n'


def _port(box: Place, towards: Place, others: list[Place]) -> float:
    """Where on the edge of a box a line begins or ends: lines to the left of others stay there."""
    order = sorted(others, key=lambda place: place.x)
    step = min(26.0, (box.width - 40) / max(len(order), 1))
    return box.x + ([*map(id, order)].index(id(towards)) - (len(order) - 1) / 2) * step


def _curve(route: list[Place], start: float, end: float) -> str:
    """Down through the gaps between layers in curves, past the boxes of a layer straight."""
    points = [start, *(place.x for place in route[1:-1]), end]
    text = f"M{_x(start)} {_top(route[0].floor) + _BOX[1]:g}"
    for place, (left, right) in zip(route[1:], pairwise(points), strict=True):
        top, gap = _top(place.floor), _PITCH - _BOX[1]
        text += f" C{_x(left)} {top - gap * 0.4:g} {_x(right)} {top - gap * 0.6:g} {_x(right)} {top:g}"
        text += "" if place.name else f" V{top + _BOX[1]:g}"
    return text


def _x(x: float) -> str:
    return f"{x + _LEFT:.1f}".removesuffix(".0")


def _beside(plan: Layout, arrows: list[Arrow]) -> Iterator[str]:
    """Imports of a neighbour, each an exception with its reason: from below one box to below the other."""
    boxes = {place.name: place for floor in plan.floors for place in floor}
    for start, end in arrows:
        one, other = boxes[start], boxes[end]
        way = 1 if other.x > one.x else -1
        left, right, low = one.x + way * (one.width / 2 - 12), other.x - way * (other.width / 2 - 12), _top(one.floor)
        low += _BOX[1]
        curve = f"M{_x(left)} {low:g} C{_x(left)} {low + 24:g} {_x(right)} {low + 24:g} {_x(right)} {low:g}"
        yield f'  <path class="arrow beside" marker-end="url(#head)" d="{curve}"/>\n'


def _boxes(plan: Layout, counts: dict[str, int], width: float) -> Iterator[str]:
    for place in (place for floor in plan.floors for place in floor if place.name):
        left = place.x - place.width / 2 + _LEFT
        yield from _box(layers.PACKAGES[place.name], counts, left, place.width)
    yield from _box(layers.PACKAGES[LOOSE], counts, _LEFT, width - _LEFT - _MARGIN)


def _box(package: Package, counts: dict[str, int], left: float, width: float) -> Iterator[str]:
    """A package: its name, its number of modules, and what it holds."""
    top = _top(_floor(package.name))
    stroke = [colour for *_, first, _, colour in _GROUPS if _floor(first) <= _floor(package.name)][-1]
    yield (
        f'  <rect x="{left:g}" y="{top:g}" width="{width:g}" height="{_BOX[1]:g}" rx="5" fill="#ffffff" '
        f'stroke="{stroke}" stroke-width="1.5"/>\n'
    )
    yield _text(left + 10, top + 18, "name", package.name)
    yield _text(left + 10, top + 34, "holds", package.holds)
    number = counts.get(package.name, 0)
    yield _text(left + width - 10, top + 18, "count", f"{number} modules", "end")


def _text(x: float, y: float, kind: str, words: str, anchor: str = "start") -> str:
    at = "" if anchor == "start" else f' text-anchor="{anchor}"'
    return f'  <text class="{kind}" x="{x:g}" y="{y:g}"{at}>{escape(words)}</text>\n'
