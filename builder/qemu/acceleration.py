"""Which accelerator a virtual machine has here: the one under which a kernel is really faster than emulated."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import files, process
from builder.disk import build, needs
from builder.localhost import cache
from builder.qemu import probe
from builder.qemu.probe import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.spec.model import Arch

# Intel models switch on page-table isolation, and `max` makes hashing slow: both are costly when emulated. QEMU 7.2
# (Debian 12) crashed guest kernels in its emulation of cmpxchg16b; misalignsse is not emulated, and warned about.
_EMULATED: Final[dict[Arch, str]] = {"amd64": "Opteron_G3,-cx16,-misalignsse", "arm64": "cortex-a72"}
_CPUS: Final = 2
# Before, an emulated processor could run an instruction that another had just patched away: now and then a guest's
# kernel crashed at boot, with "Oops: int3" (fixed by QEMU's commit deba78709a).
_PARALLEL: Final = (8, 1)
KVM: Final = Path("/dev/kvm")
# linux/kvm.h: _IO(KVMIO, 0x00), and what it has answered since Linux 2.6.22.
_GET_API_VERSION: Final = 0xAE00
_API_VERSION: Final = 12
# An emulated kernel reaches its init in some three seconds; a busy machine takes a multiple of that.
_PATIENCE: Final = 120.0
# Where even emulation did not get there, what a kernel with a processor of its own takes at the most.
_LEAST: Final = 20.0
_MEMORY: Final = "accelerator.json"


@dataclass(frozen=True, slots=True)
class Accelerator:
    """`name` is kvm, hvf or tcg; `accel` and `cpu` are what QEMU is told; `why` it was taken, in a few words."""

    name: str
    accel: str
    cpu: str
    why: str = ""

    @property
    def emulated(self) -> bool:
        """Whether the guest's instructions are translated, which takes 5 to 17 times as long."""
        return self.name == "tcg"

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


def emulation(arch: Arch, why: str = "") -> Accelerator:
    """Runs everywhere, 5 to 17 times slower."""
    return Accelerator("tcg", "tcg,thread=multi", _EMULATED[arch], why)


def native(why: str = "") -> Accelerator | None:
    """What this machine's system offers, working or not."""
    name = {"Linux": "kvm", "Darwin": "hvf"}.get(platform.system())
    return Accelerator(name, name, "host", why) if name else None


@lru_cache
def processors(arch: Arch, chosen: Accelerator) -> int:
    """How many a machine gets: two, but one where QEMU's emulation of several is not to be trusted."""
    return _CPUS if not chosen.emulated or version(qemu_version(arch)) >= _PARALLEL else 1


def qemu_version(arch: Arch) -> str:
    """What QEMU says of its version."""
    return process.run([PROGRAM[arch], "--version"]).stdout.partition("\n")[0]


def version(said: str) -> tuple[int, int]:
    """QEMU's version out of what it says; 0.0 when it says none."""
    found = re.search(r"version (\d+)\.(\d+)", said)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def known(arch: Arch) -> Accelerator | None:
    """The choice, where it needs no trial: there is no candidate, or the trial was made since this machine started."""
    candidate = native() if build.NATIVE.get(platform.machine()) == arch else None
    if candidate is None:
        return emulation(arch, f"{arch} on {platform.machine()}")
    if candidate.name == "kvm" and (lacking := _no_kvm()):
        return emulation(arch, lacking)
    return _remembered(arch)


def accelerator(arch: Arch, kernel: Callable[[], Path]) -> Accelerator:
    """The faster one for a kernel of this architecture, which is asked for only when a trial is needed.

    Believed until this machine is started again, or has another QEMU.
    """
    if found := known(arch):
        return found
    with cache.locked(cache.root() / f"{_MEMORY}.lock"):
        if found := known(arch):
            return found
        found = _tried(arch, kernel())
        with contextlib.suppress(OSError):
            files.write(cache.root() / _MEMORY, json.dumps({"for": _trial_of(arch), **asdict(found)}).encode())
        return found


def _tried(arch: Arch, kernel: Path) -> Accelerator:
    """Emulation first: it tells how long the other may take at the most."""
    fallback, candidate = emulation(arch), native()
    if candidate is None:
        return fallback
    slow = _seconds(arch, fallback, kernel, _PATIENCE)
    fast = _seconds(arch, candidate, kernel, slow or _LEAST)
    name = candidate.name.upper()
    if fast is not None and (slow is None or fast < slow):
        times = f"{slow / fast:.0f} times as fast as emulation" if slow else "emulation does not work"
        return Accelerator(candidate.name, candidate.accel, candidate.cpu, f"a kernel has run under it, {times}")
    return emulation(arch, f"{name} is here, but a kernel does not run under it, or slower than emulated")


def _seconds(arch: Arch, candidate: Accelerator, kernel: Path, limit: float) -> float | None:
    return probe.seconds(arch, candidate, kernel, cpus=processors(arch, candidate), limit=limit)


def _no_kvm() -> str:
    """Why KVM is no candidate: not there, not ours, or not KVM; empty when it answers."""
    try:
        descriptor = os.open(KVM, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return f"there is no {KVM}"
    except OSError as error:
        return f"{KVM}: {error.strerror}"
    try:
        answer = fcntl.ioctl(descriptor, _GET_API_VERSION)
    except OSError:
        answer = -1
    finally:
        os.close(descriptor)
    return "" if answer == _API_VERSION else f"{KVM} is not KVM"


def _remembered(arch: Arch) -> Accelerator | None:
    try:
        told = json.loads((cache.root() / _MEMORY).read_bytes())
        if told.pop("for") == _trial_of(arch):
            return Accelerator(**told)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # Not tried yet, or by another version of er.
    return None


def _trial_of(arch: Arch) -> list[str]:
    """What a trial holds for: this start of the machine, and this QEMU."""
    program = needs.which(PROGRAM[arch]) or ""
    changed = Path(program).stat().st_mtime_ns if program else 0
    return [arch, _boot(), program, str(changed)]


def _boot() -> str:
    """An id of this start of the machine; empty where there is none to be had."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return process.run(["sysctl", "-n", "kern.bootsessionuuid"], check=False).stdout.strip()
