"""A NoCloud seed: a small FAT disk labelled CIDATA, as cloud-init looks for it. Made by mtools, so on macOS as well."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Final

from builder import process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SECTOR: Final = 512
_SPARE: Final = 2 * 1024 * 1024
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
    sectors = (_SPARE + sum(-(-len(text) // 4096) * 4096 for text in content.values())) // _SECTOR
    os.close(os.open(image, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    os.truncate(image, sectors * _SECTOR)
    for argv in argvs(image, sectors, [folder / name for name in content]):
        process.run(argv)
    with image.open("r+b") as file:
        file.seek(_TABLE_AT)
        file.write(bytes(_TABLE_SIZE))


def argvs(image: Path, sectors: int, sources: list[Path]) -> list[list[str]]:
    """Format, then copy."""
    form = ["mformat", "-i", str(image), "-v", "CIDATA", "-T", str(sectors), "-h", "16", "-s", "63", "::"]
    return [form, ["mcopy", "-i", str(image), "-Q", *(str(source) for source in sources), "::"]]
