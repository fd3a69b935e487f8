"""A provider as a row of values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Counted(StrEnum):
    """What a provider's limit counts."""

    RAW = "bytes as handed over, before any base64"
    BASE64 = "characters of their base64"


class Encoding(StrEnum):
    """How user-data is written, plainest first.

    `mime`: a MIME multipart of one part, application/gzip in base64: plain ASCII. `gzip`: raw bytes.
    """

    PLAIN = "plain"
    MIME = "mime"
    GZIP = "gzip"


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider takes. `limit` is in units of `counted`; None when it has none that matters."""

    name: str
    title: str
    limit: int | None
    counted: Counted
    bytes_: bool

    def used(self, size: int) -> int:
        """How much of the limit `size` bytes use."""
        return size if self.counted is Counted.RAW else (size + 2) // 3 * 4
