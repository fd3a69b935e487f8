"""What is on a disk image, as a directory: read-only, with owners, modes, links and capabilities as they are."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.disk import image_file, needs, partitions
from builder.lab.signals import shielded
from builder.localhost import cache
from builder.polling import until
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PROGRAMS: Final = ("fuse2fs", "qemu-img", "setpriv")
# Of the ext super block, which begins at 1024: its signature.
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
    needs.check("reading an image", _PROGRAMS, root=True, fuse=True)
    kind = image_file.format_of(path)
    cache.root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacked-", dir=cache.root()) as aside:
        raw = path if kind == "raw" else image_file.convert(path, Path(aside, "disk.raw"), to="raw")
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
    """fuse2fs in the foreground; it ends with its starter, so that nothing stays mounted after a kill."""
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
