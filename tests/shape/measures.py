"""The numbers of `make shape`: one tree a column."""

from __future__ import annotations

from statistics import median, quantiles
from typing import TYPE_CHECKING, Final

from tests.shape.modules import circles, importers, plurals, reached, repeated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.shape.modules import Modules

# The commands, and the modules that they begin in.
COMMANDS: Final = {
    "er launch": "builder.cli.launch",
    "er build-image": "builder.cli.build_image",
    "er try": "builder.cli.trial",
    "er server apply": "builder.cli.server.apply",
}


def numbers(modules: Modules) -> dict[str, str]:
    """What is measured, and what came out."""
    counted = [module for module in modules.values() if module.counted]
    functions = [lines for module in modules.values() for lines in module.functions]
    users = [len(others) for others in importers(modules).values()]
    return {
        "modules": f"{len(modules)}",
        "modules over 5 lines": f"{len(counted)}",
        "lines": f"{sum(module.lines for module in modules.values()):,}",
        "lines a module: median / p90 / max": spread(module.lines for module in counted),
        "functions": f"{len(functions):,}",
        "lines a function: median / p90 / max": spread(functions),
        "functions a module": f"{len(functions) / max(len(counted), 1):.1f}",
        "importers a module: median / p90 / max": spread(users),
        "modules with exactly one importer": f"{users.count(1)}",
        "circles of imports": f"{len(circles(modules))}",
        "module names that occur twice or more": f"{len(repeated(modules))}",
        "pairs of names that differ by an s": f"{len(plurals(modules))}",
        **_pulled_in(modules),
    }


def _pulled_in(modules: Modules) -> dict[str, str]:
    """How many modules the one that each command begins in imports, those that they import, and so on."""
    return {
        f"modules that `{command}` pulls in": f"{len(reached(modules, start))}" if start in modules else "-"
        for command, start in COMMANDS.items()
    }


def spread(values: Iterable[int]) -> str:
    """Median, 90th percentile and maximum."""
    known = sorted(values)
    if len(known) < 2:
        return "-"
    ninetieth = quantiles(known, n=10, method="inclusive")[-1]
    return f"{median(known):.0f} / {ninetieth:.0f} / {known[-1]}"


def table(trees: Mapping[str, Modules]) -> str:
    """The numbers of each tree beside each other."""
    columns = [numbers(modules) for modules in trees.values()]
    rows = [["", *trees], *([name, *(column[name] for column in columns)] for name in columns[0])]
    return _aligned(rows)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as lines: the first column to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "".join(f"{line}\n" for line in lines)


def details(modules: Modules) -> str:
    """The circles, repeated names and pairs of a tree, each by name."""
    parts = [
        ("circles of imports", [" - ".join(circle) for circle in circles(modules)]),
        ("names that occur twice or more", [f"{name}: {', '.join(at)}" for name, at in repeated(modules).items()]),
        ("names that differ by an s", [" - ".join(pair) for pair in plurals(modules)]),
    ]
    return "\n".join(f"{title}\n" + "".join(f"  {line}\n" for line in lines or ["none"]) for title, lines in parts)
