"""One bake with everything real, for all tests that look at its image."""

from __future__ import annotations

import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import process
from tests.packer.rehearsal import ROOT, SPEC

if TYPE_CHECKING:
    import subprocess

ER = str(Path(sysconfig.get_path("scripts"), "er"))


@dataclass(frozen=True, slots=True)
class Built:
    """A directory with an image, what `er` said of it, and how the bake went."""

    directory: Path
    told: dict[str, Any]
    talk: str = ""

    @property
    def image(self) -> Path:
        return Path(self.told["image"])

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.told["manifest"]).read_text())
        return found


def er(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Bake an image of the example there."""
    argv = [ER, "build-image", str(SPEC), "--target", "qemu", "--with-stacks", "--json", "-o", str(directory), *words]
    return process.run(argv, cwd=ROOT, timeout=3000, check=False)


def bake(directory: Path) -> Built:
    """To its good end."""
    done = er(directory)
    assert done.returncode == 0, done.stderr
    return Built(directory, json.loads(done.stdout), done.stderr)
