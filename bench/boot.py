"""From power-on to the first HTTPS 200 of a stack, against the same base booting with an empty cloud-config."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from bench import hosts, https
from bench.result import Goal, Result, Row, interleaved
from builder.lab import trial

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from bench.hosts import Prepared
    from bench.options import Options
    from bench.result import Sample
    from builder.lab.machine import Machine

EMPTY: Final = "empty cloud-config, until nothing is left to start"
STOCK: Final = "everything by user-data, until the first HTTPS 200"
BAKED: Final = "baked disk, until the first HTTPS 200"
_GOAL: Final = 2.0
_COMPARED: Final = """\
Power-on to the first HTTPS 200 from outside of `examples/hello.yaml`, whose images are on the host, against the same
base tree booting with an empty cloud-config until cloud-init is done and no unit is left to start. All are first boots
by real systemd and cloud-init, on disks that have the packages. One host is told everything by its user-data, as on a
stock image; of the other, what every host has is baked into its disk."""


def run(options: Options) -> Result:
    """Boot them in turn."""
    prepared = hosts.prepare(hosts.HELLO)
    contenders: list[tuple[str, Callable[[], float]]] = [
        (EMPTY, lambda: _empty(prepared)),
        (STOCK, lambda: until_answered(prepared, prepared.machine())),
        (BAKED, lambda: until_answered(prepared, prepared.baked())),
    ]
    found = interleaved(options.rounds(9), contenders)
    rows = tuple(Row(what, sample, "s", None if what == EMPTY else EMPTY) for what, sample in found.items())
    goals = (_goal("everything by user-data", found[STOCK], found[EMPTY]), _goal("baked", found[BAKED], found[EMPTY]))
    return Result("boot", "Boot", _COMPARED, rows, goals)


def _goal(what: str, sample: Sample, empty: Sample) -> Goal:
    return Goal(f"First HTTPS 200, {what}, against the empty boot", "at most", _GOAL, sample.over(empty).median)


def _empty(prepared: Prepared) -> float:
    with prepared.empty() as machine:
        power_on = _quiet()
        machine.boot_and_wait()
        return hosts.startup_finished(machine) - power_on


def until_answered(prepared: Prepared, host: AbstractContextManager[Machine], *, timeout: float = 90) -> float:
    """Seconds from power-on to the first HTTPS 200 of the first site."""
    with host as machine:
        power_on = _quiet()
        machine.boot()
        site = prepared.plan.sites[0]
        answered = https.first_200(machine.ipv4, site.domain, lambda: machine.files.path(trial.CA), timeout=timeout)
        return answered - power_on


def _quiet() -> float:
    """Now, with the laying out of the disk over and done with for this machine's own disk too."""
    os.sync()
    return time.monotonic()
