"""The disk that a local bake starts from: made here, or the user's own, of a known checksum."""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import manifest, process
from builder.disk import cloud_image
from builder.disk.base import base_disk
from builder.problems import UserError
from builder.qemu import seed

if TYPE_CHECKING:
    from builder.manifest import Input
    from builder.packer.request import Request


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


def find(order: Request) -> Stock:
    """The disk of an order; a base disk is made on first use, which takes a minute or two. Raises UserError."""
    path = _path(order).absolute()
    name = order.base_image.rpartition("/")[2] or path.parent.name
    return Stock(path, manifest.of_file(f"stock image {name}", path))


def _path(order: Request) -> Path:
    if not order.base_image:
        return base_disk(order.spec.server.base, order.spec.server.arch)
    if _URL.match(order.base_image):
        return cloud_image.from_url(order.base_image, order.checksum)
    return cloud_image.from_file(Path(order.base_image), order.checksum)


def make(key: Path, disk: Path) -> None:
    """Write the private key, its public one beside it, and the seed's disk."""
    content = seed.files(user_data(keygen(key)), instance=f"bake-{uuid.uuid4().hex[:12]}", name="localhost")
    seed.make(disk, content)


def keygen(key: Path) -> str:
    """Write a key pair; returns the public one, as a line of authorized_keys."""
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bake", "-f", str(key)])
    return key.with_name(f"{key.name}.pub").read_text().strip()


def user_data(public: str) -> bytes:
    """Root and no other user, so that nobody has to be taken away again."""
    config = {"users": [], "disable_root": False, "ssh_pwauth": False, "ssh_authorized_keys": [public]}
    return b"#cloud-config\n" + json.dumps(config).encode() + b"\n"
