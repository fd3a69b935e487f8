"""Which accelerator a virtual machine has on this machine: the one under which a kernel really runs faster.

It is found by a trial: the base disk's kernel with an initramfs of one small program, emulated and under KVM or hvf.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import struct
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import files, process
from builder.localhost import cache, requirements

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.spec.model import Arch


@dataclass(frozen=True, slots=True)
class Accelerator:
    """`name` is kvm, hvf or tcg; `accel` and `cpu` are QEMU's options; `why` it was taken, in a few words."""

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


# Intel models switch on page-table isolation, and `max` makes hashing slow: both are costly when emulated. QEMU 7.2
# (Debian 12) crashed guest kernels in its emulation of cmpxchg16b; misalignsse is not emulated, and warned about.
_EMULATED: Final[dict[Arch, str]] = {"amd64": "Opteron_G3,-cx16,-misalignsse", "arm64": "cortex-a72"}


def emulation(arch: Arch, why: str = "") -> Accelerator:
    """QEMU's emulation (TCG): runs everywhere, 5 to 17 times slower."""
    return Accelerator("tcg", "tcg,thread=multi", _EMULATED[arch], why)


def native(why: str = "") -> Accelerator | None:
    """The accelerator of this machine's operating system, working or not."""
    name = {"Linux": "kvm", "Darwin": "hvf"}.get(platform.system())
    return Accelerator(name, name, "host", why) if name else None


def accelerator(arch: Arch, kernel: Callable[[], Path]) -> Accelerator:
    """The faster one for machines of this architecture; `kernel` is called only when a trial is needed.

    The result is kept until this machine is started again, or has another QEMU.
    """
    if found := known(arch):
        return found
    with cache.locked(cache.root() / f"{_CACHE_FILE}.lock"):
        if found := known(arch):
            return found
        found = _tried(arch, kernel())
        with contextlib.suppress(OSError):
            files.write(cache.root() / _CACHE_FILE, json.dumps({"for": _trial_of(arch), **asdict(found)}).encode())
        return found


def known(arch: Arch) -> Accelerator | None:
    """The accelerator when no trial is needed: there is only emulation, or the trial was made since the last boot."""
    candidate = native() if requirements.native_arch() == arch else None
    if candidate is None:
        return emulation(arch, f"{arch} on {platform.machine()}")
    if candidate.name == "kvm" and (reason := _no_kvm()):
        return emulation(arch, reason)
    return _remembered(arch)


KVM: Final = Path("/dev/kvm")
# linux/kvm.h: _IO(KVMIO, 0x00), and what it has answered since Linux 2.6.22.
_GET_API_VERSION: Final = 0xAE00
_API_VERSION: Final = 12


def _no_kvm() -> str:
    """Why KVM is no candidate: no device, no permission, or not KVM; empty when it answers."""
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


_CACHE_FILE: Final = "accelerator.json"


def _remembered(arch: Arch) -> Accelerator | None:
    try:
        kept = json.loads((cache.root() / _CACHE_FILE).read_bytes())
        if kept.pop("for") == _trial_of(arch):
            return Accelerator(**kept)
    except (OSError, ValueError, TypeError, KeyError):
        pass  # Not tried yet, or by another version of er.
    return None


def _trial_of(arch: Arch) -> list[str]:
    """What a trial holds for: this start of the machine, and this QEMU."""
    program = requirements.which(PROGRAM[arch]) or ""
    changed = Path(program).stat().st_mtime_ns if program else 0
    return [arch, _boot(), program, str(changed)]


def _boot() -> str:
    """An id of this start of the machine; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return process.run(["sysctl", "-n", "kern.bootsessionuuid"], check=False).stdout.strip()


# In seconds. An emulated kernel reaches its init in some three; a busy machine takes a multiple of that.
_EMULATED_LIMIT: Final = 120.0
# In seconds, where even emulation did not get there.
_NATIVE_LIMIT: Final = 20.0


def _tried(arch: Arch, kernel: Path) -> Accelerator:
    """Emulation first: its time is the limit for the other."""
    fallback, candidate = emulation(arch), native()
    if candidate is None:
        return fallback
    slow = _timed_boot(arch, fallback, kernel, _EMULATED_LIMIT)
    fast = _timed_boot(arch, candidate, kernel, slow or _NATIVE_LIMIT)
    name = candidate.name.upper()
    if fast is not None and (slow is None or fast < slow):
        times = f"{slow / fast:.0f} times as fast as emulation" if slow else "emulation does not work"
        return Accelerator(candidate.name, candidate.accel, candidate.cpu, f"a kernel has run under it, {times}")
    return emulation(arch, f"{name} is here, but a kernel does not run under it, or slower than emulated")


def _timed_boot(arch: Arch, candidate: Accelerator, kernel: Path, limit: float) -> float | None:
    return boot_seconds(arch, candidate, kernel, cpus=processors(arch, candidate), limit=limit)


_CPUS: Final = 2
# Before this version an emulated processor could run an instruction that another had just patched away: now and then
# a guest's kernel crashed at boot, with "Oops: int3" (fixed by QEMU's commit deba78709a).
_PARALLEL: Final = (8, 1)


@lru_cache
def processors(arch: Arch, chosen: Accelerator) -> int:
    """How many processors a machine gets: two, but one where this QEMU's emulation of several is not reliable."""
    return _CPUS if not chosen.emulated or version(qemu_version(arch)) >= _PARALLEL else 1


