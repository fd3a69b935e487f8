"""The formats of a local image, and the argv lists of qemu-img and the compressors that convert a qcow2 to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# Azure takes fixed VHDs of whole MiB; the same is harmless, and expected, for raw disks.
_ALIGNED: Final = 1024 * 1024
_QEMU_IMG: Final = "qemu-img"


@dataclass(frozen=True, slots=True)
class Format:
    """One way to hand an image over. `driver` is QEMU's name of the format, `compressor` is run on the file after."""

    name: str
    driver: str
    options: str = ""
    compressor: tuple[str, ...] = ()
    suffix: str = ""
    package: str = ""

    @property
    def extension(self) -> str:
        """What the file's name ends with, with its dot."""
        return f".{self.name}"


# The compressors replace the file by one with their suffix, and put neither name nor time into it.
FORMATS: Final = {
    row.name: row
    for row in (
        Format("qcow2", "qcow2"),
        Format("raw", "raw"),
        Format("raw.gz", "raw", "", ("gzip", "--no-name", "--force"), ".gz", "gzip"),
        Format("raw.xz", "raw", "", ("xz", "--threads=0", "--force"), ".xz", "xz-utils"),
        Format("raw.zst", "raw", "", ("zstd", "--quiet", "--threads=0", "--rm", "--force"), ".zst", "zstd"),
        Format("vhd", "vpc", "subformat=fixed,force_size=on"),
        Format("vmdk", "vmdk", "subformat=streamOptimized"),
    )
}


def aligned(size: int) -> int:
    """A disk's size in bytes, raised to whole MiB."""
    return -(-size // _ALIGNED) * _ALIGNED


def commands(source: Path, aside: Path, row: Format, size: int) -> list[list[str]]:
    """What makes `aside` (plus the row's suffix) out of the qcow2 `source`, whose disk has `size` bytes."""
    options = ["-o", row.options] if row.options else []
    found = []
    if row.driver != "qcow2" and aligned(size) != size:
        found.append([_QEMU_IMG, "resize", "-f", "qcow2", str(source), str(aligned(size))])
    found.append([_QEMU_IMG, "convert", "-f", "qcow2", "-O", row.driver, *options, str(source), str(aside)])
    if row.compressor:
        found.append([*row.compressor, str(aside)])
    return found
