"""The hardware of a virtual machine as a value, and QEMU's argv for it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from builder.problems import UserError
from builder.qemu.acceleration import MACHINE, PROGRAM

if TYPE_CHECKING:
    from builder.qemu.acceleration import Accelerator
    from builder.spec.model import Arch


Firmware = Literal["bios", "uefi"]


@dataclass(frozen=True, slots=True)
class Drive:
    """A disk image. `serial` is what the machine sees it as in /dev/disk/by-id/virtio-SERIAL."""

    file: Path
    format: Literal["qcow2", "raw"]
    serial: str
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Hardware:
    """`memory` is in MiB; `forwards` are the machine's TCP ports that this machine reaches on 127.0.0.1.

    `flash` is UEFI's code and variables; None boots by BIOS. `network` and `extra` are further options of QEMU, for
    -netdev and for the end of the line. Without `internet` nothing leaves the machine.
    """

    arch: Arch
    drives: tuple[Drive, ...]
    console: Path
    memory: int = 2048
    cpus: int = 2
    forwards: tuple[int, ...] = (22,)
    internet: bool = True
    flash: tuple[Path, Path] | None = None
    network: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def argv(hardware: Hardware, accelerator: Accelerator) -> list[str]:
    """QEMU's argv. QMP is on standard input and output, which also tells the ports that the kernel has chosen."""
    return [
        PROGRAM[hardware.arch],
        "-nodefaults",
        "-no-user-config",
        *("-display", "none"),
        *("-machine", MACHINE[hardware.arch]),
        *("-accel", accelerator.accel),
        *("-cpu", accelerator.cpu),
        *("-smp", str(hardware.cpus)),
        *("-m", str(hardware.memory)),
        *_flash(hardware),
        *(word for number, drive in enumerate(hardware.drives) for word in _drive(number, drive)),
        *("-netdev", _netdev(hardware)),
        # No boot from the network, so no ROM for it.
        *("-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={_escaped(hardware.console)},append=on"),
        *("-serial", "chardev:console"),
        *("-qmp", "stdio"),
        *hardware.extra,
    ]


def _flash(hardware: Hardware) -> list[str]:
    if hardware.flash is None:
        return []
    code, variables = (_escaped(path) for path in hardware.flash)
    return [
        *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={code}"),
        *("-drive", f"if=pflash,unit=1,format=raw,file={variables}"),
    ]


def _drive(number: int, drive: Drive) -> list[str]:
    mode = "readonly=on" if drive.read_only else "discard=unmap"
    file = f"file={_escaped(drive.file)},format={drive.format},if=none,id=disk{number},{mode}"
    boot = ",bootindex=0" if number == 0 else ""
    return ["-drive", file, "-device", f"virtio-blk-pci,drive=disk{number},serial={drive.serial}{boot}"]


def _netdev(hardware: Hardware) -> str:
    forwards = (f"hostfwd=tcp:127.0.0.1:0-:{port}" for port in hardware.forwards)
    restricted = () if hardware.internet else ("restrict=on",)
    return ",".join(("user", "id=net", *restricted, *hardware.network, *forwards))


def _escaped(path: Path) -> str:
    """QEMU separates options by commas; a doubled one stands for itself."""
    return str(path).replace(",", ",,")


# Debian and Ubuntu (ovmf, qemu-efi-aarch64), then what QEMU brings along, as on macOS.
_QEMU_SHARE: Final = ("/opt/homebrew/share/qemu", "/usr/local/share/qemu", "/usr/share/qemu")
_FIRMWARE_FILES: Final[dict[Arch, tuple[tuple[str, str], ...]]] = {
    "amd64": (
        ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
        *((f"{directory}/edk2-x86_64-code.fd", f"{directory}/edk2-i386-vars.fd") for directory in _QEMU_SHARE),
    ),
    "arm64": (
        ("/usr/share/AAVMF/AAVMF_CODE.fd", "/usr/share/AAVMF/AAVMF_VARS.fd"),
        *((f"{directory}/edk2-aarch64-code.fd", f"{directory}/edk2-arm-vars.fd") for directory in _QEMU_SHARE),
    ),
}
_PACKAGE: Final[dict[Arch, str]] = {"amd64": "ovmf", "arm64": "qemu-efi-aarch64"}


def find_firmware(arch: Arch) -> tuple[Path, Path]:
    """UEFI's code and a template of its variables. Raises UserError when there is none."""
    for pair in _FIRMWARE_FILES[arch]:
        code, variables = (Path(path) for path in pair)
        if code.exists() and variables.exists():
            return code, variables
    raise UserError(f"no UEFI firmware for {arch} on this machine", f"apt-get install {_PACKAGE[arch]}")
