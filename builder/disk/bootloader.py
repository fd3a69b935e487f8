"""GRUB as bytes and argv: what grub-install would write to a disk, without access to one.

Offsets are from GRUB's include/grub/i386/pc/boot.h and boot/i386/pc/diskboot.S.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.disk import partitions

if TYPE_CHECKING:
    import uuid

    from builder.spec.model import Arch

# The kernel's console: the last one is where boot messages and the `ready` line go.
CMDLINE: Final = "console=tty0 console=ttyS0,115200 consoleblank=0"
CMDLINE_ARM: Final = "console=tty0 console=ttyAMA0,115200 consoleblank=0"
CORE: Final = "boot/grub/i386-pc/core.img"
_BOOT_CODE: Final = 440
_CORE_AT: Final = 0x5C
_DRIVE_CHECK_AT: Final = 0x66
_NO_OPERATION: Final = b"\x90\x90"
_BLOCK_LIST: Final = struct.Struct("<QHH")
_SECOND_SEGMENT: Final = 0x820


@dataclass(frozen=True, slots=True)
class Efi:
    """Names of the signed loaders: in the tree, and on the ESP."""

    boot: str
    grub: str
    shim_file: str
    grub_file: str


EFI: Final[dict[Arch, Efi]] = {
    "amd64": Efi(
        "BOOTX64.EFI",
        "grubx64.efi",
        "usr/lib/shim/shimx64.efi.signed",
        "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    ),
    "arm64": Efi(
        "BOOTAA64.EFI",
        "grubaa64.efi",
        "usr/lib/shim/shimaa64.efi.signed",
        "usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
    ),
}


def mkimage_argv(tree: str) -> list[str]:
    """Make the BIOS core image with the tree's own GRUB; the empty disk name is the one that was booted."""
    modules = ["biosdisk", "part_gpt", "ext2", "search_fs_uuid"]
    start = ["chroot", tree, "grub-mkimage", "--format=i386-pc", "--directory=/usr/lib/grub/i386-pc"]
    return [*start, "--prefix=(,gpt1)/boot/grub", f"--output=/{CORE}", *modules]


def bios(boot: bytes, core: bytes, partition: partitions.Partition) -> dict[int, bytes]:
    """The boot sector and the BIOS boot partition: bytes by their offset.

    `boot` is boot.img, without its partition table; `core` is core.img. Raises ValueError when it does not fit.
    """
    core = core.ljust(-(-len(core) // partitions.SECTOR) * partitions.SECTOR, b"\0")
    if len(core) > partition.size:
        raise ValueError(f"GRUB's core of {len(core)} bytes does not fit into its partition")
    code = bytearray(boot[:_BOOT_CODE])
    code[_CORE_AT : _CORE_AT + 8] = struct.pack("<Q", partition.first)
    code[_DRIVE_CHECK_AT : _DRIVE_CHECK_AT + 2] = _NO_OPERATION
    rest = len(core) // partitions.SECTOR - 1
    blocks = _BLOCK_LIST.pack(partition.first + 1, rest, _SECOND_SEGMENT)
    first = core[: partitions.SECTOR - _BLOCK_LIST.size] + blocks
    return {0: bytes(code), partition.offset: first + core[partitions.SECTOR :]}


def menu(kernel: str, root: uuid.UUID, arch: Arch) -> str:
    """The first grub.cfg, for the kernel of this version; update-grub on the host replaces it."""
    cmdline = CMDLINE if arch == "amd64" else CMDLINE_ARM
    return f"""\
set default=0
set timeout=0
search --no-floppy --fs-uuid --set=root {root}
menuentry 'Debian GNU/Linux' {{
  linux /boot/vmlinuz-{kernel} root=UUID={root} ro {cmdline}
  initrd /boot/initrd.img-{kernel}
}}
"""


def esp_config(root: uuid.UUID) -> str:
    """What the signed GRUB reads on the ESP: where the real configuration is."""
    return f"""\
search.fs_uuid {root} root
set prefix=($root)'/boot/grub'
configfile $prefix/grub.cfg
"""


def defaults(arch: Arch) -> str:
    """For update-grub on the host: the same console, and no waiting."""
    cmdline = CMDLINE if arch == "amd64" else CMDLINE_ARM
    return f'GRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=""\nGRUB_CMDLINE_LINUX="{cmdline}"\n'
