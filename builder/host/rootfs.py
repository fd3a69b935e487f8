"""images/rootfs and cloudinit/rootfs as files of the host: the path in the tree is the path on the host.

A file that ends in `.j2` is a Jinja template. `@stack@` or `@uid@` in a path: it is rendered once for each stack;
`@service@`: once for each service of each stack.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

import jinja2

from builder import data
from builder.host.model import File, Part
from builder.quadlet.unit_file import EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Scope = Literal["host", "stack", "service"]

_SUFFIX: Final = ".j2"
_TREES: Final[Mapping[Part, data.Tree]] = {Part.BAKED: "images", Part.FIRST_BOOT: "cloudinit"}


def render(part: Part, scope: Scope, values: Mapping[str, object], **words: object) -> Iterator[File]:
    """The files of one part and scope; `values` are for templates, `words` replace @word@ in paths.

    A template that renders to nothing makes no file. Comments are left out; all formats of the trees use `#`. Scripts
    are indented with tabs.
    Raises jinja2.UndefinedError for a name that `values` lacks, EncodingError for a value that no encoder has seen.
    """
    for source, content in _sources(part):
        if _scope_of(source) == scope:
            file = _file(part, source, content, values, words)
            if file.content.strip():
                yield file


@cache
def _sources(part: Part) -> tuple[tuple[str, bytes], ...]:
    root = data.tree(_TREES[part]) / "rootfs"
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    return tuple((f"/{path.relative_to(root).as_posix()}", path.read_bytes()) for path in paths)


def _scope_of(path: str) -> Scope:
    """How often a path of the tree is rendered: once a `host`, once a `stack`, or once a `service`."""
    if "@service@" in path:
        return "service"
    return "stack" if "@stack@" in path or "@uid@" in path else "host"


def _file(part: Part, source: str, content: bytes, values: Mapping[str, object], words: Mapping[str, object]) -> File:
    path = PurePosixPath(source)
    if path.suffix == _SUFFIX:
        path = path.with_suffix("")
        content = _template(content.decode()).render(values).encode()
    content = _with_tabs(_without_comments(content))
    name = str(path)
    for word, value in words.items():
        name = name.replace(f"@{word}@", str(value))
    return File(name, content, part, _mode_of(name, content))


def _without_comments(content: bytes) -> bytes:
    """The text without lines that are a comment: they are for readers of the tree, and user-data pays by the byte."""
    first, *rest = content.splitlines(keepends=True) or [b""]
    kept = [line for line in rest if not line.lstrip().startswith(b"#")]
    return b"".join([first] * (first.startswith(b"#!") or not first.startswith(b"#")) + kept)


def _with_tabs(content: bytes) -> bytes:
    """A script that is indented with tabs where the tree's has four spaces, which compress less well."""
    if not content.startswith(b"#!"):
        return content
    return re.sub(rb"^(?: {4})+", lambda spaces: b"\t" * (len(spaces[0]) // 4), content, flags=re.MULTILINE)


def _mode_of(path: str, content: bytes) -> str:
    """0755 for programs, 0440 for sudo's rules, 0600 for sshd's configuration, else 0644."""
    if "/sudoers.d/" in path:
        return "0440"
    if path == "/etc/ssh/sshd_config":
        return "0600"
    return "0755" if content.startswith(b"#!") else "0644"


@cache
def _template(text: str) -> jinja2.Template:
    return _environment().from_string(text)


@cache
def _environment() -> jinja2.Environment:
    # Nothing here is HTML; an undefined name is an error, not an empty word.
    environment = jinja2.Environment(
        finalize=plain,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters["caddy"] = caddy
    environment.filters["caddy_below"] = caddy_below
    return environment


# Text in which no format of the trees sees anything special: units, tmpfiles.d, sysusers.d, Caddyfiles, env files,
# iptables-restore, shell.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_/.:@,+=-]+")


class Encoded(str):
    """Text in the spelling of a format."""

    __slots__ = ()


def plain(value: object) -> str:
    """The text of a value that needs no encoder, or has had one. Raises EncodingError."""
    text = str(value)
    if isinstance(value, Encoded) or _PLAIN.fullmatch(text):
        return text
    raise EncodingError(f"this needs an encoder of its file's format: {text!r}")


def fail2ban(text: str) -> Encoded:
    """A line of a value in Fail2Ban's configuration, where a percent sign begins another value's name.

    Raises EncodingError.
    """
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise EncodingError(f"no line of a value of Fail2Ban's: {text!r}")
    return Encoded(text.replace("%", "%%"))


def caddy(text: str) -> Encoded:
    """One token of a Caddyfile: quoted where `#` or a quote would begin something else.

    Braces are Caddy's own in every spelling; between double quotes a backslash escapes nothing but a quote, between
    backticks nothing is escaped. Raises EncodingError.
    """
    if re.search(r"[\x00-\x1f\x7f{}]", text):
        raise EncodingError(f"no token of a Caddyfile: {text!r}")
    if _PLAIN.fullmatch(text):
        return Encoded(text)
    if "\\" not in text:
        return Encoded('"' + text.replace('"', '\\"') + '"')
    if "`" not in text:
        return Encoded(f"`{text}`")
    raise EncodingError(f"no token of a Caddyfile: {text!r}")


def caddy_below(path: str) -> Encoded:
    """One token of a Caddyfile: a regular expression of a path and all below it, not of a longer word."""
    return caddy(f"^{re.escape(path)}(/|$)")


def write_files(root: Path, files: tuple[File, ...]) -> None:
    """Write files below `root`, each with its mode; owners are the caller's to set, as only root can."""
    for file in files:
        target = root / file.path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(int(file.mode, 8))
