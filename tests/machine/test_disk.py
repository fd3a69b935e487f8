"""The program that finds, makes and checks the disk for data: nothing of anybody's is made a file system of.

With the real tools, on files in place of disks, and on block devices where something is mounted.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from dataclasses import replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from builder import facts, host, process
from builder.disk import partitions
from builder.lab.machine_directory import SecondDisk
from builder.spec.model import Data
from tests.machine import hosts
from tests.sweeps import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

pytestmark = pytest.mark.machine

_MIB: Final = 1 << 20
_SIZE: Final = 1200 * _MIB


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As it is on a host whose spec says `auto`, in a directory of its own."""
    spec, _ = hosts.written("kept", tmp_path_factory.mktemp("spec"))
    files = host.build(replace(spec, data=Data("auto"))).files
    target = tmp_path_factory.mktemp("program") / "disk"
    target.write_bytes(next(file.content for file in files if file.path == f"{facts.LIB}/disk"))
    return target


@pytest.fixture
def script(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Its functions, without a part in this machine's /run."""
    loader = SourceFileLoader("disk", str(program))
    spec = spec_from_file_location("disk", program, loader=loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    monkeypatch.setattr(module, "LINK", str(tmp_path / "link"))
    return module


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """Nothing but zeros."""
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(_SIZE)
    return path


# Which one is it?


def _listed(path: str, size: int = 20 << 30, **more: Any) -> dict[str, Any]:
    """A disk as lsblk has it."""
    plain = {"type": "disk", "ro": False, "model": None, "fstype": None, "label": None, "mountpoints": [None]}
    return {"path": path, "size": size, **plain, **more}


_ROOT: Final = _listed(
    "/dev/vda", children=[_listed("/dev/vda1", type="part", fstype="ext4", mountpoints=["/", "/var/tmp"])]
)
_OURS: Final[dict[str, Any]] = {"fstype": "ext4", "label": "er-data"}


@pytest.fixture
def attached(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What is chosen of disks that are attached, or what is said; their links are those given."""

    def choose(*disks: dict[str, Any], wanted: str = "auto", links: tuple[str, ...] = ()) -> str:
        monkeypatch.setattr(script, "WANTED", wanted)
        monkeypatch.setattr(script.os.path, "exists", lambda _: True)
        monkeypatch.setattr(script.os.path, "realpath", lambda path: "/dev/vdb" if "/disk/" in str(path) else str(path))
        monkeypatch.setattr(script.Path, "glob", lambda _, name: [Path(f"/dev/disk/{name}")] if name in links else [])
        try:
            return str(script.choose(list(disks)))
        except script.Refusal as refusal:
            return str(refusal)

    return choose


def test_the_one_disk_beside_the_machines_own_is_taken(attached: Callable[..., str]) -> None:
    assert attached(_ROOT, _listed("/dev/vdb")) == "/dev/vdb"


def test_without_one_it_says_so(attached: Callable[..., str]) -> None:
    assert attached(_ROOT) == "no disk for auto: none is attached"


def test_of_several_none_is_taken_and_all_are_named(attached: Callable[..., str]) -> None:
    said = attached(_ROOT, _listed("/dev/vdb"), _listed("/dev/vdc", fstype="xfs"))
    assert said == "several disks for auto: /dev/vdb (20 GiB, no file system), /dev/vdc (20 GiB, xfs)"


def test_of_several_the_one_with_the_label_is_taken(attached: Callable[..., str]) -> None:
    assert attached(_ROOT, _listed("/dev/vdb"), _listed("/dev/vdc", **_OURS)) == "/dev/vdc"


@pytest.mark.parametrize("wanted", ["auto", "LABEL=er-data"])
def test_two_with_the_label_are_one_too_many(attached: Callable[..., str], wanted: str) -> None:
    """As when a copy of it, made of a snapshot, is attached as well."""
    said = attached(_ROOT, _listed("/dev/vdb", **_OURS), _listed("/dev/vdc", **_OURS), wanted=wanted)
    assert said.startswith(f"several disks for {wanted}: /dev/vdb (20 GiB, er-data), /dev/vdc")


def test_by_label_no_other_is_taken(attached: Callable[..., str]) -> None:
    said = attached(_ROOT, _listed("/dev/vdb"), wanted="LABEL=er-data")
    assert said == "no disk for LABEL=er-data: /dev/vdb (20 GiB, no file system)"


def test_by_id_no_other_is_looked_at(attached: Callable[..., str]) -> None:
    wanted = "/dev/disk/by-id/scsi-0DO_Volume_data"
    assert attached(_ROOT, _listed("/dev/vdb"), _listed("/dev/vdc", **_OURS), wanted=wanted) == "/dev/vdb"
    assert attached(_ROOT, _listed("/dev/vdc", **_OURS), wanted=wanted) == f"no disk for {wanted}: none is attached"


_OTHERS: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "mounted": ({"children": [_listed("/dev/vdb1", mountpoints=["/srv"])]}, ""),
    "swap": ({"mountpoints": ["[SWAP]"]}, ""),
    "seed": ({"fstype": "vfat", "label": "CIDATA"}, ""),
    "config drive": ({"fstype": "iso9660", "label": "config-2"}, ""),
    "CD": ({"type": "rom"}, ""),
    "loop": ({"type": "loop"}, ""),
    "read-only": ({"ro": True}, ""),
    "empty slot": ({"size": 0}, ""),
    "zram": ({"path": "/dev/zram0"}, ""),
    "AWS": ({"model": "Amazon EC2 NVMe Instance Storage"}, ""),
    "Google": ({"model": "nvme_card"}, ""),
    "Google, SCSI": ({"model": "EphemeralDisk"}, ""),
    "Google, by its link": ({}, "by-id/google-local*"),
    "Azure": ({}, "azure/resource*"),
    "Azure, NVMe": ({"model": "Microsoft NVMe Direct Disk v2"}, ""),
    "Azure, by cloud-init's link": ({}, "cloud/azure_resource"),
}


@pytest.mark.parametrize("kind", _OTHERS)
@pytest.mark.parametrize("label", [None, "er-data"])
def test_what_is_in_use_or_goes_with_the_machine_is_no_disk_for_data(
    attached: Callable[..., str], kind: str, label: str | None
) -> None:
    """Whatever label it has."""
    more, link = _OTHERS[kind]
    given: dict[str, Any] = {"path": "/dev/vdb", "label": label, **more}
    other = _listed(**given)
    assert attached(_ROOT, other, links=(link,)) == "no disk for auto: none is attached"
    assert attached(_ROOT, other, _listed("/dev/vdc"), links=(link,)) == "/dev/vdc"


# What is on it?


def _write(disk: Path, place: int, content: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(place)
        file.write(content)


def _content(disk: Path) -> dict[int, bytes]:
    """What is not zero, by its place."""
    found, place = {}, 0
    with disk.open("rb", buffering=0) as file:
        while place < _SIZE:
            try:
                first = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing more
                break
            place = os.lseek(file.fileno(), first, os.SEEK_HOLE)
            for page in range(first, place, 4096):
                if (content := os.pread(file.fileno(), 4096, page)).strip(b"\0"):
                    found[page] = content
    return found


def _identity(disk: Path) -> bytes:
    """The UUID of an ext4 file system: `make` gives a new one."""
    with disk.open("rb") as file:
        file.seek(1024 + 0x68)
        return file.read(16)


def test_nothing_but_zeros_is_empty(script: ModuleType, disk: Path) -> None:
    assert script.judge(str(disk)) == "empty"


def test_one_byte_in_the_first_or_the_last_mebibyte_is_not_empty(script: ModuleType, disk: Path) -> None:
    for place in (0, 511, _MIB - 1, _SIZE - _MIB, _SIZE - 1):
        _write(disk, place, b"x")
        assert script.judge(str(disk)) == "something"
        _write(disk, place, b"\0")
    assert script.judge(str(disk)) == "empty"


def _gpt(disk: Path, *parts: partitions.Partition) -> None:
    for place, content in partitions.write(parts, _SIZE // partitions.SECTOR, uuid.UUID(int=1)).items():
        _write(disk, place, content)


def _mbr(disk: Path) -> None:
    _write(disk, 446, bytes.fromhex("00202100 83 000000 00080000 00100000".replace(" ", "")))
    _write(disk, 510, b"\x55\xaa")


def _by(*argv: str) -> Callable[[Path], object]:
    return lambda disk: process.run([*argv, str(disk)])


# How each makes one of somebody's.
_FOREIGN: Final[dict[str, Callable[[Path], object]]] = {
    "ext4": _by("mke2fs", "-qFt", "ext4", "-L", "photos"),
    "ext4 without a label": _by("mke2fs", "-qFt", "ext4"),
    "ext2 with our label": _by("mke2fs", "-qFt", "ext2", "-L", "er-data"),
    "swap": _by("mkswap"),
    "GPT": lambda disk: _gpt(disk, partitions.Partition(1, 2048, 2048, partitions.ROOT["amd64"], uuid.UUID(int=2))),
    "GPT without partitions": _gpt,
    "MBR": _mbr,
    "LVM": lambda disk: _write(disk, 512, b"LABELONE" + bytes(16) + b"LVM2 001"),
    "LUKS": lambda disk: _write(disk, 0, b"LUKS\xba\xbe\0\1"),
    "RAID, at its end": lambda disk: _write(disk, _SIZE - 65536, b"\xfc\x4e\x2b\xa9"),
    "Btrfs": lambda disk: _write(disk, 65536 + 64, b"_BHRfS_M"),
    "an archive": lambda disk: _write(disk, 0, b"PK\3\4 photos"),
}


@pytest.mark.parametrize("kind", _FOREIGN)
def test_what_is_somebodys_is_left_to_the_byte(script: ModuleType, disk: Path, kind: str) -> None:
    _FOREIGN[kind](disk)
    before = _content(disk)
    with pytest.raises(script.Refusal, match=f"^{disk} is not empty, it has .+"):
        script.prepare(str(disk))
    assert _content(disk) == before


def test_too_small_a_disk_is_said_to_be(script: ModuleType, disk: Path) -> None:
    with disk.open("r+b") as file:
        file.truncate(512 * _MIB)
    with pytest.raises(script.Refusal, match="less than 1 GiB"):
        script.prepare(str(disk))
    assert disk.stat().st_blocks == 0


# Ours, and in order?


def test_what_is_made_is_ours_and_sound(script: ModuleType, disk: Path) -> None:
    script.make(str(disk))
    assert script.judge(str(disk)) == "ours"
    process.run(["e2fsck", "-fn", str(disk)])


_TORN: Final[dict[str, Callable[[Path], object]]] = {
    "its end is missing": lambda disk: process.run(["truncate", "--size", "600M", str(disk)]),
    "its superblock is gone": lambda disk: _write(disk, 1024, bytes(1024)),
    "its superblock is another's": lambda disk: _write(disk, 1024 + 0x58, random.Random(1).randbytes(300)),
    "its groups are gone": lambda disk: _write(disk, 4096, bytes(4096)),
    "its root is gone": lambda disk: process.run(["debugfs", "-w", "-R", "clri <2>", str(disk)]),
}


@pytest.mark.parametrize("kind", _TORN)
def test_a_torn_one_is_not_made_anew_and_not_guessed_at(script: ModuleType, disk: Path, kind: str) -> None:
    """What e2fsck repairs without asking is repaired; else it is for somebody to look at, and still the same one."""
    script.make(str(disk))
    process.run(["debugfs", "-w", "-R", "mkdir kept", str(disk)])
    _TORN[kind](disk)
    before = _identity(disk)
    with pytest.raises(script.Refusal):
        script.prepare(str(disk))
    assert _identity(disk) == before


# The power goes.

_MAKE: Final = """
import sys
from importlib.machinery import SourceFileLoader
disk = SourceFileLoader("disk", sys.argv[1]).load_module()
assert disk.judge(sys.argv[2]) == "empty"
disk.make(sys.argv[2])
"""
# Of what `make` runs, the writes of each program are counted for themselves; so many are known to be there.
_CUTS: Final = [(call, number) for call in ("write", "pwrite64", "fsync") for number in range(1, 120)]
_CHOSEN: Final = [("write", 1), ("pwrite64", 1), ("pwrite64", 20), ("pwrite64", 40), ("fsync", 1), ("fsync", 2)]


def _cut(program: Path, disk: Path, call: str, number: int) -> subprocess.CompletedProcess[str]:
    """End whoever makes the file system at a system call, before the kernel has done it."""
    inject = f"inject={call}:signal=KILL:when={number}"
    tracer = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    return subprocess.run(
        [*tracer, sys.executable, "-W", "ignore", "-c", _MAKE, str(program), str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("call", "number"), sample(_CUTS, _CHOSEN))
def test_what_a_cut_leaves_while_it_is_made_is_made_again(
    program: Path, script: ModuleType, disk: Path, call: str, number: int
) -> None:
    """It is known to be half made, at whatever write, and by that alone is made anew."""
    cut = _cut(program, disk, call, number)
    if cut.returncode == 0:
        assert (call, number) not in _CHOSEN, "there is no such write"
        assert script.judge(str(disk)) == "ours"
        return
    assert script.judge(str(disk)) in ("empty", "ours")
    if script.judge(str(disk)) == "empty":
        script.make(str(disk))
    assert script.judge(str(disk)) == "ours"
    process.run(["e2fsck", "-fn", str(disk)])


_TAKE: Final = """
import sys
from importlib.machinery import SourceFileLoader
disk = SourceFileLoader("disk", sys.argv[1]).load_module()
disk.LINK = sys.argv[3]
disk.prepare(sys.argv[2])
"""
# What a start runs, and what it writes itself, each of which may be the last.
_STEPS: Final = [
    *(("execve", number) for number in range(2, 9)),
    *((call, 1) for call in ("mount", "move_mount", "rename", "fsync", "umount2")),
    *(("mkdir", number) for number in range(1, 4)),
]

_CHOSEN_STEPS: Final = [("execve", 6), ("rename", 1), ("umount2", 1)]


@pytest.fixture
def device(script: ModuleType, disk: Path) -> Iterator[str]:
    """A block device with a file system of ours that nobody has mounted yet."""
    script.make(str(disk))
    second = SecondDisk(disk)
    try:
        yield second.device
    finally:
        second.detach()


def _taken_up(program: Path, device: str, tmp_path: Path, *tracer: str) -> subprocess.CompletedProcess[str]:
    """In a mount namespace of its own, as the unit has."""
    words = [sys.executable, "-W", "ignore", "-c", _TAKE, str(program), device, str(tmp_path / "link")]
    return subprocess.run(
        ["unshare", "--mount", "--propagation", "private", *tracer, *words],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("call", "number"), sample(_STEPS, _CHOSEN_STEPS))
def test_a_cut_while_it_is_taken_up_costs_nothing(
    program: Path, device: str, tmp_path: Path, call: str, number: int
) -> None:
    """The next start takes it up, with everything on it."""
    process.run(["debugfs", "-w", "-R", "mkdir caddy", device])
    process.run(["debugfs", "-w", "-R", f"write {__file__} caddy/note", device])
    (tmp_path / "format").write_text("0 gone=20100\n")
    process.run(["debugfs", "-w", "-R", f"write {tmp_path}/format format", device])
    inject = f"inject={call}:signal=KILL:when={number}"
    tracer = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
    cut = _taken_up(program, device, tmp_path, *tracer)
    assert cut.returncode != 0 or (call, number) not in _CHOSEN_STEPS, "there is no such step"
    done = _taken_up(program, device, tmp_path)
    assert done.returncode == 0, done.stderr
    kept = process.run(["debugfs", "-R", "cat caddy/note", device]).stdout
    assert kept == Path(__file__).read_text()
