"""How much memory the well-known heavy images of a spec want, and how large a server is that has it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.oci import known_images
from builder.spec import messages
from builder.stack import shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.spec.document import Document
    from builder.spec.model import Spec
    from builder.stack.model import Stack

_MEBIBYTE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class StackMemory:
    """What the heavy images of one stack want, in bytes by service; one with a limit gets no more than that.

    `others` is the number of its services of which nothing is known.
    """

    stack: str
    services: tuple[tuple[str, int], ...]
    others: int

    @property
    def total(self) -> int:
        """In bytes."""
        return sum(size for _, size in self.services)


def wanted(stacks: Sequence[Stack]) -> tuple[StackMemory, ...]:
    """The stacks that have images of which it is known."""
    return tuple(one for one in map(_stack, stacks) if one.services)


def _stack(stack: Stack) -> StackMemory:
    found, others, counted = [], 0, set()
    for service in stack.services:
        want = known_images.memory(service.image)
        if want is None:
            others += 1
        elif want not in counted:
            counted |= {want} if want.once else set()
            size = want.mebibytes * _MEBIBYTE
            found.append((service.name, size if service.limits.memory is None else min(size, service.limits.memory)))
    return StackMemory(stack.name, tuple(found), others)


def server_size(spec: Spec) -> int | None:
    """The smallest usual size of a server with room for them, in GiB; None where nothing is known to be heavy."""
    needs = _needs(spec)
    return shares.server_size(needs) if needs else None


def _needs(spec: Spec) -> list[int]:
    """Of each stack in bytes, other services reckoned as usual ones; none where nothing is known to be heavy."""
    found = [_stack(stack) for stack in spec.stacks]
    other = known_images.OTHER_MEBIBYTES * _MEBIBYTE
    return [one.total + one.others * other for one in found] if any(one.services for one in found) else []


def check(document: Document, spec: Spec) -> None:
    """Say so when the instance type that the spec names is too small."""
    has, needs = _instance_memory(spec.aws.type or ""), _needs(spec)
    if has and needs and not shares.fits(needs, has):
        least = shares.server_size(needs)
        document.report(messages.AWS_MEMORY, ("aws", "type"), type=spec.aws.type, has=f"{has:g}", least=least)


# GiB of the size `large`, in the families of AWS that serve the web.
_LARGE: Final = {"t": 8, "m": 8, "c": 4, "r": 16}
_SMALLER: Final = {"nano": 1 / 16, "micro": 1 / 8, "small": 1 / 4, "medium": 1 / 2, "large": 1, "xlarge": 2}


def _instance_memory(name: str) -> float | None:
    """The memory of an instance type in GiB: each size of a family has twice that of the one before."""
    found = re.fullmatch(r"([a-z]+)[2-9][a-z]*\.(?:(?P<times>\d+)xlarge|(?P<size>[a-z]+))", name)
    if found is None or found[1] not in _LARGE:
        return None
    factor = 2 * int(found["times"]) if found["times"] else _SMALLER.get(found["size"])
    return None if factor is None else _LARGE[found[1]] * factor
