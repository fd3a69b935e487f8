"""First boot and memory for 1, 10 and 30 stacks."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import hosts, memory, specs, tiny
from bench.result import Result, Row, Sample
from builder import facts
from builder.lab import trial

if TYPE_CHECKING:
    from bench.hosts import Prepared
    from bench.options import Options

_SIZES: Final = (1, 10, 30)
_COMPARED: Final = """\
The same host with 1, 10 and 30 stacks of one service each, all told by user-data. The app is the smallest there is
(Busybox's web server), so that this is what a stack itself costs: its user, session, network, container and ingress.
Time runs from power-on until every stack has answered and the host says that it is ready. Memory is what the processes
of a stack's user hold, each shared page divided among those who share it (PSS)."""


@dataclass(frozen=True, slots=True)
class _Found:
    ready: float
    stack: float
    proxy: float


def run(options: Options) -> Result:
    """Boot each size in turn."""
    sizes = _SIZES[:2] if options.quick else _SIZES
    with tempfile.TemporaryDirectory(prefix="er-bench-") as name:
        prepared = {size: _prepare(Path(name), size) for size in sizes}
        found: dict[int, list[_Found]] = {size: [] for size in sizes}
        for _ in range(options.rounds(3)):
            for size in sizes:
                found[size].append(_measure(prepared[size]))
    return Result("scale", "Many stacks", _COMPARED, tuple(_rows(found)))


def _prepare(folder: Path, size: int) -> Prepared:
    app = tiny.make(folder / "tiny.tar")
    proxy = f"oci-archive:{hosts.IMAGES / 'caddy.tar'}"
    return hosts.prepare(specs.write(folder / f"{size}.yaml", size, image=f"oci-archive:{app}", proxy=proxy))


def _measure(prepared: Prepared) -> _Found:
    with prepared.machine() as machine:
        os.sync()
        power_on = time.monotonic()
        machine.boot()
        machine.wait_console(trial.READY, timeout=300)
        ready = hosts.logged(machine, trial.READY) - power_on
        machine.wait(machine.started, timeout=120)
        held = memory.by_user(machine)
    proxy = held.pop(facts.PROXY_UID)
    return _Found(ready, statistics.mean(held.values()), proxy)


def _rows(found: dict[int, list[_Found]]) -> list[Row]:
    rows = []
    for what, unit, field in (
        ("first boot", "s", "ready"),
        ("memory of a stack", "MiB", "stack"),
        ("memory of the proxy", "MiB", "proxy"),
    ):
        base = f"{what}, 1 stack"
        for size, values in found.items():
            name = base if size == 1 else f"{what}, {size} stacks"
            sample = Sample(tuple(getattr(one, field) for one in values))
            rows.append(Row(name, sample, unit, None if size == 1 else base))
    return rows
