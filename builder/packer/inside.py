"""What is in a baked disk: the verdict of the checks, the packages, the container images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts, imagecheck, manifest
from builder.disk import unpack
from builder.imagecheck import text_report
from builder.manifest import Container
from builder.packer.failures import BakeError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from builder.host.model import File
    from builder.imagecheck import Report
    from builder.manifest import Package

_HOMES: Final = facts.HOMES.lstrip("/")
_IMAGES: Final = ".local/share/containers/storage/overlay-images/images.json"


@dataclass(frozen=True, slots=True)
class Inside:
    """What was found."""

    checks: Report
    packages: tuple[Package, ...]
    containers: tuple[Container, ...]


def look(image: Path, files: Iterable[File]) -> Inside:
    """Look at an image from outside, not booted; `files` are those of the host's baked part.

    Raises BakeError when something is in it that must not be.
    """
    with unpack.unpacked(image) as root:
        report = imagecheck.examine(root, expected=imagecheck.expected(files))
        if not report.clean:
            raise BakeError(f"the image is not clean:\n{text_report.render(report)}", "check", None)
        packages = manifest.installed((root / "var/lib/dpkg/status").read_text())
        return Inside(report, packages, tuple(sorted(_containers(root), key=lambda found: (found.user, found.name))))


def _containers(root: Path) -> Iterator[Container]:
    """Of every user's storage, as containers/storage keeps its list."""
    for path in (root / _HOMES).glob(f"*/{_IMAGES}"):
        user = path.relative_to(root / _HOMES).parts[0]
        for found in json.loads(path.read_text()):
            yield from (Container(name, found.get("digest", ""), user) for name in found.get("names") or ())
