"""er's own manifest of an image, as JSON: what went in, what is in it, what the checks said, how long it took."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from builder.imagecheck.model import Report
    from builder.manifest.manifest import Build, Input

# Raise it when a reader of the old form would misread the new one.
FORM: Final = 1


def render(image: Input, build: Build) -> bytes:
    """The manifest's bytes: UTF-8, keys in a fixed order, ends with a line feed."""
    return json.dumps(value(image, build), indent=2, ensure_ascii=False).encode() + b"\n"


def value(image: Input, build: Build) -> dict[str, Any]:
    """The manifest as plain data."""
    return {
        "manifest": FORM,
        "image": _image(image, build),
        "made": build.made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "target": build.target,
        "base": build.base,
        "arch": build.arch,
        "versions": dict(sorted(build.versions.items())),
        "inputs": [asdict(item) for item in sorted(build.inputs, key=lambda item: item.name)],
        "containers": [asdict(item) for item in sorted(build.containers, key=lambda item: (item.user, item.name))],
        "packages": [asdict(package) for package in build.packages],
        "checks": _checks(build.checks),
        "steps": [{"name": step.name, "seconds": round(step.seconds, 1)} for step in build.steps],
    }


def _image(image: Input, build: Build) -> dict[str, Any]:
    """A file with what is known of it; an image at a provider is known by its name there alone."""
    if not image.sha256:
        return {"file": image.name}
    return {"file": image.name, "format": build.format, "size": image.size, "sha256": image.sha256}


def _checks(report: Report | None) -> dict[str, Any] | None:
    parsed: dict[str, Any] | None = json.loads(report.as_json()) if report else None
    return parsed