# QEMU's program for an architecture, and the machine that it is given.
PROGRAM: Final[dict[Arch, str]] = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
MACHINE: Final[dict[Arch, str]] = {"amd64": "q35", "arm64": "virt"}


def qemu_version(arch: Arch) -> str:
    """The first line of `qemu-system-… --version`."""
    return process.run([PROGRAM[arch], "--version"]).stdout.partition("\n")[0]


def version(line: str) -> tuple[int, int]:
    """Major and minor number in that line; 0.0 when there is none."""
    found = re.search(r"version (\d+)\.(\d+)", line)
    return (int(found[1]), int(found[2])) if found else (0, 0)


MARK: Final = b"er: init has run\n"


def boot_seconds(arch: Arch, accelerator: Accelerator, kernel: Path, *, cpus: int, limit: float) -> float | None:
    """The seconds from power-on to off of a machine whose init does a fixed piece of work.

    None when it has not done so within `limit` seconds, or at all.
    """
    with tempfile.TemporaryDirectory(prefix="er-probe-") as name:
        directory = Path(name)
        (directory / "initrd").write_bytes(probe_initrd(arch))
        since = time.monotonic()
        try:
            done = process.run(probe_argv(arch, accelerator, kernel, directory, cpus=cpus), timeout=limit, check=False)
        except (subprocess.TimeoutExpired, FileNotFoundError):
            return None
        taken = time.monotonic() - since
        console = directory / "console"
        reached = console.is_file() and MARK.strip() in console.read_bytes()
    return taken if reached and done.returncode == 0 else None


_CONSOLE: Final[dict[Arch, str]] = {"amd64": "ttyS0", "arm64": "ttyAMA0"}


def probe_argv(arch: Arch, accelerator: Accelerator, kernel: Path, directory: Path, *, cpus: int) -> list[str]:
    """QEMU's argv for the trial: a machine as hosts have it, without disks and network."""
    return [
        PROGRAM[arch],
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", MACHINE[arch]),
        *("-accel", accelerator.accel),
        *("-cpu", accelerator.cpu),
        *("-smp", str(cpus)),
        *("-m", "256"),
        *("-serial", f"file:{directory / 'console'}"),
        *("-kernel", str(kernel)),
        *("-initrd", str(directory / "initrd")),
        *("-append", f"console={_CONSOLE[arch]} quiet panic=-1"),
    ]


def probe_initrd(arch: Arch) -> bytes:
    """An initramfs (cpio, "newc") with nothing but /init."""
    return _member("init", 0o100755, probe_init(arch)) + _member("TRAILER!!!", 0, b"")


def _member(name: str, mode: int, content: bytes) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _aligned(header + name.encode() + b"\0") + _aligned(content)


def _aligned(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)


_BASE: Final = 0x400000
_HEADERS: Final = 120


def probe_init(arch: Arch) -> bytes:
    """A static ELF program: does the work, writes MARK to its console, and switches the machine off."""
    code = _amd64() if arch == "amd64" else _arm64()
    machine = 62 if arch == "amd64" else 183
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + segment + code


# A fixed piece of work: so many turns of an empty loop, and so many calls into the kernel.
_TURNS: Final = 20_000_000
_CALLS: Final = 50_000
# reboot(2): two magic numbers, and to switch off.
_REBOOT: Final = (0xFEE1DEAD, 0x28121969, 0x4321FEDC)


def _amd64() -> bytes:
    def call(number: int) -> bytes:
        return b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"  # mov eax, number; syscall

    def put(*registers: tuple[bytes, int]) -> bytes:
        return b"".join(move + struct.pack("<I", value) for move, value in registers)

    edi, esi, edx, ebx = b"\xbf", b"\xbe", b"\xba", b"\xbb"
    turns = put((ebx, _TURNS)) + b"\xff\xcb\x75\xfc"  # dec ebx; jnz: back to the dec
    calls = put((ebx, _CALLS)) + (body := call(39)) + b"\xff\xcb\x75" + struct.pack("b", -len(body) - 4)  # getpid
    tail = put((edx, len(MARK))) + call(1) + put(*zip((edi, esi, edx), _REBOOT, strict=True)) + call(169) + b"\xeb\xfe"
    # lea rsi, [rip + what is between here and the text]
    say = put((edi, 1)) + b"\x48\x8d\x35" + struct.pack("<i", len(tail))
    return turns + calls + say + tail + MARK


def _arm64() -> bytes:
    def put(register: int, value: int) -> list[int]:
        """Movz, movk of the upper half."""
        return [0xD2800000 | (value & 0xFFFF) << 5 | register, 0xF2A00000 | (value >> 16) << 5 | register]

    def call(number: int) -> list[int]:
        return [*put(8, number), 0xD4000001]  # svc 0

    def until_zero(register: int, body: list[int]) -> list[int]:
        """Subs, and b.ne back to the start of `body`."""
        back = -(len(body) + 1) & 0x7FFFF
        return [*body, 0xF1000400 | register << 5 | register, 0x54000001 | back << 5]

    turns = [*put(19, _TURNS), *until_zero(19, [])]
    calls = [*put(19, _CALLS), *until_zero(19, call(172))]
    off = [word for register, value in enumerate(_REBOOT) for word in put(register, value)]
    tail = [*put(2, len(MARK)), *call(64), *off, *call(142), 0x14000000]
    distance = 4 * (len(tail) + 1)
    say = [*put(0, 1), 0x10000000 | (distance >> 2) << 5 | 1]  # adr x1, the text
    words = [*turns, *calls, *say, *tail]
    return struct.pack(f"<{len(words)}I", *words) + MARK
