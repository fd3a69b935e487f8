"""A hundred stacks of which ninety sleep, on a host held to 2 GiB, beside the same host without the sleepers."""

from __future__ import annotations

import os
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import hosts, https, limits, memory, specs, tiny
from bench.load import burst
from bench.result import Goal, Result, Row, Sample
from builder.lab import trial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.hosts import Prepared
    from bench.options import Options
    from builder.lab.machine import Machine

_AWAKE: Final = 10
_ALL: Final = 100
_MEMORY: Final = 2 << 30
_SECONDS: Final = 3
_BURSTS: Final = 5
_COMPARED: Final = f"""\
A host with {_ALL} stacks of one service, {_ALL - _AWAKE} of them asleep, and one with the {_AWAKE} that are awake.
Each may hold 2 GiB in all, page cache included (by a control group of the machine that boots them). Times run from
power-on until the host says that it is ready. Then both are on, and one app that is awake is asked by `wrk` on each in
turn; at last sleepers are woken one by one while that goes on."""


@dataclass(frozen=True, slots=True)
class _Boots:
    first: float
    second: float
    held: float


def run(options: Options) -> Result:
    """Both hosts, round by round."""
    with tempfile.TemporaryDirectory(prefix="er-bench-") as name:
        sizes = (_AWAKE, 20 if options.quick else _ALL)
        prepared = [_prepare(Path(name), size) for size in sizes]
        boots: tuple[list[_Boots], list[_Boots]] = ([], [])
        rates: tuple[list[float], list[float]] = ([], [])
        wakes: list[float] = []
        for _ in range(options.rounds(1)):
            with ExitStack() as stack:
                held = [stack.enter_context(limits.memory(str(size), _MEMORY)) for size in sizes]
                machines = [stack.enter_context(one.machine()) for one in prepared]
                for machine, found, inside in zip(machines, boots, held, strict=True):
                    with inside():
                        found.append(_boots(machine))
                for _ in range(_BURSTS):
                    for machine, rate in zip(machines, rates, strict=True):
                        rate.append(_rate(machine))
                wakes += _wakes(machines[1], sizes[1] - _AWAKE)
    return _result(boots, rates, wakes)


def _prepare(folder: Path, size: int) -> Prepared:
    app = tiny.make(folder / "tiny.tar")
    proxy = f"oci-archive:{hosts.IMAGES / 'caddy.tar'}"
    path = specs.write(folder / f"{size}.yaml", size, image=f"oci-archive:{app}", proxy=proxy, asleep=size - _AWAKE)
    return hosts.prepare(path)


def _boots(machine: Machine) -> _Boots:
    """Power on, twice; what the stacks hold after that."""
    first = _ready(machine)
    machine.poweroff(timeout=300)
    second = _ready(machine)
    machine.wait(machine.started, timeout=300, what="every unit to start")
    return _Boots(first, second, sum(memory.by_user(machine).values()))


def _ready(machine: Machine) -> float:
    os.sync()
    power_on = time.monotonic()
    machine.boot()
    asked = ["journalctl", "--boot", "--quiet", "--output=cat", "--unit=er-first-boot.service"]
    machine.wait(machine.systemd_up, timeout=60, what="systemd")
    machine.wait(lambda: trial.READY in machine.run(asked, check=False).stdout, timeout=600, what="the ready line")
    return hosts.logged(machine, trial.READY) - power_on


def _rate(machine: Machine, seconds: int = _SECONDS) -> float:
    return burst(machine.attacker(0), machine.ipv4, f"https://{specs.domain(0)}/", seconds=seconds).rate


def _wakes(machine: Machine, asleep: int) -> list[float]:
    """Seconds that each visitor of ten sleepers waits, while an app beside them is asked as fast as it answers."""
    load = threading.Thread(target=_rate, args=(machine, 10))
    load.start()
    found = []
    for number in range(_AWAKE, _AWAKE + min(10, asleep)):
        since = time.monotonic()
        answered = https.first_200(
            machine.ipv4, specs.domain(number), lambda: machine.files.path(trial.CA), timeout=120, patience=60
        )
        found.append(answered - since)
    load.join()
    return found


def _result(
    boots: tuple[list[_Boots], list[_Boots]], rates: tuple[list[float], list[float]], wakes: list[float]
) -> Result:
    rows = (*_rows(boots, rates), Row("wake of a sleeper under load", Sample(tuple(wakes)), "s"))
    second = _sample(boots[1], "second").over(_sample(boots[0], "second")).median
    rate = statistics.median(rates[1]) / statistics.median(rates[0])
    goals = (
        Goal("A boot beside the sleepers, against one without", "at most", 1.25, second),
        Goal("Rate beside the sleepers, against that without", "at least", 0.95, rate),
    )
    return Result("dense", "A hundred stacks", _COMPARED, rows, goals)


def _rows(boots: tuple[list[_Boots], list[_Boots]], rates: tuple[list[float], list[float]]) -> Iterator[Row]:
    alone, beside = f"{_AWAKE} awake", f"{_AWAKE} awake, {_ALL - _AWAKE} asleep"
    for what, unit, field in (
        ("first boot", "s", "first"),
        ("second boot", "s", "second"),
        ("memory of all stacks", "MiB", "held"),
    ):
        yield Row(f"{what}, {alone}", _sample(boots[0], field), unit)
        yield Row(f"{what}, {beside}", _sample(boots[1], field), unit, f"{what}, {alone}")
    yield Row(f"requests/s, {alone}", Sample(tuple(rates[0])), "/s")
    yield Row(f"requests/s, {beside}", Sample(tuple(rates[1])), "/s", f"requests/s, {alone}")


def _sample(boots: list[_Boots], field: str) -> Sample:
    return Sample(tuple(getattr(one, field) for one in boots))
