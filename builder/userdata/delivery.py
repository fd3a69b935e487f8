"""Host -> the bytes that a provider is handed: the plainest form that fits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from builder import providers
from builder.problems import UserError
from builder.providers import Encoding
from builder.userdata import encoding, explain
from builder.userdata.cloudconfig import cloud_config
from builder.userdata.encoding import packed
from builder.userdata.shared import shared

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.host import Host
    from builder.providers import Provider
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On


@dataclass(frozen=True, slots=True)
class Delivery:
    """User-data, ready to hand over.

    `wire` is what is pasted, or given to the provider's CLI or SDK, which does its own base64 where the API wants it.
    `used` is what that takes of `limit`, as the provider counts; no limit is None. `shared`: what the stacks have in
    common stands there once, and cloud-init's Jinja writes it out.
    """

    provider: str
    on: On
    encoding: Encoding
    shared: bool
    wire: bytes = field(repr=False)
    used: int
    limit: int | None


def deliver(spec: Spec, host: Host, provider: str, on: On, *, smallest: bool = False) -> Delivery:
    """The user-data of a host for a provider; with `smallest` its smallest form, even when a plainer one fits.

    Raises UserError for an unknown provider, and when no form fits. A limit that nobody has published refuses nothing:
    the smallest form may be beyond it.
    """
    row = providers.get(provider)
    found = []
    for form, is_shared, content in forms(spec, host, row, on):
        used = row.used(len(content))
        found.append(Delivery(provider, on, form, is_shared, content, used, row.limit.value))
        if not smallest and row.fits(used):
            return found[-1]
    best = min(found, key=lambda one: one.used)
    if row.limit.verified and not row.fits(best.used):
        raise _too_large(spec, host, row, on, best.used)
    return best


def forms(spec: Spec, host: Host, row: Provider, on: On) -> Iterator[tuple[Encoding, bool, bytes]]:
    """Every form that the provider takes, plainest first; what is sure not to fit is left out, but for the last."""
    document = cloud_config(spec, host, on, ascii_only=True)
    if row.script:
        yield Encoding.SCRIPT, False, encoding.script(document)
        return
    yield Encoding.PLAIN, False, cloud_config(spec, host, on, ascii_only=not row.binary.value)
    if row.fits(row.used(encoding.at_least(document))):
        yield Encoding.MIME, False, encoding.multipart(encoding.gzip(document))
    small = encoding.gzip(shared(spec, host, on))
    yield Encoding.MIME, True, encoding.multipart(small)
    if row.binary.value:
        yield Encoding.GZIP, True, small
    elif (block := packed(spec, host, on)) is not None:
        yield Encoding.PACKED, False, block


def _too_large(spec: Spec, host: Host, row: Provider, on: On, used: int) -> UserError:
    biggest = explain.groups(spec, host, on, used, compressed=True)[:3]
    message = (
        f"the user-data takes {used:,} at its smallest; {row.title} takes {row.limit.value:,} {row.counted.value}; "
        f"the biggest: {', '.join(f'{one.name} ({one.used:,})' for one in biggest)}"
    )
    return UserError(message, ways_out(spec, host, row, on, [one.name for one in biggest]))


def ways_out(spec: Spec, host: Host, row: Provider, on: On, biggest: list[str]) -> str:
    """What would bring it under the limit, tried out where that can be done; `biggest` are names of groups."""
    return "; ".join(_ways_out(spec, host, row, on, biggest))


def _ways_out(spec: Spec, host: Host, row: Provider, on: On, biggest: list[str]) -> Iterator[str]:
    if on == "stock":
        baked = min(row.used(len(content)) for _, _, content in forms(spec, host, row, "baked"))
        verdict = "fits" if row.fits(baked) else "is still too much"
        yield f"--on baked takes {baked:,}, which {verdict}"
    stacks = [stack for stack in spec.stacks if f"stack {stack.name}" in biggest]
    for stack in stacks:
        if carried := sum(len(file.content) for file in stack.files):
            yield f"stack {stack.name} brings {carried:,} bytes of files, which its image or a volume could hold"
    if stacks:
        yield "a smaller compose file: shorter environments, fewer services"
    yield "or put some of the stacks on another server"
