"""Services that wait for the first image that is built for them: no release has brought one, and no bake."""

from __future__ import annotations

from builder.server.remote import common, release_record
from builder.server.remote.common import RemoteError


def waiting(stack: str) -> list[str]:
    """Such services of a stack; none where its user is not made yet, or does not answer: an image would not help."""
    if not common.uids([stack]):
        return []
    released = release_record.deployed(stack)
    named = {one: release_record.of_spec(stack, one) for one in release_record.services(stack) if one not in released}
    built = {service: image for service, image in named.items() if _is_built(stack, image)}
    if not built:
        return []
    try:
        there = {name.rpartition(":")[0] for image in release_record.store(stack) for name in image.names}
    except RemoteError:
        return []
    return [service for service, image in built.items() if image not in there]


def _is_built(stack: str, image: str) -> bool:
    """Whether it is a name without a tag of the stack's own images, as units of services with `build` have it."""
    prefix, _, rest = image.partition(f"localhost/{stack}/")
    return not prefix and bool(rest) and ":" not in rest


def each() -> dict[str, list[str]]:
    """By stack, where there are any."""
    return {stack: found for stack in common.stacks() if (found := waiting(stack))}
