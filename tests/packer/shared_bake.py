"""One bake with everything real, for all tests that look at its image."""

from __future__ import annotations

import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder import process
from tests.packer.bake_program import ROOT, SPEC

if TYPE_CHECKING:
    import subprocess

    from builder.qemu import Vm
    from builder.qemu.hardware import Firmware

# Bytes of the disk that an image is booted on to see it grow.
GROWN = 6 * 1024**3
ER = str(Path(sysconfig.get_path("scripts"), "er"))


@dataclass(frozen=True, slots=True)
class Built:
    """A directory with an image, what `er` said of it, and how the bake went."""

    directory: Path
    told: dict[str, Any]
    talk: str = ""

    @property
    def image(self) -> Path:
        return Path(self.told["image"])

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.told["manifest"]).read_text())
        return found


def er(directory: Path, *words: str, spec: Path = SPEC) -> subprocess.CompletedProcess[str]:
    """Bake an image there, of the example unless another spec is named."""
    # Before the other tests: an emulated boot has a limit of time, and there is nothing that takes longer.
    argv = [
        "nice",
        "-n",
        "-10",
        ER,
        "build-image",
        str(spec),
        "--target",
        "qemu",
        "--with-stacks",
        "--json",
        "-o",
        str(directory),
        *words,
    ]
    return process.run(argv, cwd=ROOT, timeout=3000, check=False)


def bake(directory: Path, *words: str, spec: Path = SPEC) -> Built:
    """To its good end."""
    done = er(directory, *words, spec=spec)
    assert done.returncode == 0, done.stderr
    return Built(directory, json.loads(done.stdout), done.stderr)


def assert_it_has_grown(vm: Vm, *, firmware: Firmware) -> None:
    """To a disk of 6 GiB, booted as it says."""
    assert vm.ssh("test -d /sys/firmware/efi", check=False).returncode == (0 if firmware == "uefi" else 1)
    assert int(vm.ssh("df --output=size -B1 / | tail -1").stdout) > 5 * 1024**3
    # `nofail` in fstab: a boot that is slower than systemd's 90 s for a device goes on without it.
    mounted = "sudo systemctl start boot-efi.mount; findmnt -no FSTYPE /boot/efi || journalctl -b -u boot-efi.mount"
    assert vm.ssh(mounted, check=False).stdout.strip() == "vfat"
