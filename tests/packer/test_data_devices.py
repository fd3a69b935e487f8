"""The disk for data on a kernel, virtio disks and rights of its own, without the rest of a host: seconds where
tests/packer/test_data_disk.py takes minutes. What a container cannot have: `auto`, a disk that has grown, zram.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host, process
from builder import spec as specs
from builder.disk import base_disk, image_file, kernel
from builder.polling import until
from builder.qemu import accelerator, hardware
from builder.qemu.hardware import Drive, Hardware
from builder.spec.model import Data
from tests.packer.bake_program import SPEC
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.machine, of_a_sweep]

# Instead of an init. The disk with this script is /dev/vdb, and in use: that for data is the other one.
_RUN: Final = """
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mkdir -p /run/easyrunner
python3 -I /mnt/disk
echo "taken $(readlink /run/easyrunner/disk)"
mount -t ext4 -o nodev,nosuid,resgid=20008 /run/easyrunner/disk /srv
echo "size $(df --output=size -B1 /srv | tail -1)"
echo "note $(cat /srv/note 2>/dev/null)"
echo kept >/srv/note
{zram}
echo "swap $(tail -n +2 /proc/swaps)"
umount /srv
sync
echo er-end
poweroff -f
"""


def _script_disk(target: Path) -> Path:
    """A file system with the programs of a host whose spec says `auto`."""
    spec, _ = specs.load(SPEC)
    files = {file.path: file.content for file in host.build(replace(spec, data=Data("auto"))).files}
    place = target.with_suffix(".d")
    place.mkdir()
    (place / "disk").write_bytes(files[f"{facts.LIB}/disk"])
    unit = files["/usr/lib/systemd/system/easyrunner-zram.service"].decode()
    start = next(line for line in unit.splitlines() if line.startswith("ExecStart=")).removeprefix("ExecStart=-")
    (place / "run").write_text(_RUN.format(zram=shlex.join(shlex.split(start.replace("$$", "$")))))
    process.run(["mke2fs", "-qt", "ext4", "-d", str(place), str(target), "16M"])
    return target


def _boot(directory: Path, script: Path, *data: Path) -> str:
    """What the console says of one run, in a machine with a gibibyte of memory."""
    initrd, overlay, console = (directory / name for name in ("initrd", "root.qcow2", "console"))
    image, loads = base_disk("debian-13", "amd64"), partial(kernel, "debian-13", "amd64")
    if not initrd.exists():
        with image_file.unpacked(image) as root:
            initrd.write_bytes(next((root / "boot").glob("initrd.img-*")).read_bytes())
    process.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image), str(overlay)])
    console.write_text("")
    init = '"mount /dev/vdb /mnt -o ro;exec sh /mnt/run"'
    words = f"root=/dev/vda1 rw console=ttyS0 no_timer_check panic=-1 init=/bin/sh -- -c {init}"
    machine = Hardware(
        arch="amd64",
        drives=(
            Drive(overlay, "qcow2", "root"),
            Drive(script, "raw", "script", read_only=True),
            *(Drive(one, "raw", one.stem) for one in data),
        ),
        console=console,
        memory=1024,
        cpus=1,
        forwards=(),
        extra=("-kernel", str(loads()), "-initrd", str(initrd), "-append", words, "-no-reboot"),
    )
    # A kernel that is given directly has the first place in the order of boots.
    argv = [word.replace(",bootindex=0", "") for word in hardware.argv(machine, accelerator("amd64", loads))]
    running = process.start(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        until(lambda: re.search(r"^er-end|several disks", _said(console), re.MULTILINE), timeout=900, what="its end")
    finally:
        running.kill()
        running.wait()
        if running.stdin is not None:
            running.stdin.close()
    return _said(console)


def _said(console: Path) -> str:
    return console.read_text(errors="replace").replace("\r", "")


def _empty(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(2 << 30)
    return path


def _taken_before(path: Path) -> Path:
    """A disk of 3 GiB that a host has taken when it had two."""
    place = path.with_suffix(".d")
    place.mkdir()
    (place / "note").write_text("kept\n")
    (place / "format").write_text("1\n")
    process.run(["mke2fs", "-qt", "ext4", "-L", facts.DATA_LABEL, "-m1", "-d", str(place), str(path), "2G"])
    process.run(["truncate", "--size", "3G", str(path)])
    return path


def test_the_one_other_disk_is_kept_and_grown(tmp_path: Path) -> None:
    """That an empty one is made one is shown in containers, and with a kernel in a sweep."""
    _is_kept_and_grown(_boot(tmp_path, _script_disk(tmp_path / "script.raw"), _taken_before(tmp_path / "data.raw")))


def _is_kept_and_grown(said: str) -> None:
    assert "taken /dev/vdc" in said
    assert "\nnote kept\n" in said
    assert re.search(r"^swap /dev/zram0 ", said, re.MULTILINE)
    size = re.search(r"^size (\d+)$", said, re.MULTILINE)
    assert size
    assert int(size[1]) > 2.5 * (1 << 30)


def test_the_one_other_disk_is_made_kept_and_grown(tmp_path: Path) -> None:
    disk, script = _empty(tmp_path / "data.raw"), _script_disk(tmp_path / "script.raw")
    first = _boot(tmp_path, script, disk)
    assert "taken /dev/vdc" in first
    assert re.search(r"^swap /dev/zram0 ", first, re.MULTILINE)
    process.run(["truncate", "--size", "3G", str(disk)])
    _is_kept_and_grown(_boot(tmp_path, script, disk))


def test_of_two_disks_none_is_touched(tmp_path: Path) -> None:
    disks = [_empty(tmp_path / f"{name}.raw") for name in ("one", "two")]
    said = _boot(tmp_path, _script_disk(tmp_path / "script.raw"), *disks)
    assert "several disks for auto: /dev/vdc (2 GiB, no file system), /dev/vdd (2 GiB, no file system)" in said
    assert all(disk.stat().st_blocks == 0 for disk in disks)
