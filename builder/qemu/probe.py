"""Whether a kernel runs under an accelerator, and how fast: a real one, with a program of our own as its init.

A device that opens proves nothing, nor does a boot sector: there is a KVM that runs 16-bit code at full speed and
emulates 64-bit code instruction by instruction, so that a host would boot for hours.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process

if TYPE_CHECKING:
    from builder.qemu.acceleration import Accelerator
    from builder.spec.model import Arch

# QEMU's program for an architecture, and the machine that it is given.
PROGRAM: Final[dict[Arch, str]] = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}
MACHINE: Final[dict[Arch, str]] = {"amd64": "q35", "arm64": "virt"}
MARK: Final = b"er: init has run\n"
_CONSOLE: Final[dict[Arch, str]] = {"amd64": "ttyS0", "arm64": "ttyAMA0"}
# A fixed piece of work: so many turns of an empty loop, and so many calls into the kernel.
_TURNS: Final = 20_000_000
_CALLS: Final = 50_000
# reboot(2): two magic numbers, and to switch off.
_REBOOT: Final = (0xFEE1DEAD, 0x28121969, 0x4321FEDC)
_BASE: Final = 0x400000
_HEADERS: Final = 120


def seconds(arch: Arch, accelerator: Accelerator, kernel: Path, *, cpus: int, limit: float) -> float | None:
    """How long a machine takes from power-on to off, by way of its kernel and the work of its init.

    None when it has not got there within `limit` seconds, or at all.
    """
    with tempfile.TemporaryDirectory(prefix="er-probe-") as name:
        directory = Path(name)
        (directory / "initrd").write_bytes(initrd(arch))
        since = time.monotonic()
        try:
            done = process.run(argv(arch, accelerator, kernel, directory, cpus=cpus), timeout=limit, check=False)
        except (subprocess.TimeoutExpired, FileNotFoundError):
            return None
        taken = time.monotonic() - since
        console = directory / "console"
        reached = console.is_file() and MARK.strip() in console.read_bytes()
    return taken if reached and done.returncode == 0 else None


def argv(arch: Arch, accelerator: Accelerator, kernel: Path, directory: Path, *, cpus: int) -> list[str]:
    """The machine: as those of hosts are, without disks and network."""
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


def initrd(arch: Arch) -> bytes:
    """An initramfs (cpio, "newc") with nothing but /init."""
    return _member("init", 0o100755, init(arch)) + _member("TRAILER!!!", 0, b"")


def _member(name: str, mode: int, content: bytes) -> bytes:
    fields = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % field for field in fields)
    return _aligned(header + name.encode() + b"\0") + _aligned(content)


def _aligned(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 4)


def init(arch: Arch) -> bytes:
    """A static ELF program of a few instructions: works, writes MARK to its console, and switches the machine off."""
    code = _amd64() if arch == "amd64" else _arm64()
    machine = 62 if arch == "amd64" else 183
    size = _HEADERS + len(code)
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + segment + code


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
