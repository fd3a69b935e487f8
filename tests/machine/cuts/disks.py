"""Disks of real file systems, and what a cut of power leaves on them.

Where the power goes, what programs wrote may not be on the disk yet: ext4 writes names and owners down every five
seconds or when somebody asks, and contents up to half a minute later. So there are two kinds of cut:

* `kept`: every process is gone, and all that was written reaches the disk;
* `lost`: names are on the disk, as if the file system had just written them down, and contents are only where somebody
  waited for them (fsync) or ext4 had already sent them. Nothing more reaches the disk. The kernel does this when asked
  to shut a file system down (EXT4_IOC_SHUTDOWN, made for tests of this kind).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from builder import facts, host, process, userdata
from builder.host.packages import PACKAGES
from builder.lab import base_tree, trial
from builder.lab.machine import Machine
from builder.polling import until
from builder.qemu import seed
from tests.machine import hosts
from tests.packer import bake_without_packer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.spec import Spec

Kind = Literal["kept", "lost"]
KINDS: Final[tuple[Kind, ...]] = ("kept", "lost")
# _IOR('X', 125, __u32) of linux/fs.h and linux/ext4.h; 2 is EXT4_GOING_FLAGS_NOLOGFLUSH.
_SHUTDOWN: Final = 0x8004587D
_NO_FLUSH: Final = struct.pack("=I", 2)
_SIZE: Final = "3G"


@dataclass(frozen=True)
class Image:
    """What a server starts from. `files` are on its disk besides, by their path."""

    spec: Spec
    key: Path
    tree: Path
    user_data: bytes
    files: Mapping[str, Path]


def stock(name: str, directory: Path, packages: tuple[str, ...] | None = None) -> Image:
    """A provider's image, with these packages (None: all of the host's) and archives of the stacks' images."""
    spec, key = hosts.written(name, directory)
    planned = trial.plan(spec, timeout=300)
    tree = base_tree.tree(planned.packages if packages is None else packages)
    return Image(spec, key, tree, planned.user_data, dict(_archives(spec)))


def baked(name: str, directory: Path) -> Image:
    """An image of ours, with the stacks' images in it."""
    # Users of the machine that bakes go through it.
    for folder in (directory, *directory.parents[:2]):
        folder.chmod(folder.stat().st_mode | 0o055)
    made = bake_without_packer.bake(name, directory, packages=PACKAGES["debian-13"], twice=False)
    return Image(made.spec, made.key, made.tree, userdata.cloud_config(made.spec, host.build(made.spec), "baked"), {})


class Bench:
    """An image as a disk before its first boot, in `directory`, with a seed."""

    def __init__(self, image: Image, directory: Path) -> None:
        self.spec, self.key = image.spec, image.key
        self.directory = directory
        self._plan = trial.plan(self.spec, timeout=300)
        self._disk = directory / "new.raw"
        process.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", str(image.tree), str(self._disk), _SIZE])
        with Machine(self._disk, image.user_data, name=self._plan.name) as machine:
            for path, source in image.files.items():
                machine.files.write(path, source.read_bytes())
        _released(self._disk)

    @contextmanager
    def disk(self, name: str) -> Iterator[Path]:
        """A disk for one host, before its first boot."""
        disk = self.directory / f"{name}.raw"
        process.run(["cp", "--sparse=always", str(self._disk), str(disk)])
        try:
            yield disk
        finally:
            disk.unlink()

    @contextmanager
    def host(self, disk: Path) -> Iterator[hosts.Host]:
        """A machine that is off, with this disk as it is."""
        # Beside the key is what else a client keeps of this host, and there are several hosts at a time.
        key = disk.with_suffix(".client") / "id"
        shutil.copytree(self.key.parent, key.parent, dirs_exist_ok=True)
        with Machine(disk, None, name=self._plan.name, extra_files=dict(self._plan.extra_files)) as machine:
            yield hosts.Host(self.spec, machine, key)
        _released(disk)


def cut(machine: Machine, kind: Kind) -> None:
    """The power goes."""
    if kind == "lost":
        stop_writing(machine.files.tree)
    machine.cut()


def stop_writing(tree: Path) -> None:
    """Nothing more of the file system that `tree` is on reaches its disk; its names, so far, have."""
    top = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # A change of this directory's, waited for: with it all names that the file system knows are written down.
        os.utime(top)
        os.fsync(top)
        fcntl.ioctl(top, _SHUTDOWN, _NO_FLUSH)
    finally:
        os.close(top)


def _archives(spec: Spec) -> Iterator[tuple[str, Path]]:
    for name, source in seed.archives_by_name(spec):
        yield f"{facts.IMAGES}/{name}", source


def _released(disk: Path) -> None:
    """Wait until no loop device is left of a machine that is gone: its last writes are then in the file."""

    def free() -> bool:
        used = (path.read_text().strip() for path in Path("/sys/block").glob("loop*/loop/backing_file"))
        return str(disk) not in used

    until(free, timeout=30, what=f"the end of {disk.name} as a disk")
