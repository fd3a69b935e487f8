"""Host -> the bytes that a provider is handed: the plainest encoding that fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from builder import providers
from builder.problems import UserError
from builder.providers import Encoding
from builder.userdata import wire
from builder.userdata.cloudconfig import cloud_config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host import Host
    from builder.providers import Provider
    from builder.spec import Spec

On = Literal["stock", "baked"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """User-data, ready to hand over.

    `wire` is what is pasted, or given to the provider's CLI or SDK, which does its own base64 where the API wants it.
    `used` is what that takes of `limit`, as the provider counts; no limit is None.
    """

    provider: str
    on: On
    encoding: Encoding
    wire: bytes = field(repr=False)
    used: int
    limit: int | None


def deliver(spec: Spec, host: Host, provider: str, on: On) -> Delivery:
    """The user-data of a host for a provider. Raises UserError when no encoding fits, or for an unknown provider."""
    row = providers.get(provider)
    used = 0
    for encoding, content in _candidates(cloud_config(spec, host, on), row):
        used = row.used(len(content))
        if row.limit is None or used <= row.limit:
            return Delivery(provider, on, encoding, content, used, row.limit)
    raise UserError(f"the user-data takes {used:,} bytes, {row.title} takes {row.limit:,}", "use a baked image")


def _candidates(document: bytes, row: Provider) -> Iterator[tuple[Encoding, bytes]]:
    if row.bytes_ or document.isascii():
        yield Encoding.PLAIN, document
    yield Encoding.MIME, wire.encode(document, Encoding.MIME)
    if row.bytes_:
        yield Encoding.GZIP, wire.encode(document, Encoding.GZIP)
