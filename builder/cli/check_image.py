"""`er check-image`: what an image carries that it must not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli import output
from builder.cli.options import AsJson
from builder.problems import UserError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from builder.imagecheck import Expected

NAME = "check-image"

ImagePath = Annotated[Path, typer.Argument(metavar="IMAGE", help="A disk image (qcow2 or raw), or a directory.")]
HostSpec = Annotated[
    Path | None, typer.Option("--spec", metavar="SPEC", help="Also compare the host's files with those of this spec.")
]
Everything = Annotated[bool, typer.Option("--all", help="Show every finding, not the first dozen of each check.")]


def command(image: ImagePath, spec: HostSpec = None, everything: Everything = False, as_json: AsJson = False) -> int:
    """Look for host keys, logs, passwords and whatever else must not be in an image; nothing is booted or changed."""
    from builder import imagecheck

    expected = _expected(spec) if spec else ()
    with _opened(image) as root:
        report = imagecheck.examine(root, expected=expected)
    if as_json:
        output.json(json.loads(report.as_json()))
    else:
        output.text(report.as_text(everything=everything))
    return 0 if report.clean else 1


def _expected(spec: Path) -> tuple[Expected, ...]:
    from builder import host as hosts
    from builder import imagecheck
    from builder.cli.options import load
    from builder.host.model import Part

    return imagecheck.expected(hosts.build(load(spec)).only(Part.BAKED))


def _opened(image: Path) -> AbstractContextManager[Path]:
    """The image as a directory. Raises UserError for what is no image."""
    from builder.disk import image_file

    if not image.exists():
        raise UserError(f"{image}: No such file or directory")
    return image_file.unpacked(image)
