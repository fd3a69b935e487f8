"""Disk image files: which format one has, and another format made of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, Literal

from builder import process
from builder.problems import UserError

if TYPE_CHECKING:
    from pathlib import Path

Format = Literal["qcow2", "raw"]
_QCOW2: Final = b"QFI\xfb"
# Formats that would otherwise be taken for raw bytes.
_FOREIGN: Final = {b"KDMV": "VMDK", b"<<< ": "VDI", b"conectix": "VHD", b"vhdxfile": "VHDX", b"\x1f\x8b": "gzip"}
_FOREIGN_MORE: Final = {b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def format_of(path: Path) -> Format:
    """By its first bytes, never by its name. Raises UserError where there is no image to read."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if start.startswith(_QCOW2):
        return "qcow2"
    for magic, name in (_FOREIGN | _FOREIGN_MORE).items():
        if start.startswith(magic):
            raise UserError(f"{path.name} is {name}, not qcow2 or raw", _way_out(name, path))
    return "raw"


def _way_out(name: str, path: Path) -> str:
    if name in _FOREIGN_MORE.values() or name == "gzip":
        return f"unpack it first ({name})"
    return f"qemu-img convert -O qcow2 {path.name} disk.qcow2"


def convert_argv(source: Path, target: Path, *, source_format: Format, to: Format, compress: bool = False) -> list[str]:
    """How qemu-img is called. The format is said, so that a guest's bytes are never taken for a format."""
    start = ["qemu-img", "convert", "-q", "-f", source_format, "-O", to, *(["-c"] if compress else [])]
    return [*start, str(source), str(target)]


def convert(source: Path, target: Path, *, to: Format, compress: bool = False) -> Path:
    """Write `target` in another format; its holes stay holes."""
    process.run(convert_argv(source, target, source_format=format_of(source), to=to, compress=compress))
    return target


def virtual_size(path: Path) -> int:
    """How large a disk the machine sees, in bytes."""
    kind = format_of(path)
    said = process.run(["qemu-img", "info", "-f", kind, "--output=json", str(path)]).stdout
    return int(json.loads(said)["virtual-size"])
