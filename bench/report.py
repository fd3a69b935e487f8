"""Results as Markdown, and as a table for a terminal. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bench.result import Goal, Result, Row, Sample

_HEAD: Final = ("what", "median", "lowest to highest", "ratio", "lowest to highest")
INTRODUCTION: Final = """# Benchmarks

Written by `make bench`; edit nothing here. What counts are ratios within one run: the contenders take turns, round by
round (A B A B …), a number is the median of the rounds, and beside it stand the lowest and the highest. The absolute
numbers belong to the machine of the run and say nothing about another:
{machine}.

![The same numbers as a plot](benchmarks.svg)
"""
_AGAIN: Final = """## Again

```console
$ sudo make bench                                   # all of it, and this page
$ .venv/bin/python -m bench --only boot --rounds 9  # one of them, on the screen only
$ .venv/bin/python -m bench --quick                 # all of them, small
```
"""


def markdown(results: Iterable[Result], machine: str) -> str:
    """The page docs/benchmarks.md."""
    sections = [INTRODUCTION.format(machine=machine), *(section(result) for result in results), _AGAIN]
    return "\n".join(sections)


def section(result: Result) -> str:
    """One benchmark of the page."""
    lines = [f"## {result.title}", "", result.compared, "", *_table(result)]
    lines += ["", *(f"* {goal_line(goal)}" for goal in result.goals)] if result.goals else []
    lines += ["", *result.notes] if result.notes else []
    return "\n".join(lines) + "\n"


def goal_line(goal: Goal) -> str:
    """A goal and whether it is met."""
    verdict = "met" if goal.met else "**missed**"
    found, limit = (f"{number(value)}{_space(goal.unit)}" for value in (goal.found, goal.limit))
    return f"{goal.text}: {found}, wanted {goal.bound} {limit}: {verdict}"


def _table(result: Result) -> list[str]:
    lines = ["| " + " | ".join(_HEAD) + " |", "|---|---:|---:|---:|---:|"]
    return lines + ["| " + " | ".join(cells(result, row)) + " |" for row in result.rows]


def cells(result: Result, row: Row) -> tuple[str, ...]:
    """A row as text; what stands against nothing has no ratio."""
    ratio = result.ratio(row)
    ratios = (f"{number(ratio.median)}x", _range(ratio)) if ratio else ("", "")
    return (row.what, f"{number(row.sample.median)} {row.unit}", _range(row.sample), *ratios)


def plain(result: Result) -> str:
    """The result for a terminal, columns aligned."""
    table = [_HEAD, *(cells(result, row) for row in result.rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(_HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join([result.title, *lines, *(goal_line(goal) for goal in result.goals)]) + "\n"


def _range(sample: Sample) -> str:
    return f"{number(sample.low)} to {number(sample.high)}"


def number(value: float) -> str:
    """Three significant digits, thousands separated, never in exponents."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.4f}"


def _space(unit: str) -> str:
    return unit if unit == "x" else f" {unit}"
