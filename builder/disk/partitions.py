"""Partition tables as values: GPT written and read, MBR read; and the layout of a base disk. Sectors have 512 bytes."""

from __future__ import annotations

import struct
import uuid
import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from builder.spec.model import Arch


SECTOR: Final = 512
_ENTRIES: Final = 128
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_TABLE_SECTORS: Final = _ENTRIES * _ENTRY.size // SECTOR
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_SIGNATURE: Final = b"EFI PART"
_MBR_ENTRY: Final = struct.Struct("<B3sB3sII")
_PROTECTIVE: Final = 0xEE
_UNKNOWN: Final = uuid.UUID(int=0)
_NO_CHS: Final = b"\xff\xff\xff"

# Types, by UAPI's Discoverable Partitions Specification and the UEFI specification.
BIOS_BOOT: Final = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
ESP: Final = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT: Final = {
    "amd64": uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    "arm64": uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"),
}


@dataclass(frozen=True, slots=True)
class Partition:
    """`number` counts from 1; `first` and `sectors` are in sectors. `type` and `id` are unknown (zero) in an MBR."""

    number: int
    first: int
    sectors: int
    type: uuid.UUID = _UNKNOWN
    id: uuid.UUID = _UNKNOWN

    @property
    def offset(self) -> int:
        """Where it begins, in bytes."""
        return self.first * SECTOR

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self.sectors * SECTOR


def write(partitions: Iterable[Partition], sectors: int, disk: uuid.UUID) -> dict[int, bytes]:
    """The MBR, the GPT and its backup for a disk of so many sectors: bytes by their offset."""
    table = _table(partitions)
    last = sectors - 1
    primary = _header(1, last, 2, table, disk)
    backup = _header(last, 1, last - _TABLE_SECTORS, table, disk)
    start = _protective_mbr(sectors) + primary.ljust(SECTOR, b"\0") + table
    return {0: start, (last - _TABLE_SECTORS) * SECTOR: table + backup.ljust(SECTOR, b"\0")}


def last_usable(sectors: int) -> int:
    """The last sector that a partition may have, on a disk of so many."""
    return sectors - _TABLE_SECTORS - 2


def _table(partitions: Iterable[Partition]) -> bytes:
    entries = bytearray(_ENTRIES * _ENTRY.size)
    for part in partitions:
        end = part.first + part.sectors - 1
        entry = _ENTRY.pack(part.type.bytes_le, part.id.bytes_le, part.first, end, 0, b"")
        entries[(part.number - 1) * _ENTRY.size : part.number * _ENTRY.size] = entry
    return bytes(entries)


def _header(at: int, other_at: int, table_at: int, table: bytes, disk: uuid.UUID) -> bytes:
    sectors = max(at, other_at) + 1
    fields = (at, other_at, 2 + _TABLE_SECTORS, last_usable(sectors), disk.bytes_le, table_at)
    tail = (_ENTRIES, _ENTRY.size, zlib.crc32(table))

    def packed(checksum: int) -> bytes:
        return _HEADER.pack(_SIGNATURE, 0x10000, _HEADER.size, checksum, 0, *fields, *tail)

    return packed(zlib.crc32(packed(0)))


def _protective_mbr(sectors: int) -> bytes:
    entry = _MBR_ENTRY.pack(0, b"\0\2\0", _PROTECTIVE, _NO_CHS, 1, min(sectors - 1, 0xFFFFFFFF))
    return bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa"


def read(start: bytes) -> tuple[Partition, ...]:
    """The partitions in the first 34 sectors of a disk; none when there is no table."""
    header = start[SECTOR : SECTOR + _HEADER.size]
    if header.startswith(_SIGNATURE):
        return tuple(_gpt(start, header))
    return tuple(_mbr(start)) if start[510:512] == b"\x55\xaa" else ()


def _gpt(start: bytes, header: bytes) -> Iterator[Partition]:
    *_, table_at, count, size, _ = _HEADER.unpack(header)
    for index in range(count):
        begin = table_at * SECTOR + index * size
        kind, own, first, last, _, _ = _ENTRY.unpack_from(start.ljust(begin + _ENTRY.size, b"\0"), begin)
        if any(kind):
            yield Partition(index + 1, first, last - first + 1, uuid.UUID(bytes_le=kind), uuid.UUID(bytes_le=own))


def _mbr(start: bytes) -> Iterator[Partition]:
    for index in range(4):
        _, _, kind, _, first, sectors = _MBR_ENTRY.unpack_from(start, 446 + index * _MBR_ENTRY.size)
        if kind and sectors:
            yield Partition(index + 1, first, sectors)


# In sectors.
_MIB: Final = 1024 * 1024 // SECTOR
_ROOT_AT: Final = 128 * _MIB
_ROOT_NUMBER: Final = 1


@dataclass(frozen=True)
class Layout:
    """The partitions of a base disk. `size` is in bytes, in whole MiB; all ids are derived from `name`."""

    arch: Arch
    size: int
    name: str

    @property
    def sectors(self) -> int:
        """The size of the disk in sectors."""
        return self.size // SECTOR

    def id(self, what: str) -> uuid.UUID:
        """An id that depends on the disk's name alone, so that the same inputs give the same disk."""
        return uuid.uuid5(uuid.NAMESPACE_URL, f"easyrunner:{self.name}/{what}")

    @cached_property
    def bios(self) -> Partition | None:
        """The BIOS boot partition, with GRUB's core; only amd64 has one."""
        return Partition(14, _MIB, 3 * _MIB, BIOS_BOOT, self.id("bios")) if self.arch == "amd64" else None

    @cached_property
    def esp(self) -> Partition:
        """The EFI system partition."""
        first = self.bios.first + self.bios.sectors if self.bios else _MIB
        return Partition(15, first, _ROOT_AT - first, ESP, self.id("esp"))

    @cached_property
    def root(self) -> Partition:
        """The root file system's: the rest of the disk, in whole MiB."""
        sectors = (last_usable(self.sectors) + 1 - _ROOT_AT) // _MIB * _MIB
        return Partition(_ROOT_NUMBER, _ROOT_AT, sectors, ROOT[self.arch], self.id("root"))

    @property
    def root_uuid(self) -> uuid.UUID:
        """The UUID of the root file system."""
        return self.id("filesystem")

    def table(self) -> dict[int, bytes]:
        """The partition table: bytes by their offset."""
        parts = [part for part in (self.bios, self.esp, self.root) if part]
        return write(parts, self.sectors, self.id("disk"))
