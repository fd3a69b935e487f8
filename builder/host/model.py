"""A host as values: files, links, packages. No I/O, no clock, no randomness."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Part(StrEnum):
    """When a file lands: baked into the image for every host, or added by this host's first boot."""

    BAKED = "baked"
    FIRST_BOOT = "first-boot"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file. `path` is absolute on the host, `mode` octal text with a leading 0; owner and group are names.

    A group of a stack does not exist yet when the file is written: it is written as root's, and
    /usr/lib/easyrunner/users gives it to the stack's group before anything of the stack is started.

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
    def initial_mode(self) -> str:
        """The mode with which it is written: until a stack's group can read it, only root may."""
        return "0600" if self.mode == "0640" else self.mode

    @property
    def rights(self) -> str:
        """Mode, owner and group, as one text."""
        return f"{self.mode} {self.owner}:{self.group}"


@dataclass(frozen=True, slots=True)
class Host:
    """Everything that turns a provider's image into this host.

    `files` are sorted by path, no path twice; `packages` are Debian package names, sorted; `extra_packages` those
    of them that not every host has, each with its reason.
    """

    name: str
    base: str
    arch: str
    files: tuple[File, ...]
    packages: tuple[str, ...]
    extra_packages: Mapping[str, str] = field(default_factory=dict)

    def only(self, *parts: Part) -> tuple[File, ...]:
        """The files of these parts, in order of path."""
        return tuple(file for file in self.files if file.part in parts)


def digest(files: Iterable[File]) -> str:
    """Of paths, rights and contents, in 16 hex digits: the same for the same files."""
    found = hashlib.sha256()
    for file in files:
        found.update(f"{file.path}\0{file.rights}\0{len(file.content)}\0".encode() + file.content)
    return found.hexdigest()[:16]
