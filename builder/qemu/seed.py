"""The disks beside a machine's own: the NoCloud seed for cloud-init, and the image archives that a spec names.

A seed is a small FAT disk labelled CIDATA, as cloud-init looks for it; made by mtools, so on macOS as well.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from builder import facts, process
from builder.host.build import archive_path
from builder.oci import image_reference
from builder.qemu.hardware import Drive

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.spec import Spec


_SECTOR: Final = 512
_SEED_SPARE: Final = 2 * 1024 * 1024
# mformat writes a partition table into the boot sector, which would make the whole disk look partitioned.
_TABLE_AT: Final = 446
_TABLE_SIZE: Final = 64


def files(
    user_data: bytes,
    *,
    instance: str,
    name: str,
    network: bytes | None = None,
    vendor_data: bytes | None = None,
) -> dict[str, bytes]:
    """What a provider would pass, by file name. JSON is YAML to cloud-init."""
    meta = json.dumps({"instance-id": instance, "local-hostname": name}).encode() + b"\n"
    given = {"user-data": user_data, "meta-data": meta, "network-config": network, "vendor-data": vendor_data}
    return {file: content for file, content in given.items() if content is not None}


def make(image: Path, content: Mapping[str, bytes]) -> None:
    """Write the seed's disk; readable by its owner only, as user-data may be private."""
    folder = image.with_name(f"{image.name}.d")
    folder.mkdir(mode=0o700)
    for name, text in content.items():
        (folder / name).write_bytes(text)
    sectors = (_SEED_SPARE + sum(-(-len(text) // 4096) * 4096 for text in content.values())) // _SECTOR
    os.close(os.open(image, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.truncate(image, sectors * _SECTOR)
    for argv in seed_argvs(image, sectors, [folder / name for name in content]):
        process.run(argv)
    with image.open("r+b") as file:
        file.seek(_TABLE_AT)
        file.write(bytes(_TABLE_SIZE))


def seed_argvs(image: Path, sectors: int, sources: list[Path]) -> list[list[str]]:
    """Format the seed, then copy its files to it."""
    form = ["mformat", "-i", str(image), "-v", "CIDATA", "-T", str(sectors), "-h", "16", "-s", "63", "::"]
    return [form, ["mcopy", "-i", str(image), "-Q", *(str(source) for source in sources), "::"]]


_ARCHIVES_SERIAL: Final = "er-images"
_ARCHIVES_SPARE: Final = 16 * 1024 * 1024
_MOUNT: Final = [f"/dev/disk/by-id/virtio-{_ARCHIVES_SERIAL}", facts.IMAGES, "ext4", "defaults,nofail", "0", "0"]
# Vendor-data, as user-data is the host's own and stays what a provider would get.
VENDOR_DATA: Final = f"#cloud-config\n{json.dumps({'mounts': [_MOUNT]})}\n".encode()


def archives_disk(spec: Spec, directory: Path) -> Drive | None:
    """A disk in `directory` with every archive by the name the host looks for; None when the spec names none."""
    found = dict(archives_by_name(spec))
    if not found:
        return None
    folder, image = directory / "images", directory / "images.raw"
    folder.mkdir()
    for name, source in found.items():
        shutil.copyfile(source, folder / name)
    size = sum(path.stat().st_size for path in found.values()) * 11 // 10 + _ARCHIVES_SPARE
    process.run(mke2fs_argv(folder, image, size))
    return Drive(image, "raw", _ARCHIVES_SERIAL)


def mke2fs_argv(folder: Path, image: Path, size: int) -> list[str]:
    """Make a file system of `size` bytes with the folder's files; they are root's."""
    return ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", str(folder), str(image), f"{size // 1024}k"]


def without_built(spec: Spec) -> Spec:
    """The spec without the stacks that wait for an image of their own, which nothing brings to this machine."""
    return replace(spec, stacks=tuple(stack for stack in spec.stacks if not any(one.build for one in stack.services)))


def archives_by_name(spec: Spec) -> Iterator[tuple[str, Path]]:
    """The name that the host looks for, and the archive here."""
    services = [(stack.name, service.name, service.image) for stack in spec.stacks for service in stack.services]
    for stack, name, image in (("proxy", "caddy", spec.proxy.image), *services):
        if path := archive_path(stack, name, image):
            yield PurePosixPath(path).name, Path(image.removeprefix(image_reference.ARCHIVE))
