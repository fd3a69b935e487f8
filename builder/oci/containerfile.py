"""Containerfiles, also called Dockerfiles: where a directory has one, and what one says without being built."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

# What Podman looks for, in this order; Docker and Compose know the second alone.
NAMES: Final = ("Containerfile", "Dockerfile")


def find(directory: Path) -> str | None:
    """The name of a directory's Containerfile, None where it has none."""
    return next((name for name in NAMES if (directory / name).is_file()), None)


def path_in(context: Path, containerfile: Path) -> str:
    """The path of a Containerfile relative to its context, which it may leave by `../`."""
    return os.path.relpath(containerfile, context).replace(os.sep, "/")


@dataclass(frozen=True, slots=True)
class Containerfile:
    """What a Containerfile says: the images that it names, in order, each once, and what its last stage exposes.

    `images` have the values of build arguments filled in; one in which something stays unknown is left out. `runs`:
    whether any stage runs a program of the image's own processor, not one of the machine that builds.
    """

    images: tuple[str, ...]
    ports: tuple[int, ...]
    runs: bool


def ports(path: Path, inline: str | None, arguments: Mapping[str, str], target: str | None) -> tuple[int, ...]:
    """What the built stage exposes; nothing where it cannot be read, as the build will say so."""
    try:
        text = inline if inline is not None else path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    return read(text, arguments, target).ports


def read(text: str, arguments: Mapping[str, str], target: str | None = None) -> Containerfile:
    """What the text says, with these build arguments, as far as it can be read: the engine says what is wrong with it.

    `target` is the stage that is built, by name or number; the last one by default.
    """
    values, images, stages = dict(arguments), [], [_Stage("")]
    for word, rest in _instructions(text):
        if word == "FROM":
            stages.append(_stage(rest, values, stages))
            images.append(stages[-1].image)
        elif word == "ARG" and len(stages) == 1:
            _add_arguments(rest, arguments, values)
        else:
            images += [_filled(name, values) for name in _sources(word, rest)]
            stages[-1].add(word, rest)
    built = _built(stages, target)
    names = {stage.name for stage in stages}
    named = (name for name in images if name and not name.isdigit() and name not in {*names, "scratch"})
    known = dict.fromkeys(name for name in named if "$" not in name)
    return Containerfile(tuple(known), tuple(built.exposed), any(stage.runs for stage in stages))


class _Stage:
    """What a stage is called and is made from, and what it says."""

    def __init__(self, name: str, image: str = "", exposed: Iterable[int] = ()) -> None:
        self.name, self.image, self.exposed, self.runs = name, image, list(exposed), False
        self.native = False

    def add(self, word: str, rest: str) -> None:
        if word == "EXPOSE":
            found = (re.fullmatch(r"([0-9]{1,5})(?:/tcp)?", one) for one in rest.split())
            self.exposed += [number for one in found if one and (number := int(one[1])) not in self.exposed]
        self.runs = self.runs or (word == "RUN" and not self.native)


def _stage(rest: str, values: Mapping[str, str], stages: list[_Stage]) -> _Stage:
    """A stage that begins, with the ports of the earlier one that it is made from."""
    words = [word for word in rest.split() if not word.startswith("--")]
    image = _filled(words[0], values) if words else ""
    name = words[2].lower() if len(words) > 2 and words[1].lower() == "as" else ""
    below = next((stage for stage in stages if stage.name and stage.name == image.lower()), None)
    stage = _Stage(name, image.lower() if below else image, below.exposed if below else ())
    stage.native = any(word.startswith("--platform=") and "BUILDPLATFORM" in word for word in rest.split())
    return stage


def _built(stages: list[_Stage], target: str | None) -> _Stage:
    if target is not None and target.isdigit() and int(target) + 1 < len(stages):
        return stages[int(target) + 1]
    return next((stage for stage in stages if target and stage.name == target.lower()), stages[-1])


def _add_arguments(rest: str, arguments: Mapping[str, str], values: dict[str, str]) -> None:
    """Those of before the first stage, which alone count in the names of images; given ones go before defaults."""
    for name, equals, default in (word.partition("=") for word in rest.split()):
        if equals and name not in arguments:
            values[name] = _filled(default.strip("\"'"), values)


_VARIABLE: Final = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)(?::?([-+])([^}]*))?\})")


def _filled(text: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        name, sign, other = found[1] or found[2], found[3], found[4] or ""
        if sign == "+":
            return other if values.get(name) else ""
        return values.get(name) or (other if sign == "-" else found[0])

    return _VARIABLE.sub(value, text.strip("\"'"))


def _sources(word: str, rest: str) -> Iterator[str]:
    """The images, or stages, that files are taken from."""
    options = rest.split()
    if word == "COPY":
        yield from (one.removeprefix("--from=") for one in options if one.startswith("--from="))
    elif word == "RUN":
        mounts = (one.removeprefix("--mount=") for one in options if one.startswith("--mount="))
        yield from (part.removeprefix("from=") for one in mounts for part in one.split(",") if part.startswith("from="))


_ESCAPE: Final = re.compile(r"#\s*escape\s*=\s*(\S)\s*", re.IGNORECASE)
_DIRECTIVE: Final = re.compile(r"#\s*[A-Za-z]+\s*=.*")
_HEREDOC: Final = re.compile(r"<<-?\s*([\"']?)([A-Za-z_]\w*)\1")


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction in capitals, and what follows it: continued lines joined, comments and heredocs left out."""
    lines = iter(text.removeprefix("\ufeff").splitlines())
    escape = _escape(text)
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        whole = _continued(line, lines, escape)
        word, _, rest = whole.strip().partition(" ")
        if word.upper() in ("RUN", "COPY", "ADD"):
            for _, end in _HEREDOC.findall(rest):
                next((one for one in lines if one.lstrip("\t") == end), None)
        yield word.upper(), rest.strip()


def _escape(text: str) -> str:
    """What continues a line: a backslash, or what the directives at the top say."""
    for line in text.removeprefix("\ufeff").splitlines():
        if found := _ESCAPE.fullmatch(line.strip()):
            return found[1]
        if not _DIRECTIVE.fullmatch(line.strip()):
            break
    return "\\"


def _continued(line: str, lines: Iterator[str], escape: str) -> str:
    parts = [line.rstrip()]
    while parts[-1].endswith(escape):
        parts[-1] = parts[-1][: -len(escape)]
        following = next((one for one in lines if one.strip() and not one.lstrip().startswith("#")), None)
        if following is None:
            break
        parts.append(following.rstrip())
    return " ".join(part.strip() for part in parts)
