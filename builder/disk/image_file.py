"""Disk image files: which format one has, another format made of it, and what is on it as a read-only directory."""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from builder import process
from builder.disk import partitions
from builder.localhost import cache, requirements
from builder.polling import until
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Iterator


Format = Literal["qcow2", "raw"]
_QCOW2: Final = b"QFI\xfb"
# The first bytes of formats that would otherwise be taken for raw disks.
_OTHER_DISKS: Final = {b"KDMV": "VMDK", b"<<< ": "VDI", b"conectix": "VHD", b"vhdxfile": "VHDX"}
_COMPRESSED: Final = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def format_of(path: Path) -> Format:
    """By its first bytes, never by its name. Raises UserError where there is no image to read."""
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if start.startswith(_QCOW2):
        return "qcow2"
    for magic, name in (_OTHER_DISKS | _COMPRESSED).items():
        if start.startswith(magic):
            raise UserError(f"{path.name} is {name}, not qcow2 or raw", _conversion_hint(name, path))
    return "raw"


def _conversion_hint(name: str, path: Path) -> str:
    if name in _COMPRESSED.values():
        return f"unpack it first ({name})"
    return f"qemu-img convert -O qcow2 {path.name} disk.qcow2"


def convert_argv(source: Path, target: Path, *, source_format: Format, to: Format, compress: bool = False) -> list[str]:
    """qemu-img with the source's format given, so that a guest's bytes are never taken for another one."""
    start = ["qemu-img", "convert", "-q", "-f", source_format, "-O", to, *(["-c"] if compress else [])]
    return [*start, str(source), str(target)]


def convert(source: Path, target: Path, *, to: Format, compress: bool = False) -> Path:
    """Write `target` in another format; holes stay holes."""
    process.run(convert_argv(source, target, source_format=format_of(source), to=to, compress=compress))
    return target


def virtual_size(path: Path) -> int:
    """How large a disk the machine sees, in bytes."""
    kind = format_of(path)
    shown = process.run(["qemu-img", "info", "-f", kind, "--output=json", str(path)]).stdout
    return int(json.loads(shown)["virtual-size"])


_PROGRAMS: Final = ("fuse2fs", "qemu-img", "setpriv")
# The signature in the ext super block, which begins at 1024.
_MAGIC_AT: Final = 1024 + 56
_MAGIC: Final = b"\x53\xef"
_TABLE: Final = 34 * partitions.SECTOR


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The root directory of a qcow2 or raw image, while the block runs; the image is not changed.

    A directory is given back as it is. Only ext2 to ext4 is read, and the largest of them is taken as the root.
    """
    if path.is_dir():
        yield path
        return
    requirements.check_programs("reading an image", _PROGRAMS, root=True, fuse=True)
    kind = format_of(path)
    cache.root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=cache.root()) as aside:
        raw = path if kind == "raw" else convert(path, Path(aside, "disk.raw"), to="raw")
        with _mounted(raw, root_of(raw), Path(aside)) as tree:
            yield tree


def root_of(raw: Path) -> partitions.Partition:
    """The largest ext file system of a raw disk; the whole disk when it has no table. Raises UserError for none."""
    with raw.open("rb") as file:
        table = partitions.read(file.read(_TABLE))
    whole = partitions.Partition(0, 0, raw.stat().st_size // partitions.SECTOR)
    found = [part for part in table or (whole,) if _is_ext(raw, part)]
    if not found:
        raise UserError(f"{raw.name}: no ext4 file system on it", "images of Debian and Ubuntu have one")
    return max(found, key=lambda part: part.sectors)


def _is_ext(raw: Path, part: partitions.Partition) -> bool:
    with raw.open("rb") as file:
        file.seek(part.offset + _MAGIC_AT)
        return file.read(len(_MAGIC)) == _MAGIC


def mount_argv(raw: Path, part: partitions.Partition, tree: Path) -> list[str]:
    """fuse2fs in the foreground; it ends with its parent, so that nothing stays mounted after a kill."""
    options = f"ro,norecovery,offset={part.offset}"
    return ["setpriv", "--pdeathsig", "TERM", "fuse2fs", "-f", "-o", options, str(raw), str(tree)]


@contextmanager
def _mounted(raw: Path, part: partitions.Partition, aside: Path) -> Iterator[Path]:
    tree = aside / "root"
    tree.mkdir()
    log = aside / "log"
    # Not shielded: a blocked signal would stay blocked in the child, and this end by SIGTERM would never come.
    with log.open("wb") as out:
        mounting = process.start(mount_argv(raw, part, tree), stdout=out.fileno(), stderr=out.fileno())
    try:
        until(lambda: tree.is_mount() or mounting.poll() is not None, timeout=60, what="the file system to be mounted")
        if mounting.poll() is not None:
            raise UserError(f"{raw.name}: its file system cannot be read", log.read_text(errors="replace").strip())
        yield tree
    finally:
        with shielded():
            mounting.terminate()
            mounting.wait()
