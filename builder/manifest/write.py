"""Writes the manifest and the SBOM beside an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder import files
from builder.manifest import manifest, sbom, summary

if TYPE_CHECKING:
    from pathlib import Path

    from builder.manifest.manifest import Build


def write(image: Path, build: Build) -> Path:
    """Write `<image>.sbom.json`, then `<image>.manifest.json`, each whole or not at all; returns the latter.

    The image is read once for its SHA-256. Raises OSError when it cannot be read or its directory not written.
    """
    found = manifest.of_file(image.name, image)
    files.write(beside(image, "sbom"), sbom.render(found, build))
    target = beside(image, "manifest")
    files.write(target, summary.render(found, build))
    return target


def beside(image: Path, kind: str) -> Path:
    """The path of a file that belongs to an image: `<image>.<kind>.json`."""
    return image.with_name(f"{image.name}.{kind}.json")
