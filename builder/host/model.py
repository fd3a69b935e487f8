"""A host as values: files, links, packages. No I/O, no clock, no randomness."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from builder.quadlet.unit_file import EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterable


class Part(StrEnum):
    """When a file lands: baked into the image for every host, or added by this host's first boot."""

    BAKED = "baked"
    FIRST_BOOT = "first-boot"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. `path` is absolute on the host, `mode` octal text with a leading 0; owner and group are names.

    Where the group is a stack's, that is how it ends up: it comes as root's, since the group is not there yet, and
    /usr/lib/easyrunner/users gives it to the stack before anything of the stack is started.

    `stack` names the stack whose file it is; it is empty for what is the host's own.

    Every file of a host is root's: what an app must not change, it must not own.
    """

    path: str
    content: bytes = field(repr=False)
    part: Part
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    stack: str = ""

    @property
    def laid(self) -> str:
        """The mode with which it comes: what a stack alone may read, only root may before."""
        return "0600" if self.mode == "0640" else self.mode

    @property
    def rights(self) -> str:
        """Mode, owner and group, as one text."""
        return f"{self.mode} {self.owner}:{self.group}"


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that turns a stock image into this host.

    `files` are sorted by path, no path twice; `packages` are Debian package names, sorted.
    """

    name: str
    base: str
    arch: str
    files: tuple[File, ...]
    packages: tuple[str, ...]

    def only(self, *parts: Part) -> tuple[File, ...]:
        """The files that land with these parts, in order of path."""
        return tuple(file for file in self.files if file.part in parts)


def assemble(name: str, base: str, arch: str, files: Iterable[File], packages: Iterable[str]) -> Host:
    """Sort and check: two files at one path are a mistake of the builder, not of the user."""
    ordered = sorted(files, key=lambda file: file.path)
    for one, two in pairwise(ordered):
        if one.path == two.path:
            raise ValueError(f"two files at {one.path}: {one.part} and {two.part}")
    return Host(name, base, arch, tuple(ordered), tuple(sorted(set(packages))))


# Nothing that units, tmpfiles.d, sysusers.d, Caddyfiles, env files, iptables-restore or a shell take for their own.
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
