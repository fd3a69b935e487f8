"""The ratios of a run as one picture, a panel for each benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import matplotlib as mpl
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from bench.result import Result

_WIDTH: Final = 9.0
_LINE: Final = 0.34
_COLOUR: Final = "#33658a"
_BASE: Final = "#9aa5ab"


def write(target: Path, results: Sequence[Result]) -> None:
    """Write the picture; the same results give the same bytes."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "easyrunner", "font.size": 8})
    lines = [len(result.rows) for result in results]
    size = (_WIDTH, sum(lines) * _LINE + len(results) * 0.9)
    figure, panels = plt.subplots(
        len(results), 1, figsize=size, height_ratios=lines, squeeze=False, layout="constrained"
    )
    for panel, result in zip(panels[:, 0], results, strict=True):
        _panel(panel, result)
    figure.savefig(target, format="svg", metadata={"Date": None})
    plt.close(figure)


def _panel(panel: Axes, result: Result) -> None:
    """A bar for each row, as a multiple of the row it stands against, with its lowest and highest round."""
    for number, row in enumerate(result.rows):
        ratio = result.ratio(row)
        if ratio is None:
            panel.barh(number, 1, color=_BASE)
            continue
        spread = [[ratio.median - ratio.low], [ratio.high - ratio.median]]
        panel.barh(number, ratio.median, color=_COLOUR, xerr=spread, ecolor="#f26419")
    panel.set_yticks(range(len(result.rows)), [row.what for row in result.rows])
    panel.invert_yaxis()
    panel.axvline(1, color="black", linewidth=0.6)
    panel.set_title(f"{result.title.strip('`')}: multiples of the grey bar", loc="left", fontsize=9)
    panel.spines[["top", "right"]].set_visible(False)
