"""What an image is made from, by name and hash: equal inputs are what makes two bakes comparable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from builder import manifest
from builder.disk import base
from builder.disk.recipe import RECIPES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.manifest import Input
    from builder.packer.request import Request
    from builder.packer.run import Job


def of(job: Job, order: Request) -> tuple[Input, ...]:
    """The template, the upload and the values; the stock image is not among them."""
    return tuple(sorted(_all(job, order), key=lambda item: item.name))


def _all(job: Job, order: Request) -> Iterator[Input]:
    for file in job.files:
        yield _input(f"template {file.path}", file.content)
    for name, content in job.upload.files.items():
        yield _input(f"upload {name}", content)
    for name, path in job.upload.archives.items():
        yield _input(f"upload {name}", path)
    for path in job.var_files:
        yield _input(f"variables {path.name}", path)
    stock = base.key(RECIPES[order.spec.server.base], order.spec.server.arch, base.SIZE) if order.local else ""
    values = {"base": order.checksum or stock, "size": order.size, "with_stacks": order.with_stacks}
    yield _input("options", json.dumps(values, sort_keys=True).encode())


def _input(name: str, content: bytes | Path) -> Input:
    return manifest.of_file(name, content) if isinstance(content, Path) else manifest.of_bytes(name, content)
