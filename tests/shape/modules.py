"""Python files as modules: their lines, their functions, and which others of the tree they import."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Modules = Mapping[str, "Module"]

LOOSE: Final = "loose"
# A file of so many lines is there for Python (a package's marker, `__main__`) and holds nothing to read.
_EMPTY: Final = 5


@dataclass(frozen=True)
class Module:
    """One file. `imports` holds modules of the same tree, those for type checkers and inside functions too."""

    name: str
    path: str
    lines: int
    functions: tuple[int, ...]
    imports: frozenset[str]

    @property
    def counted(self) -> bool:
        """Whether there is something to read in it."""
        return self.lines > _EMPTY

    @property
    def label(self) -> str:
        """The last part of its name: the file's without `.py`, or for `__init__.py` the package's."""
        return self.name.rpartition(".")[2]

    @property
    def package(self) -> str:
        """The package below builder/ that it belongs to, or `loose`. `python -m builder` is the command line's."""
        parts = self.path.split("/")
        if self.label == "__main__":
            return "cli"
        return parts[1] if len(parts) > 2 else LOOSE


def read(files: Mapping[str, str]) -> dict[str, Module]:
    """Paths and texts as modules, by their dotted names."""
    paths = {_name(path): path for path in files}
    return {name: _module(name, path, files[path], frozenset(paths)) for name, path in paths.items()}


def _name(path: str) -> str:
    parts = PurePosixPath(path).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _module(name: str, path: str, text: str, names: frozenset[str]) -> Module:
    nodes = list(ast.walk(ast.parse(text, path)))
    functions = tuple(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    imports = {target for node in nodes for target in _targets(node, names)} - {name}
    return Module(name, path, len(text.splitlines()), functions, frozenset(imports))


def _targets(node: ast.AST, names: frozenset[str]) -> Iterator[str]:
    """What an import statement names: `from builder.aws import api` the module api, not the package."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield from ((inner,) if inner in names else (node.module,) if node.module in names else ())


def importers(modules: Modules) -> dict[str, list[str]]:
    """Each module, and those that import it."""
    found: dict[str, list[str]] = {name: [] for name in modules}
    for module in modules.values():
        for target in module.imports:
            found[target].append(module.name)
    return found


def reached(modules: Modules, start: str) -> set[str]:
    """What a module imports, what those import, and so on; itself too."""
    seen: set[str] = set()
    queue = [start]
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue.extend(modules[name].imports)
    return seen


def circles(modules: Modules) -> list[list[str]]:
    """Modules that import each other, directly or by way of others: each circle once, by name."""
    reach = {name: reached(modules, name) for name in modules}
    found = {tuple(sorted(other for other in reach[name] if name in reach[other])) for name in modules}
    return [[*circle] for circle in sorted(found) if len(circle) > 1]


def repeated(modules: Modules) -> dict[str, list[str]]:
    """File names that occur more than once, and where; a package's `__init__.py` has the package's name."""
    places: dict[str, list[str]] = {}
    for module in modules.values():
        places.setdefault(module.label, []).append(module.path)
    return {label: sorted(paths) for label, paths in sorted(places.items()) if len(paths) > 1}


def plurals(modules: Modules) -> list[tuple[str, str]]:
    """Pairs of names that differ by an `s` at the end."""
    labels = {module.label for module in modules.values()}
    return sorted((label, f"{label}s") for label in labels if f"{label}s" in labels)
