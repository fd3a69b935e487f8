"""What one stack may have of a server's memory, and is left of it in any case, in percent.

All stacks together are below stacks.slice. One of them may have what is left there when each other one has its share:
so the one that takes everything comes to its own ceiling first, and no process of another is ended for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# MemoryMax and MemoryLow of stacks.slice.
TOGETHER: Final = 80
LEFT_TOGETHER: Final = 40
_LARGEST_SHARE: Final = 10
_HIGHEST_CEILING: Final = 70


def share(stacks: int) -> float:
    """What is left to each of so many stacks, whatever the others take."""
    return min(_LARGEST_SHARE, LEFT_TOGETHER * 100 // max(stacks, 1) / 100)


def ceiling(stacks: int) -> float:
    """The most that one of so many stacks may have."""
    return min(_HIGHEST_CEILING, round(TOGETHER - share(stacks) * (stacks - 1), 2))


# What a server that is sold with a gigabyte shows of it: the kernel has its own part.
_SHOWN: Final = 0.94
_SIZES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_GIBIBYTE: Final = 1024**3


def fits(needs: Sequence[int], gibibytes: float) -> bool:
    """Whether a server of this size has room for its stacks, which want so many bytes each."""
    has = gibibytes * _GIBIBYTE * _SHOWN / 100
    return sum(needs) <= has * TOGETHER and max(needs, default=0) <= has * ceiling(len(needs))


def server_size(needs: Sequence[int]) -> int:
    """The smallest usual size of a server, in GiB, that has room for them."""
    return next((size for size in _SIZES if fits(needs, size)), _SIZES[-1])
