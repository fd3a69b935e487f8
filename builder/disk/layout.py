"""Where everything lies on the base disk: as on Debian's own cloud images, the root last so that it can grow."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from builder.disk import partitions

if TYPE_CHECKING:
    from builder.spec.model import Arch

_MIB: Final = 1024 * 1024 // partitions.SECTOR
_ROOT_AT: Final = 128 * _MIB
_ROOT_NUMBER: Final = 1
ROOT_LABEL: Final = "root"


@dataclass(frozen=True)
class Layout:
    """`size` is the disk's, in bytes, in whole MiB; `name` says what all ids on it are derived from."""

    arch: Arch
    size: int
    name: str

    @property
    def sectors(self) -> int:
        """How many the disk has."""
        return self.size // partitions.SECTOR

    def id(self, what: str) -> uuid.UUID:
        """An id that depends on the disk's name alone, so that the same inputs give the same disk."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"easyrunner:{self.name}/{what}")

    @cached_property
    def bios(self) -> partitions.Partition | None:
        """Where a BIOS finds the boot loader; only a PC has one."""
        return (
            partitions.Partition(14, _MIB, 3 * _MIB, partitions.BIOS_BOOT, self.id("bios"))
            if self.arch == "amd64"
            else None
        )

    @cached_property
    def esp(self) -> partitions.Partition:
        """What UEFI reads."""
        first = self.bios.first + self.bios.sectors if self.bios else _MIB
        return partitions.Partition(15, first, _ROOT_AT - first, partitions.ESP, self.id("esp"))

    @cached_property
    def root(self) -> partitions.Partition:
        """Everything else, in whole MiB."""
        sectors = (partitions.last_usable(self.sectors) + 1 - _ROOT_AT) // _MIB * _MIB
        return partitions.Partition(_ROOT_NUMBER, _ROOT_AT, sectors, partitions.ROOT[self.arch], self.id("root"))

    @property
    def root_uuid(self) -> uuid.UUID:
        """The id of the root's file system."""
        return self.id("filesystem")

    def table(self) -> dict[int, bytes]:
        """The partition table: bytes by their offset."""
        parts = [part for part in (self.bios, self.esp, self.root) if part]
        return partitions.write(parts, self.sectors, self.id("disk"))
