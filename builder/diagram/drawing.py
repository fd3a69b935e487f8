"""A scene as SVG: its shapes and texts, in the colours of two schemes, of which the reader's own is shown.

Text stays text, nothing is loaded from elsewhere and nothing runs. Every text is escaped here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from builder.diagram import content, placing
from builder.diagram.scene import LOOKS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.diagram.scene import Box, Dot, Line, Look, Scene, Text
    from builder.spec import Spec


def svg(spec: Spec, marks: content.Marks | None = None) -> bytes:
    """The picture of a host as a file, with what was seen of it; the same spec gives the same bytes."""
    return draw(placing.scene(content.of(spec, marks)))


# By role, in light and in dark: the colour of a text, or fill and edge of a shape.
TEXT_COLOURS: Final = {
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#505a64", "#a9b4bf"),
    "site": ("#0a5299", "#79bbff"),
    "good": ("#17663a", "#5fd08a"),
    "bad": ("#a3101d", "#ff8f8a"),
}
FILLS: Final = {
    "page": ("#ffffff", "#0d1117"),
    "frame": ("#f6f8fa", "#151b23"),
    "world": ("#ffffff", "#0d1117"),
    "wall": ("#fdf0e3", "#2b2017"),
    "gate": ("#ffffff", "#151b23"),
    "proxy": ("#e7f4ea", "#14261b"),
    "ssh": ("#fdf0e3", "#2b2017"),
    "stack": ("#eaf1fa", "#16233a"),
    "service": ("#ffffff", "#0f1826"),
    "socket": ("#ffffff", "#0f1826"),
    "data": ("#f3eefa", "#221b31"),
}
EDGES: Final = {
    "page": ("#d1d9e0", "#30363d"),
    "frame": ("#8c959f", "#59636e"),
    "world": ("#8c959f", "#767f8a"),
    "wall": ("#c8681c", "#c9813f"),
    "gate": ("#c8681c", "#c9813f"),
    "proxy": ("#2f7d4f", "#4f9e6e"),
    "ssh": ("#c8681c", "#c9813f"),
    "stack": ("#3a6ea5", "#5b8fc9"),
    "service": ("#a9c1dd", "#3a5477"),
    "socket": ("#3a6ea5", "#5b8fc9"),
    "data": ("#76508f", "#a17fbb"),
}
STROKES: Final = {
    "way": ("#57606a", "#9aa4af"),
    "out": ("#8a5a2b", "#c9a37a"),
    "network": ("#76508f", "#b695d0"),
    "sign": ("#76508f", "#b695d0"),
    "rule": ("#9dc7ab", "#33553f"),
}
_FONTS: Final = {
    False: 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "DejaVu Sans", sans-serif',
    True: 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace',
}
_RADIUS: Final = {"frame": 12, "page": 14, "service": 5, "gate": 5, "socket": 4}


def draw(scene: Scene) -> bytes:
    """The file of a scene."""
    size = f'width="{scene.width:g}" height="{scene.height:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {scene.width:g} {scene.height:g}" {size} role="img" ',
        'aria-labelledby="title description">\n',
        f'<title id="title">{escape(scene.title)}</title>\n<desc id="description">{escape(scene.description)}</desc>\n',
        f"<style>\n{_style()}</style>\n",
        "<defs>\n" + "".join(_marker(look) for look in ("way", "out")) + "</defs>\n",
        f'<rect class="page" x="0.5" y="0.5" width="{scene.width - 1:g}" height="{scene.height - 1:g}" rx="14"/>\n',
        *map(_rect, scene.boxes),
        *map(_path, scene.lines),
        *map(_dot, scene.dots),
        *map(_text, scene.texts),
        "</svg>\n",
    ]
    return "".join(parts).encode()


def _style() -> str:
    """All rules: what does not depend on the scheme, the light colours, and the dark ones over them."""
    return "".join((*map(_font, LOOKS, LOOKS.values()), _SHAPES, *_colours(0), _DARK, *_colours(1), "}\n"))


_SHAPES: Final = """rect { stroke-width: 1.2; }
path, ellipse { fill: none; stroke-width: 1.4; }
.rule { stroke-width: 1; }
.out { stroke-dasharray: 5 3; }
"""
_DARK: Final = "@media (prefers-color-scheme: dark) {\n"


def _font(name: str, look: Look) -> str:
    weight = " font-weight: 600;" if look.bold else ""
    return f".t-{name} {{ font-family: {_FONTS[look.monospace]}; font-size: {look.size:g}px;{weight} }}\n"


def _colours(scheme: int) -> Iterator[str]:
    for name, look in LOOKS.items():
        yield f".t-{name} {{ fill: {TEXT_COLOURS[look.colour][scheme]}; }}\n"
    for role, fill in FILLS.items():
        yield f".{role} {{ fill: {fill[scheme]}; stroke: {EDGES[role][scheme]}; }}\n"
    for role, stroke in STROKES.items():
        yield f".{role} {{ stroke: {stroke[scheme]}; }}\n.f-{role} {{ fill: {stroke[scheme]}; }}\n"


def _marker(look: str) -> str:
    return (
        f'<marker id="to-{look}" viewBox="0 0 8 8" refX="7.5" refY="4" markerWidth="8" markerHeight="8" '
        f'markerUnits="userSpaceOnUse" orient="auto"><polygon class="f-{look}" points="0,0.6 8,4 0,7.4"/></marker>\n'
    )


def _rect(box: Box) -> str:
    size = f'width="{box.width:g}" height="{box.height:g}" rx="{_RADIUS.get(box.look, 7)}"'
    return f'<rect class="{box.look}" x="{box.x:g}" y="{box.y:g}" {size}/>\n'


def _path(line: Line) -> str:
    points = "L".join(f"{x:g} {y:g}" for x, y in line.points)
    end = f' marker-end="url(#to-{line.look})"' if line.arrow else ""
    return f'<path class="{line.look}" d="M{points}"{end}/>\n'


# What is drawn around a point: a dot on a line, a volume, a file.
_SIGNS: Final = {
    "member": '<circle class="f-network" r="3.2"/>',
    "leaves": '<circle class="f-out" r="3"/>',
    "volume": (
        '<ellipse class="sign" cy="-3.5" rx="4.5" ry="1.8"/>'
        '<path class="sign" d="M-4.5 -3.5V3.5A4.5 1.8 0 0 0 4.5 3.5V-3.5"/>'
    ),
    "file": '<path class="sign" d="M-3.5 -5H1.5L4 -2.5V5H-3.5ZM1.5 -5V-2.5H4"/>',
}  # fmt: skip


def _dot(dot: Dot) -> str:
    return f'<g transform="translate({dot.x:g} {dot.y:g})">{_SIGNS[dot.look]}</g>\n'


def _text(text: Text) -> str:
    anchor = ' text-anchor="end"' if text.right else ""
    whole = f"<title>{escape(text.whole)}</title>" if text.whole else ""
    return f'<text class="t-{text.look}" x="{text.x:g}" y="{text.y:g}"{anchor}>{whole}{escape(text.words)}</text>\n'
