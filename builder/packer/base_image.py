"""The disk that a local bake starts from: made here, or the user's own, of a known checksum."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import manifest
from builder.disk import cloud_image
from builder.disk.base import base_disk
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.manifest import Input
    from builder.packer.request import Order

_URL: Final = re.compile(r"[a-z]+://", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Stock:
    """`path` is a qcow2 or a raw disk on this machine."""

    path: Path
    as_input: Input

    @property
    def checksum(self) -> str:
        """As Packer wants it."""
        return f"sha256:{self.as_input.sha256}"


def check(base_image: str, checksum: str) -> None:
    """Raise UserError for words that cannot name an image."""
    if checksum and not base_image:
        raise UserError("--checksum says what --base-image must be, and there is none")
    if base_image and not checksum:
        raise UserError("--base-image needs its --checksum sha256:…", "publishers give it beside the image")
    if checksum:
        cloud_image.digest(checksum)


def find(order: Order) -> Stock:
    """The disk of an order; a base disk is made on first use, which takes a minute or two. Raises UserError."""
    path = _path(order).absolute()
    name = order.base_image.rpartition("/")[2] or path.parent.name
    return Stock(path, manifest.of_file(f"stock image {name}", path))


def _path(order: Order) -> Path:
    if not order.base_image:
        return base_disk(order.spec.server.base, order.spec.server.arch)
    if _URL.match(order.base_image):
        return cloud_image.from_url(order.base_image, order.checksum)
    return cloud_image.from_file(Path(order.base_image), order.checksum)
