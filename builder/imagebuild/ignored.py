"""Ignore files of builds: .containerignore and .dockerignore, read and matched as Docker and Podman do.

A pattern is Go's filepath.Match with `**`, for a path from the context's root; the last one that matches a path, or a
directory above it, decides. This is not .gitignore: `node_modules` is that of the root alone.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# In the context's root; Podman takes the first that is there.
NAMES: Final = (".containerignore", ".dockerignore")


def find(context: Path, containerfile: Path | None) -> Path | None:
    """The ignore file of a build: one that is called after the Containerfile and beside it, else that of the root."""
    beside = [containerfile.with_name(f"{containerfile.name}{name}") for name in NAMES] if containerfile else []
    return next((path for path in (*beside, *(context / name for name in NAMES)) if path.is_file()), None)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern, cleaned; `keeps` of one with an exclamation mark."""

    text: str
    keeps: bool
    form: re.Pattern[str]

    def matches(self, path: str) -> bool:
        """Whether it matches this path, or a directory above it."""
        parts = path.split("/")
        return any(self.form.fullmatch("/".join(parts[: end + 1])) for end in range(len(parts)))


class Patterns:
    """What is ignored."""

    def __init__(self, patterns: Iterable[Pattern]) -> None:
        self._patterns = tuple(patterns)

    def ignores(self, path: str) -> bool:
        """Whether a path is no part of the context; a later pattern decides over an earlier one."""
        decides = (one for one in reversed(self._patterns) if one.matches(path))
        return not next(decides, _NOTHING).keeps

    def asks_for(self, path: str) -> bool:
        """Whether a pattern with `!` names this path by its own name: not by a directory above it, or a `*`."""
        name = posixpath.basename(path)
        return any(one.keeps and posixpath.basename(one.text) == name and one.matches(path) for one in self._patterns)

    def may_keep_below(self, directory: str) -> bool:
        """Whether something below an ignored directory may be kept: a pattern with `!` begins with its path."""
        return any(one.keeps and f"{one.text}/".startswith(f"{directory}/") for one in self._patterns)


def read(path: Path) -> Iterator[Pattern]:
    """The patterns of an ignore file. Raises UserError."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("#") and (stripped := line.strip()):
            try:
                yield pattern(stripped)
            except ValueError:
                raise UserError(
                    f"{path}:{number}: `{stripped}` is no pattern",
                    "a [ has its ], and nothing ends with a backslash or is an exclamation mark alone",
                ) from None


def pattern(text: str) -> Pattern:
    """One line. Raises ValueError."""
    keeps = text.startswith("!")
    text = text.removeprefix("!").strip()
    if not text:
        raise ValueError
    cleaned = _cleaned(text)
    return Pattern(cleaned, keeps, _form(cleaned))


def _cleaned(text: str) -> str:
    """As filepath.Clean has it, from the root of the context."""
    cleaned = posixpath.normpath(text)
    return cleaned.lstrip("/") or "/"


def _form(text: str) -> re.Pattern[str]:
    """The pattern as a regular expression. Raises ValueError."""
    parts: list[str] = []
    rest = text
    if end := _END_OF_NAME.fullmatch(text):
        return re.compile(f".*{re.escape(end[1])}", re.DOTALL)
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            parts.append("(?:.*/)?" if rest else ".*")
            continue
        character, rest = rest[0], rest[1:]
        if character == "\\":
            if not rest:
                raise ValueError(text)
            character, rest = rest[0], rest[1:]
            parts.append(re.escape(character))
        elif character == "[":
            found, rest = _class(rest)
            parts.append(found)
        else:
            parts.append({"*": "[^/]*", "?": "[^/]"}.get(character) or re.escape(character))
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error:
        raise ValueError(text) from None


# Docker takes `**foo` for all names that end so, also where nothing but the end follows.
_END_OF_NAME: Final = re.compile(r"\*\*([^/*?\[\]\\][^*?\[\]\\]*)")


def _class(rest: str) -> tuple[str, str]:
    """A class of characters, behind its bracket; and what follows it."""
    found = re.match(r"(\^?)((?:\\.|[^\]\\])+)\]", rest)
    if found is None:
        raise ValueError(rest)
    inside = re.sub(r"(?<!\\)([\[&~|])", r"\\\1", found[2])
    return f"[{found[1]}{inside}]", rest[found.end() :]


_NOTHING: Final = Pattern("", keeps=True, form=re.compile(""))
