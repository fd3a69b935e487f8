"""A provider as a row of facts, each with its source."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")


class Counted(StrEnum):
    """What a provider's limit counts."""

    RAW = "bytes as handed over, before base64"
    BASE64 = "characters of the base64"


class Encoding(StrEnum):
    """How user-data is written, plainest first.

    `mime`: a MIME multipart of one part, application/gzip in base64: plain ASCII. `gzip`: raw bytes. `packed`: a
    cloud-config in ASCII whose files are one block, for who takes neither; `packed-gzip`: such a one in raw bytes.
    `script`: a shell script that brings the cloud-config along, for who runs scripts only.
    """

    PLAIN = "plain"
    MIME = "mime"
    GZIP = "gzip"
    PACKED = "packed"
    PACKED_GZIP = "packed-gzip"
    SCRIPT = "script"

    @property
    def is_binary(self) -> bool:
        """Whether it is more than text."""
        return self in (Encoding.GZIP, Encoding.PACKED_GZIP)

    @property
    def is_packed(self) -> bool:
        """Whether the files are one block."""
        return self in (Encoding.PACKED, Encoding.PACKED_GZIP)


@dataclass(frozen=True, slots=True)
class Fact(Generic[T]):
    """A value, where it is written, and whether that was read there. What was not is a careful guess."""

    value: T
    source: str
    verified: bool = True


def guess(value: T, source: str) -> Fact[T]:
    """A fact that is not verified: `source` is where it should stand."""
    return Fact(value, source, verified=False)


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider takes and offers.

    `limit` is in units of `counted`; None when it has none that matters. `binary`: any bytes pass unchanged; of
    text, only ASCII is sure to.
    `command` and `console` hold `{file}` for the file of the user-data. `images` and `login` are by base.
    """

    name: str
    title: str
    datasource: Fact[str]
    limit: Fact[int | None]
    counted: Fact[Counted]
    binary: Fact[bool]
    key: Fact[str]
    command: Fact[str]
    console: Fact[str]
    images: Fact[Mapping[str, str]]
    login: Fact[Mapping[str, str]]
    archs: Fact[tuple[str, ...]]
    imports: Fact[str]
    packer: Fact[str | None]
    script: bool = False

    def used(self, size: int) -> int:
        """How much of the limit `size` bytes use."""
        return size if self.counted.value is Counted.RAW else (size + 2) // 3 * 4

    def fits(self, used: int) -> bool:
        """Whether that much is within the limit."""
        return self.limit.value is None or used <= self.limit.value

    def encodings(self) -> tuple[Encoding, ...]:
        """The encodings that this provider takes, plainest first."""
        if self.script:
            return (Encoding.SCRIPT,)
        small = (Encoding.GZIP, Encoding.PACKED_GZIP) if self.binary.value else (Encoding.PACKED,)
        return (Encoding.PLAIN, Encoding.MIME, *small)

    def root(self, base: str) -> bool:
        """Whether one logs into its stock image of this base as root."""
        return self.login.value.get(base) == "root"

    def facts(self) -> Iterator[tuple[str, Fact[object]]]:
        """The facts by name, in order."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Fact):
                yield field.name, value
