"""The table of packages in docs/architecture.md, from the layers and the imports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.shape import layers, picture
from tests.shape.modules import LOOSE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.shape.layers import Package
    from tests.shape.modules import Modules

BEGIN: Final = "<!-- layers: made of tests/shape/layers.py, UPDATE=1 pytest tests/unit/test_layers.py -->"
END: Final = "<!-- end of the layers -->"
_HEAD: Final = "| package | modules | what it is | imports |\n|---|---:|---|---|"


def with_table(text: str, modules: Modules) -> str:
    """The page with its table made anew; ValueError when its marks are not there."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return "\n".join([before + BEGIN, *_lines(modules), "", END + after])


def _lines(modules: Modules) -> Iterator[str]:
    arrows, counts = picture.imports(modules), layers.count(modules)
    yield _HEAD
    for package in layers.PACKAGES.values():
        yield _row(package, counts.get(package.name, 0), {end for start, end in arrows if start == package.name})
    yield f"\nThe whole may have {layers.WHOLE} modules, a module {layers.LONGEST} lines. Exceptions:\n"
    yield from (f"* `{module}` imports `{target}`: {why}." for (module, target), why in layers.IMPORTS.items())
    yield from (f"* `{one}` and `{many}`: {why}." for (one, many), why in layers.PLURALS.items())


def _row(package: Package, count: int, imported: set[str]) -> str:
    order = [name for name in layers.PACKAGES if name in imported]
    name = "loose modules" if package.name == LOOSE else f"`{package.name}`"
    return f"| {name} | {count} of {package.budget} | {package.story} | {', '.join(order) or '-'} |"
