"""How long `er user-data` takes, whole process, for 1 to 1000 stacks."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import specs
from bench.result import Goal, Result, Row, Sample, interleaved, slope
from builder import process

if TYPE_CHECKING:
    from bench.options import Options

_SIZES: Final = (1, 3, 10, 100, 1000)
_GOAL: Final = 0.4
_COMPARED: Final = """\
`er user-data SPEC --on stock -o FILE`, from the start of the process to its end, on generated specs of stacks of one
service. The ratio is to the same command with one stack. Compiled modules are cached as in any installation:
`PYTHONDONTWRITEBYTECODE`, which makes every start compile them again, is not set for these runs."""


def run(options: Options) -> Result:
    """Measure all sizes."""
    sizes = _SIZES[:-1] if options.quick else _SIZES
    with tempfile.TemporaryDirectory(prefix="er-bench-") as name:
        measures = [(_what(size), partial(_time, _spec(Path(name), size))) for size in sizes]
        for _, measure in measures[:2]:
            measure()
        found = interleaved(options.rounds(7), measures)
    rows = tuple(Row(what, sample, "s", None if what == _what(1) else _what(1)) for what, sample in found.items())
    goal = Goal("`er user-data` for 3 stacks", "at most", _GOAL, found[_what(3)].median, "s")
    return Result("user-data", "`er user-data`", _COMPARED, rows, (goal, _linear(sizes, found)))


def _what(size: int) -> str:
    return "1 stack" if size == 1 else f"{size} stacks"


def _linear(sizes: tuple[int, ...], found: dict[str, Sample]) -> Goal:
    """What one stack more costs at the largest sizes, against the smaller ones: 1 is a straight line."""
    points = [(float(size), found[_what(size)].median) for size in sizes]
    bend = slope(points[-2:]) / slope(points[:-1])
    return Goal("What a stack more costs, at the largest size against the smaller ones", "at most", 1.5, bend)


def _spec(folder: Path, size: int) -> Path:
    path = folder / f"{size}.yaml"
    return specs.write(path, size, image="registry.example.com/team/app:1.4", proxy="docker.io/library/caddy:2.11")


def _time(spec: Path) -> float:
    command = [sys.executable, "-m", "builder", "user-data", str(spec), "--on", "stock"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    since = time.perf_counter()
    process.run([*command, "-o", str(spec.with_suffix(".out"))], env=environment)
    return time.perf_counter() - since
