"""Record a real `er try` of examples/hello.yaml and draw it: `make recording` writes docs/try.svg.

Each line comes when it came then; who wants no motion, or has a viewer without it, sees all lines at once. Text stays
text, nothing is loaded and nothing runs.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from xml.sax.saxutils import escape

from builder import files
from builder.diagram.drawing import EDGES, FILLS, TEXT_COLOURS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).parents[1]
FILE: Final = ROOT / "docs/try.svg"
WORDS: Final = ("er", "try", "examples/hello.yaml")


class Line(NamedTuple):
    """What was printed, and how many seconds after the start."""

    at: float
    text: str


def run() -> list[Line]:
    """The lines of a real run, as they came; a failure ends this program."""
    argv = [sys.executable, "-m", "builder", *WORDS[1:]]
    since = time.monotonic()
    with subprocess.Popen(argv, cwd=ROOT, stderr=subprocess.PIPE, text=True) as running:
        lines = [Line(time.monotonic() - since, line.rstrip("\n")) for line in running.stderr or ()]
    if running.returncode != 0:
        raise SystemExit("\n".join(line.text for line in lines))
    return lines


_COLUMNS: Final = 100
_CHAR, _LINE, _SIZE = 7.83, 19.0, 13  # a monospaced font of 13 pixels
_PAD: Final = 18.0


def draw(lines: Iterable[Line]) -> str:
    """The picture of a run."""
    shown = [Line(0.0, f"$ {' '.join(WORDS)}"), *(row for line in lines for row in _rows(line))]
    width, height = _COLUMNS * _CHAR + 2 * _PAD, len(shown) * _LINE + 2 * _PAD
    told = escape(" ".join(WORDS))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-labelledby="title description">\n'
        f'<title id="title">A run of {told}</title>\n'
        f'<desc id="description">{escape(_description(shown))}</desc>\n<style>\n{_style(shown)}</style>\n'
        f'<rect x="0.5" y="0.5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="10"/>\n'
        f"{''.join(_drawn(shown))}</svg>\n"
    )


def _rows(line: Line) -> Iterator[Line]:
    """A long line goes on below, further in."""
    indent = " " * max(len(line.text) - len(line.text.lstrip()) + 2, 12)
    for text in textwrap.wrap(
        line.text, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False, replace_whitespace=False
    ) or [""]:
        yield Line(line.at, text)


def _description(shown: list[Line]) -> str:
    return "; ".join(" ".join(line.text.split()) for line in shown if line.text)


def _style(shown: list[Line]) -> str:
    delays = sorted({_tenths(line) for line in shown[1:]})
    ink, fill, edge = TEXT_COLOURS["ink"], FILLS["frame"], EDGES["page"]
    font = 'ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace'
    return (
        f"text {{ font-family: {font}; font-size: {_SIZE}px; white-space: pre; fill: {ink[0]}; }}\n"
        f".typed {{ font-weight: 600; }}\nrect {{ fill: {fill[0]}; stroke: {edge[0]}; }}\n"
        f"@media (prefers-color-scheme: dark) {{ text {{ fill: {ink[1]}; }}\n"
        f"rect {{ fill: {fill[1]}; stroke: {edge[1]}; }} }}\n"
        "@keyframes come { from { opacity: 0; } to { opacity: 1; } }\n"
        "@media (prefers-reduced-motion: no-preference) { .later { animation: come 0.15s linear backwards; }\n"
        + "".join(f".at{tenths} {{ animation-delay: {tenths / 10:g}s; }}\n" for tenths in delays)
        + "}\n"
    )


def _tenths(line: Line) -> int:
    """When it came, in tenths of a second."""
    return round(line.at * 10)


def _drawn(shown: list[Line]) -> Iterator[str]:
    for number, line in enumerate(shown):
        if line.text:
            look = "typed" if not number else f"later at{_tenths(line)}"
            y = _PAD + _LINE * number + _SIZE
            yield f'<text class="{look}" x="{_PAD:g}" y="{y:g}" xml:space="preserve">{escape(line.text)}</text>\n'


if __name__ == "__main__":
    files.write(FILE, draw(run()).encode())
