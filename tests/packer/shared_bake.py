"""One bake with everything real, for all tests that look at its image."""

from __future__ import annotations

import json
import os
import shutil
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.qemu.acceleration import PROGRAM
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
    argv = [ER, "build-image", str(spec), "--target", "qemu", "--with-stacks", "--json", "-o", str(directory), *words]
    with tempfile.TemporaryDirectory(prefix="er-first-") as programs:
        path = f"{_preferred(Path(programs))}:{os.environ['PATH']}"
        return process.run(argv, cwd=ROOT, env={**os.environ, "PATH": path}, timeout=3000, check=False)


# A boot that is emulated has a limit of time, and takes the longest of all in a run of the tests. What counts where the
# kernel groups processes by session is the group's niceness (sched(7)).
_FIRST: Final = """\
#!/bin/sh
echo -10 2>/dev/null >/proc/self/autogroup || :
exec nice -n -10 {program} "$@"
"""


def _preferred(programs: Path) -> Path:
    """A directory with a QEMU that the kernel prefers to what else the tests do."""
    for name in PROGRAM.values():
        if program := shutil.which(name):
            (programs / name).write_text(_FIRST.format(program=program))
            (programs / name).chmod(0o755)
    return programs


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
