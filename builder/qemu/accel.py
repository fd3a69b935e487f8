"""Which accelerator a virtual machine can have here: one that really runs a guest's instructions, else emulation."""

from __future__ import annotations

import platform
import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process

if TYPE_CHECKING:
    from builder.spec.model import Arch

PROGRAM: Final[dict[Arch, str]] = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
MACHINE: Final[dict[Arch, str]] = {"amd64": "q35", "arm64": "virt"}
_HOST: Final = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# Intel models switch on page-table isolation, and `max` makes hashing slow: both are costly when emulated. QEMU 7.2
# (Debian 12) crashed guest kernels in its emulation of cmpxchg16b; misalignsse is not emulated, and warned about.
_EMULATED: Final[dict[Arch, str]] = {"amd64": "Opteron_G3,-cx16,-misalignsse", "arm64": "cortex-a72"}
_CPUS: Final = 2
# Before, an emulated processor could run an instruction that another had just patched away: now and then a guest's
# kernel crashed at boot, with "Oops: int3" (fixed by QEMU's commit deba78709a).
_PARALLEL: Final = (8, 1)
_PROBE_SECONDS: Final = 10
# A boot sector: mov al,16; out 0xf4,al; and then halt for ever. The debug device makes QEMU exit with 16 * 2 + 1.
_PC_SECTOR: Final = (b"\xb0\x10\xe6\xf4\xf4\xeb\xfd").ljust(510, b"\0") + b"\x55\xaa"
_PC_EXIT: Final = 33
# mov x0, PSCI's SYSTEM_OFF (0x84000008); hvc 0; and then turn round for ever. QEMU exits with 0.
_ARM_CODE: Final = struct.pack("<4I", 0xD2B08000, 0xF2800100, 0xD4000002, 0x14000000)


@dataclass(frozen=True, slots=True)
class Accelerator:
    """`name` is kvm, hvf or tcg; `accel` and `cpu` are what QEMU is told."""

    name: str
    accel: str
    cpu: str


def emulation(arch: Arch) -> Accelerator:
    """Runs everywhere, 5 to 17 times slower."""
    return Accelerator("tcg", "tcg,thread=multi", _EMULATED[arch])


@lru_cache
def processors(arch: Arch, chosen: Accelerator) -> int:
    """How many a machine gets: two, but one where QEMU's emulation of several is not to be trusted."""
    if chosen.name != "tcg":
        return _CPUS
    return _CPUS if version(process.run([PROGRAM[arch], "--version"]).stdout) >= _PARALLEL else 1


def version(said: str) -> tuple[int, int]:
    """QEMU's version out of what it says; 0.0 when it says none."""
    found = re.search(r"version (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def native() -> Accelerator | None:
    """What this machine's system offers, working or not."""
    name = {"Linux": "kvm", "Darwin": "hvf"}.get(platform.system())
    return Accelerator(name, name, "host") if name else None


@lru_cache
def accelerator(arch: Arch = "amd64") -> Accelerator:
    """The fastest that works, found out by running a few instructions: a device that opens proves nothing."""
    candidate = native() if _HOST.get(platform.machine()) == arch else None
    return candidate if candidate and works(arch, candidate) else emulation(arch)


def works(arch: Arch, candidate: Accelerator) -> bool:
    """Whether a guest's own instructions are carried out under it within a time limit."""
    with tempfile.NamedTemporaryFile(prefix="er-probe-") as file:
        file.write(_PC_SECTOR if arch == "amd64" else _ARM_CODE)
        file.flush()
        try:
            done = process.run(probe_argv(arch, candidate, Path(file.name)), timeout=_PROBE_SECONDS, check=False)
        except (subprocess.TimeoutExpired, FileNotFoundError):
            return False
    return done.returncode == (_PC_EXIT if arch == "amd64" else 0)


def probe_argv(arch: Arch, candidate: Accelerator, code: Path) -> list[str]:
    """A machine that ends itself as its first act, with an exit code that nothing else gives."""
    start = [PROGRAM[arch], "-accel", candidate.accel, "-cpu", candidate.cpu, "-m", "64"]
    quiet = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    if arch == "arm64":
        return [*start, "-machine", "virt", *quiet, "-device", f"loader,file={code},addr=0x40200000,cpu-num=0"]
    disk = ["-drive", f"file={code},format=raw,if=ide"]
    return [*start, "-machine", "pc", *quiet, *disk, "-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
