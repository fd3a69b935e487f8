"""Reads a data tree into files of the host: a path says where, `.j2` says templated, `@word@` in a path says how often.

`@stack@` and `@uid@` in a path: once for each stack; `@service@`: once for each service of each stack.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import jinja2

from builder import data
from builder.host import model
from builder.host.model import File, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_SUFFIX = ".j2"
_PARTS: Mapping[Part, data.Tree] = {Part.BAKED: "images", Part.FIRST_BOOT: "cloudinit"}


@cache
def _environment() -> jinja2.Environment:
    # Nothing here is HTML; an undefined name is an error, not an empty word.
    environment = jinja2.Environment(
        finalize=model.plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters["caddy"] = model.caddy
    return environment


@cache
def _sources(part: Part) -> tuple[tuple[str, bytes], ...]:
    root = data.tree(_PARTS[part]) / "rootfs"
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return tuple((f"/{path.relative_to(root).as_posix()}", path.read_bytes()) for path in paths)


@cache
def _template(text: str) -> jinja2.Template:
    return _environment().from_string(text)


def mode_of(path: str, content: bytes) -> str:
    """The mode that a file of a tree gets: programs run, sudo's and sshd's are root's, the rest is read by all."""
    if "/sudoers.d/" in path:
        return "0440"
    if path == "/etc/ssh/sshd_config":
        return "0600"
    return "0755" if content.startswith(b"#!") else "0644"


def without_comments(content: bytes) -> bytes:
    """The text without its whole lines of comment: they are for who reads the tree, and user-data pays by the byte."""
    first, *rest = content.splitlines(keepends=True) or [b""]
    kept = [line for line in rest if not line.lstrip().startswith(b"#")]
    return b"".join([first] * (first.startswith(b"#!") or not first.startswith(b"#")) + kept)


def scope(path: str) -> str:
    """How often a path of the tree is rendered: once a `host`, once a `stack`, or once a `service`."""
    if "@service@" in path:
        return "service"
    return "stack" if "@stack@" in path or "@uid@" in path else "host"


def render(part: Part, wanted: str, context: Mapping[str, object], **words: object) -> Iterator[File]:
    """The files of one part whose scope is `wanted`; `context` is for templates, `words` replace @word@ in paths.

    A template that comes to nothing makes no file. Comments stay here: every format of the trees has `#` for them.
    Raises jinja2.UndefinedError for a name that the context lacks.
    """
    for source, content in _sources(part):
        if scope(source) == wanted:
            file = _file(part, source, content, context, words)
            if file.content.strip():
                yield file


def _file(part: Part, source: str, content: bytes, context: Mapping[str, object], words: Mapping[str, object]) -> File:
    path = PurePosixPath(source)
    if path.suffix == _SUFFIX:
        path = path.with_suffix("")
        content = _template(content.decode()).render(context).encode()
    content = without_comments(content)
    name = str(path)
    for word, value in words.items():
        name = name.replace(f"@{word}@", str(value))
    return File(name, content, part, mode_of(name, content))


def overlay(root: Path, files: tuple[File, ...]) -> None:
    """Write files below `root`, each with its mode; owners are the caller's to set, as only root can."""
    for file in files:
        target = root / file.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(int(file.mode, 8))
