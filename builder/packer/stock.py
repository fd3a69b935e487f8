"""The disk that a local bake starts from: made here, or the user's own, of a known checksum."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.disk import image as images
from builder.disk.base import base_disk
from builder.manifest import Input
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.packer.order import Order

_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_CHECKSUM: Final = re.compile(r"sha256:[0-9a-f]{64}")
_WAY_OUT: Final = "publishers give it beside the image; a SHA-512 is of no use here"


@dataclass(frozen=True, slots=True)
class Stock:
    """`disk` is what Packer is given: a path or a URL; `checksum` is sha256:<hex>. Size in bytes, 0 when not known."""

    disk: str
    checksum: str
    size: int

    @property
    def as_input(self) -> Input:
        """As the manifest has it."""
        return Input(f"stock image {self.disk.rpartition('/')[2]}", self.size, self.checksum.removeprefix("sha256:"))


def check(base_image: str, checksum: str) -> None:
    """Raise UserError for words that cannot name an image."""
    if checksum and not base_image:
        raise UserError("--checksum says what --base-image must be, and there is none")
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise UserError(f"--checksum {checksum}: not sha256: and 64 hexadecimal digits", _WAY_OUT)
    if is_url(base_image) and not checksum:
        raise UserError("an image from the network needs its --checksum sha256:…", _WAY_OUT)
    if base_image and not is_url(base_image):
        kind = images.format_of(Path(base_image))
        if kind != "qcow2":
            raise UserError(f"{base_image} is {kind}, not qcow2", "qemu-img convert -O qcow2 makes one of it")


def is_url(base_image: str) -> bool:
    """Whether it is fetched, by Packer."""
    return bool(_URL.match(base_image))


def find(order: Order) -> Stock:
    """The disk of an order; a base disk is made on first use, which takes a minute or two. Raises UserError."""
    if is_url(order.base_image):
        return Stock(order.base_image, order.checksum, 0)
    server = order.spec.server
    path = Path(order.base_image).absolute() if order.base_image else base_disk(server.base, server.arch)
    with path.open("rb") as file:
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    if order.checksum and found != order.checksum:
        raise UserError(f"{order.base_image} is not what --checksum says: it has {found}")
    return Stock(str(path), found, path.stat().st_size)
