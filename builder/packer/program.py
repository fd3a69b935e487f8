"""Finds HashiCorp's packer, and not the one that brings password lists into shape."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

Version = tuple[int, int, int]
# Debian's; older ones lack parts of HCL that the templates use.
OLDEST: Final[Version] = (1, 6, 6)
# The first that takes plugins from outside, and needs to be told which.
PLUGINS: Final[Version] = (1, 7, 0)
# What is shown where there is none.
_NEEDED: Final = Path("packer")
_VERSION: Final = re.compile(r"^Packer v(\d+)\.(\d+)\.(\d+)", re.MULTILINE)
_HINT: Final = "apt-get install packer on Debian; elsewhere see https://developer.hashicorp.com/packer/install"
_TIMEOUT: Final = 20.0


@dataclass(frozen=True, slots=True)
class Packer:
    """The program and its version."""

    path: Path
    version: Version

    @property
    def takes_plugins(self) -> bool:
        """Whether builders come as plugins, which `packer init` fetches."""
        return self.version >= PLUGINS

    @property
    def version_text(self) -> str:
        """As people write it."""
        return ".".join(map(str, self.version))


def find(path: str | None = None) -> Packer:
    """The first usable packer on the search path, which is PATH's unless given. Raises UserError."""
    refused = ""
    for program in candidates(path if path is not None else os.environ.get("PATH", os.defpath)):
        version = _version(program)
        if version is None:
            refused = refused or f"{program} is another program of that name"
        elif version < OLDEST:
            refused = f"{program} is {'.'.join(map(str, version))}, and er needs 1.6.6 or later"
        else:
            return Packer(program, version)
    raise UserError(f"no usable packer: {refused}" if refused else "the program packer is not installed", _HINT)


def assumed(version: str) -> Packer:
    """Stands for the one that is missing, in commands that are only shown: of this version, or one with plugins."""
    major, minor, patch = map(int, version.split("."))
    return Packer(_NEEDED, max(PLUGINS, (major, minor, patch)))


def candidates(path: str) -> Iterator[Path]:
    """Every program named packer, in the order of the search path."""
    for directory in path.split(os.pathsep):
        program = Path(directory or ".", "packer")
        if program.is_file() and os.access(program, os.X_OK):
            yield program.absolute()


def parse(output: str) -> Version | None:
    """The version out of what `packer version` says; None when it is not Packer that speaks."""
    found = _VERSION.search(output)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def _version(program: Path) -> Version | None:
    # With no checkpoint it asks nobody whether there is a newer one.
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "PACKER_NO_COLOR": "1"}
    try:
        done = process.run([str(program), "version"], check=False, env=environment, timeout=_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse(done.stdout)
