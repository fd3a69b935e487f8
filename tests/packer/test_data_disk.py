"""A virtual machine with a second disk, which another one takes over: by its own kernel, udev and boot.

What the containers of tests/machine/test_data.py cannot have: `auto`, a disk that has grown, a cut of the real power,
and swap in compressed memory.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from builder import facts, host, process, userdata
from builder import spec as specs
from builder.lab import trial
from builder.qemu import Settings, Vm, verify
from builder.qemu.hardware import Drive
from builder.spec.model import Data
from builder.stack.model import Mount, Volume
from tests import sweeps
from tests.packer.bake_program import SPEC
from tests.packer.shared_bake import bake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = [
    pytest.mark.machine,
    pytest.mark.skipif(not sweeps.WHOLE, reason="minutes where virtual machines are emulated: make sweeps"),
]

_GIB: Final = 1 << 30
_BOOT: Final = 1800.0
_NOTE: Final = f"{facts.STACK_DATA}/hello/volumes/hello_data/_data/note"


@pytest.fixture(scope="module")
def image(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Baked in a container and not proved: what is tried here proves it."""
    return bake(tmp_path_factory.mktemp("built"), "--builder", "container", "--no-verify").image


@contextmanager
def _machine(image: Path, disks: tuple[Path, ...], key: Path) -> Iterator[Vm]:
    """A small machine from the image with these disks beside its own."""
    spec, _ = specs.load(SPEC)
    given = verify.for_this_machine(spec, key.with_suffix(".pub").read_text().strip())
    service = replace(given.stacks[0].services[0], mounts=(Mount("volume", "data", "/srv/data"),))
    stack = replace(given.stacks[0], services=(service,), volumes=(Volume("data"),))
    kept = replace(given, data=Data("auto"), stacks=(stack,))
    drives = tuple(Drive(disk, "raw", f"data{number}") for number, disk in enumerate(disks))
    settings = Settings(
        user_data=userdata.cloud_config(kept, host.build(kept), "baked"), memory=1024, key=key, drives=drives
    )
    with Vm(image, settings) as vm:
        yield vm


def _empty(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(2 * _GIB)
    return path


def test_another_machine_takes_the_disk(image: Path, key: Path, tmp_path: Path) -> None:
    """Made by the one, whose power is cut; larger when the other one has it."""
    disk = _empty(tmp_path / "data.raw")
    with _machine(image, (disk,), key) as first:
        first.boot()
        first.wait_console(trial.READY, timeout=_BOOT)
        first.ssh(f"echo kept | sudo tee {_NOTE}")
        ca = first.read(trial.CA)
        first.ssh("sudo fail2ban-client set sshd banip 203.0.113.77")
        assert first.ssh("findmnt -no SOURCE,FSTYPE,OPTIONS " + facts.DATA).stdout.split()[1] == "ext4"
        assert "/dev/zram0" in first.read("/proc/swaps"), "a machine with less than 2 GiB has swap in memory"
        first.ssh("sudo sync")
        first.cut()
    process.run(["truncate", "--size", "3G", str(disk)])
    with _machine(image, (disk,), key) as second:
        second.boot()
        second.wait_console(trial.READY, timeout=_BOOT)
        assert second.read(_NOTE) == "kept\n"
        assert second.read(trial.CA) == ca
        assert "203.0.113.77" in second.ssh("sudo fail2ban-client get sshd banip").stdout
        assert int(second.ssh(f"df --output=size -B1 {facts.DATA} | tail -1").stdout) > 2.5 * _GIB
        assert second.ssh("systemctl --failed --no-legend").stdout == ""


def test_of_two_disks_none_is_touched(image: Path, key: Path, tmp_path: Path) -> None:
    """The console says which; once one is gone, the other is taken."""
    disks = tuple(_empty(tmp_path / f"{name}.raw") for name in ("one", "two"))
    with _machine(image, disks, key) as vm:
        vm.boot()
        vm.wait_console("several disks for auto: /dev/vd", timeout=_BOOT)
        vm.wait_console("easyrunner: not ready: data:", timeout=_BOOT)
        assert all(disk.stat().st_blocks == 0 for disk in disks)
