"""Images that a spec names as archives, brought to a machine on a disk of their own.

A provider has no such disk: it stands for the registry that the machine would pull from.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from builder import facts, process
from builder.host.build import archive_path
from builder.oci import image_reference
from builder.qemu.hardware import Drive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec import Spec

_SERIAL: Final = "er-images"
_SPARE: Final = 16 * 1024 * 1024
_MOUNT: Final = [f"/dev/disk/by-id/virtio-{_SERIAL}", facts.IMAGES, "ext4", "defaults,nofail", "0", "0"]
# Vendor-data, as user-data is the host's own and stays what a provider would get.
VENDOR_DATA: Final = f"#cloud-config\n{json.dumps({'mounts': [_MOUNT]})}\n".encode()


def disk(spec: Spec, aside: Path) -> Drive | None:
    """A disk below `aside` with every archive by the name the host looks for; None when the spec names none."""
    found = dict(by_name(spec))
    if not found:
        return None
    folder, image = aside / "images", aside / "images.raw"
    folder.mkdir()
    for name, source in found.items():
        shutil.copyfile(source, folder / name)
    size = sum(path.stat().st_size for path in found.values()) * 11 // 10 + _SPARE
    process.run(mke2fs_argv(folder, image, size))
    return Drive(image, "raw", _SERIAL)


def mke2fs_argv(folder: Path, image: Path, size: int) -> list[str]:
    """Make a file system of `size` bytes with the folder's files; they are root's."""
    return ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(folder), str(image), f"{size // 1024}k"]


def by_name(spec: Spec) -> Iterator[tuple[str, Path]]:
    """The name that the host looks for, and the archive here."""
    services = [(stack.name, service.name, service.image) for stack in spec.stacks for service in stack.services]
    for stack, name, image in (("proxy", "caddy", spec.proxy.image), *services):
        if path := archive_path(stack, name, image):
            yield PurePosixPath(path).name, Path(image.removeprefix(image_reference.ARCHIVE))
