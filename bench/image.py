"""The first boot of a baked image against that of a stock image, which installs everything over the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from bench import hosts
from bench.boot import until_answered
from bench.result import Goal, Result, Row, interleaved
from builder.lab import base_tree
from builder.lab.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.hosts import Prepared
    from bench.options import Options

STOCK: Final = "stock image: packages from the archive's mirror, until the first HTTPS 200"
BAKED: Final = "baked image, until the first HTTPS 200"
_COMPARED: Final = """\
Power-on to the first HTTPS 200 of `examples/hello.yaml`. The stock image has what a provider has, no package of ours,
and its user-data alone makes it the host; on the baked image all of that is there. The app's image is on both."""


def run(options: Options) -> Result:
    """Boot them in turn."""
    prepared = hosts.prepare(hosts.HELLO)
    contenders: list[tuple[str, Callable[[], float]]] = [
        (BAKED, lambda: until_answered(prepared, prepared.baked())),
        (STOCK, lambda: until_answered(prepared, _bare(prepared), timeout=600)),
    ]
    found = interleaved(options.rounds(3), contenders)
    rows = tuple(Row(what, sample, "s", None if what == BAKED else BAKED) for what, sample in found.items())
    goal = Goal("First HTTPS 200, stock against baked", "at least", 2.0, found[STOCK].over(found[BAKED]).median)
    return Result("image", "Image", _COMPARED, rows, (goal,))


def _bare(prepared: Prepared) -> Machine:
    return Machine(base_tree.tree(), prepared.plan.user_data, name=prepared.plan.name, preloads=prepared.preloads)
