"""What only a host with deploy keys has beside its templates: the file of the keys, and the remote part that they ask.

The client of an admin sends that part along. A deploy key may send no code, so it lies on the host, as modules without
comments and docstrings: user-data pays by the byte.
"""

from __future__ import annotations

import ast
import io
import token
import tokenize
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.host.model import File, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec


def files(spec: Spec) -> Iterator[File]:
    """Nothing where no stack has deploy keys."""
    if not any(stack.deploy for stack in spec.stacks):
        return
    yield File(facts.DEPLOY_KEYS, "".join(_key_lines(spec)).encode(), Part.FIRST_BOOT)
    for name, content in _code():
        yield File(f"{facts.DEPLOY_CODE}/{name}", content, Part.FIRST_BOOT)


def _key_lines(spec: Spec) -> Iterator[str]:
    """The lines of authorized_keys: what is not said there, a key may not do; see `restrict` in sshd(8)."""
    for stack in spec.stacks:
        for key in stack.deploy.ssh_keys if stack.deploy else ():
            yield f'restrict,command="{facts.DEPLOY_SHELL} {stack.name}" {key}\n'


_SOURCES: Final = Path(__file__).resolve().parents[2]
_REMOTE: Final = "builder.server.remote"
# What the service starts with, and what its transient units do, which name it in a text.
_STARTS: Final = (f"{_REMOTE}.deploy_service", f"{_REMOTE}.main")
_MAIN: Final = f"from {_STARTS[0]} import main\n\nmain()\n"


@cache
def _code() -> tuple[tuple[str, bytes], ...]:
    """Path below the directory and content of each file."""
    modules: dict[str, bytes] = {}
    _add(_STARTS, modules)
    found = {f"{name.replace('.', '/')}.py": content for name, content in modules.items()}
    return tuple(sorted({"__main__.py": _MAIN.encode(), **found}.items()))


def _add(names: Iterator[str] | tuple[str, ...], modules: dict[str, bytes]) -> None:
    """Add these modules and all that they import of ours."""
    for name in names:
        if name not in modules:
            text = (_SOURCES / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8")
            modules[name] = stripped(text).encode()
            _add(_imported(ast.parse(text)), modules)


def _imported(tree: ast.AST) -> Iterator[str]:
    """The names of our modules that are imported when the program runs, at the top or inside a function."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "builder":
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if _is_module(whole) else str(node.module)
        yield from _imported(node)


def _is_module(name: str) -> bool:
    return (_SOURCES / f"{name.replace('.', '/')}.py").is_file()


def stripped(text: str) -> str:
    """Python without comments, docstrings and empty lines, indented with tabs; its meaning stays.

    It goes by tokens and lines, so that every Python makes the same of it.
    """
    lines = text.splitlines(keepends=True)
    inside: set[int] = set()  # numbers of lines that begin inside of a text
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    opened: list[int] = []
    for one in tokens:
        name = token.tok_name[one.type]
        if name == "FSTRING_START":
            opened.append(one.start[0])
        first = opened.pop() if name == "FSTRING_END" else one.start[0]
        if name in {"STRING", "FSTRING_END"}:
            inside |= set(range(first + 1, one.end[0] + 1))
    for start, end, instead in _cuts(tokens):
        _cut(lines, start, end, instead)
        inside -= set(range(start[0], end[0] + 1))
    kept = (line if number in inside else _with_tabs(line) for number, line in enumerate(lines, 1))
    return "".join(kept)


_Place = tuple[int, int]
_SKIPPED: Final = frozenset({tokenize.COMMENT, tokenize.NL})
_BEFORE_STATEMENT: Final = frozenset({tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING})


def _cuts(tokens: list[tokenize.TokenInfo]) -> Iterator[tuple[_Place, _Place, str]]:
    """Start and end of each comment and each statement that is a text alone, and what stands there instead."""
    last = tokenize.ENCODING
    for number, one in enumerate(tokens):
        if one.type == tokenize.COMMENT:
            yield one.start, one.end, ""
        following = [other.type for other in tokens[number + 1 : number + 12] if other.type not in _SKIPPED]
        if one.type == tokenize.STRING and last in _BEFORE_STATEMENT and following[:1] == [tokenize.NEWLINE]:
            # A body of nothing else needs a statement.
            yield one.start, one.end, "pass" if following[1:2] == [tokenize.DEDENT] and one.start[1] else ""
        if one.type not in _SKIPPED:
            last = one.type


def _cut(lines: list[str], start: _Place, end: _Place, instead: str) -> None:
    """Replace what stands there; the number of lines stays."""
    first, last = lines[start[0] - 1], lines[end[0] - 1]
    head, tail = first[: start[1]] + instead, last[end[1] :]
    for number in range(start[0] - 1, end[0]):
        lines[number] = ""
    lines[end[0] - 1] = head + tail


def _with_tabs(line: str) -> str:
    """The line indented with a tab for four spaces; nothing of one without content."""
    content = line.strip()
    if not content:
        return ""
    spaces = len(line) - len(line.lstrip(" "))
    return "\t" * (spaces // 4) + " " * (spaces % 4) + content + "\n"
