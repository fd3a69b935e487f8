"""Which Compose files `--compose` means: files of one stack, or directories, each with one stack or with several."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder import compose
from builder.starter import messages
from builder.starter.request import error

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class StackFiles:
    """The files of one stack; the first has its directory. `override` is what Compose lays over it by itself.

    `beside` are the names of Compose files that were not taken, `example` that of an example of the missing `.env`.
    """

    files: tuple[Path, ...]
    override: Path | None = None
    beside: tuple[str, ...] = ()
    example: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[Path, ...]:
        """What counts, in order."""
        return (*self.files, self.override) if self.override else self.files


def find(named: Sequence[Path]) -> tuple[StackFiles, ...]:
    """The stacks that these paths name. Raises UserError where there is none."""
    for path in named:
        if not path.is_dir() and not path.is_file():
            raise error(messages.COMPOSE_NOT_THERE, path=path)
    directories = [path for path in named if path.is_dir()]
    if directories and len(directories) < len(named):
        raise error(messages.COMPOSE_MIXED)
    if not directories:
        return (_stack(tuple(named)),)
    return tuple(stack for directory in dict.fromkeys(directories) for stack in _in_directory(directory))


def _in_directory(directory: Path) -> list[StackFiles]:
    own = _compose_file(directory)
    inner = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
    with_file = [path for path in inner if _compose_file(path)]
    if own is not None:
        stack = _stack((own,))
        note = messages.DIRECTORY_INNER.format(directory=directory, name=own.name)
        return [replace(stack, notes=(note,)) if with_file else stack]
    if not with_file:
        raise error(messages.COMPOSE_NONE, path=directory)
    stacks = [_stack((file,)) for path in with_file if (file := _compose_file(path))]
    skipped = ", ".join(path.name for path in inner if path not in with_file)
    if skipped:
        stacks[0] = replace(stacks[0], notes=(messages.DIRECTORY_SKIPPED.format(names=skipped),))
    return stacks


def _compose_file(directory: Path) -> Path | None:
    return next((directory / name for name in compose.NAMES if (directory / name).is_file()), None)


_COMPOSE_NAME: Final = re.compile(r"(docker-)?compose\b.*\.ya?ml")
_EXAMPLES: Final = (".env.example", ".env.sample", ".env.dist", ".env.template", "env.example", "example.env")


def _stack(files: tuple[Path, ...]) -> StackFiles:
    override = compose.override(files[0]) if len(files) == 1 else None
    taken = {path.resolve() for path in (*files, override) if path}
    directory = files[0].parent
    beside = (path for path in sorted(directory.iterdir()) if _COMPOSE_NAME.fullmatch(path.name) and path.is_file())
    examples = () if (directory / ".env").exists() else _EXAMPLES
    return StackFiles(
        files,
        override,
        tuple(path.name for path in beside if path.resolve() not in taken),
        next((name for name in examples if (directory / name).is_file()), None),
    )


_LONGEST: Final = 24


def stack_names(written: Iterable[tuple[str | None, StackFiles]]) -> tuple[str, ...]:
    """A name for each stack: the project's own, or that of its directory, as a stack can have it, each another."""
    names: list[str] = []
    for name, files in written:
        made = valid_name(name or files.files[0].resolve().parent.name)
        number, unique = 1, made
        while unique in names:
            number += 1
            unique = f"{made[: _LONGEST - 1 - len(str(number))].rstrip('-')}-{number}"
        names.append(unique)
    return tuple(names)


def valid_name(text: str) -> str:
    """The name of a stack from any text."""
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    plain = plain if plain[:1].isalpha() else f"app-{plain}".strip("-")
    name = plain[:_LONGEST].strip("-")
    return f"{name}-app" if name == "proxy" else name
