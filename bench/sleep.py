"""How long the first visitor of a stack that sleeps waits, and what a stack holds awake, without a network, asleep."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import apps, hosts, https, memory, specs, tiny
from bench.result import Goal, Result, Row, Sample
from builder.lab import trial
from tests.machine import package_images

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.options import Options
    from builder.lab.machine import Machine

_WAKES: Final = 100
_ASLEEP: Final = 8.0
_STATIC: Final = "a static server (Caddy)"
_WAKING: Final = (_STATIC, "an app in Python", "an app in Node", "an app in Python and its PostgreSQL")
_HELD: Final = ("awake", "awake, without a network", "asleep")
_COMPARED: Final = """\
A stack is put to sleep, and one visitor comes: a new TLS connection and its whole answer, over and over. What waits is
the visitor; the app's own start is part of it. Beside it stands the same question when the app is awake. Memory is as
in the table of many stacks, of the smallest app there is."""


def run(options: Options) -> Result:
    """One host; the stacks sleep and wake in turn."""
    with tempfile.TemporaryDirectory(prefix="er-bench-") as name, hosts.prepare(_spec(Path(name))).machine() as machine:
        machine.boot_and_wait(timeout=300)
        wakes: dict[str, list[float]] = {what: [] for what in _WAKING}
        awake: list[float] = []
        for number in range(len(_WAKING)):
            _asked(machine, number)
        held = _held(machine)
        for _ in range(5 if options.quick else options.wanted_rounds or _WAKES):
            for number, what in enumerate(_WAKING):
                _sleeps(machine, number)
                wakes[what].append(_asked(machine, number))
            awake.append(_asked(machine, 0))
    return _result(wakes, awake, held)


def _spec(folder: Path) -> Path:
    path = folder / "sleep.yaml"
    caddy, node = apps.caddy(folder / "caddy.tar", "port"), apps.node(folder / "node.tar")
    python = apps.python(folder / "python.tar")
    stacks = [f"oci-archive:{image}" for image in (caddy, python, node)]
    text = specs.head(f"oci-archive:{hosts.IMAGES / 'caddy.tar'}")
    text += "".join(specs.stack(number, image, more="sleep: 15m") for number, image in enumerate(stacks))
    (folder / "compose.yaml").write_text(_COMPOSE.format(python=python, postgres=package_images.archive("postgres")))
    text += f"""\
  - name: app3
    uid: {specs.FIRST_UID + 3}
    compose: compose.yaml
    public: {{web: {{domains: [{specs.domain(3)}], port: 3000, sleep: 15m}}}}
"""
    small = f"oci-archive:{tiny.make(folder / 'tiny.tar')}"
    for number, more in enumerate(("", "egress: none", "sleep: 15m"), len(_WAKING)):
        text += specs.stack(number, small, more=more)
    path.write_text(text)
    return path


_COMPOSE: Final = """\
services:
  web:
    image: oci-archive:{python}
    environment: {{DATABASE_URL: "postgres://postgres:bench@db/postgres"}}
    depends_on: {{db: {{condition: service_healthy}}}}
  db:
    image: oci-archive:{postgres}
    environment: {{POSTGRES_PASSWORD: bench}}
    volumes: ["db:/var/lib/postgresql/data"]
    healthcheck:
      test: [CMD, pg_isready, -U, postgres, -h, 127.0.0.1]
      interval: 10s
      start_period: 1m
      start_interval: 1s
volumes: {{db: {{}}}}
"""


def _asked(machine: Machine, number: int) -> float:
    """Seconds until a new visitor has a 200."""
    since = time.monotonic()
    answered = https.first_200(
        machine.ipv4, specs.domain(number), lambda: machine.files.path(trial.CA), timeout=120, patience=60
    )
    return answered - since


def _sleeps(machine: Machine, number: int) -> None:
    """As after its time without a connection: the ingress ends, and what nothing else needs stops."""
    manager = ["systemctl", "--user", f"--machine=er-app{number}@"]
    ingress = machine.run([*manager, "list-units", "--plain", "--no-legend", "er-ingress-*.service"]).stdout.split()
    if ingress:
        machine.run([*manager, "stop", ingress[0]])
    machine.wait(lambda: not _containers(machine, manager, number), timeout=60, what="the stack to sleep")


def _containers(machine: Machine, manager: list[str], number: int) -> str:
    """The units of the stack's containers that are not at rest."""
    states = "--state=active,activating,deactivating,reloading"
    asked = [*manager, "list-units", "--plain", "--no-legend", states, f"app{number}-*.service"]
    lines = machine.run(asked).stdout.splitlines()
    return "\n".join(line for line in lines if not line.split()[0].endswith(("-network.service", "-volume.service")))


def _held(machine: Machine) -> dict[str, Sample]:
    """MiB of the stack of the smallest app in each state."""
    os.sync()
    held = memory.by_user(machine)
    first = specs.FIRST_UID + len(_WAKING)
    return {what: Sample((held[first + number],)) for number, what in enumerate(_HELD)}


def _result(wakes: dict[str, list[float]], awake: list[float], held: dict[str, Sample]) -> Result:
    return Result(
        "sleep", "Stacks that sleep", _COMPARED, tuple(_rows(wakes, awake, held)), tuple(_goals(held)), (_note(wakes),)
    )


def _rows(wakes: dict[str, list[float]], awake: list[float], held: dict[str, Sample]) -> Iterator[Row]:
    yield Row(f"{_STATIC}, awake", Sample(tuple(awake)), "s")
    for what, seconds in wakes.items():
        yield Row(f"{what}, asleep before", Sample(tuple(seconds)), "s")
    for what, sample in held.items():
        yield Row(
            f"memory of a stack {what}", sample, "MiB", None if what == _HELD[0] else f"memory of a stack {_HELD[0]}"
        )


def _goals(held: dict[str, Sample]) -> Iterator[Goal]:
    yield Goal("What a stack holds asleep", "at most", _ASLEEP, held["asleep"].median, "MiB")


def _note(wakes: dict[str, list[float]]) -> str:
    count = len(wakes[_STATIC])
    worst = "; ".join(
        f"{what} {statistics.median(seconds):.2f} s, worst {max(seconds):.2f}" for what, seconds in wakes.items()
    )
    return f"Of {count} wakes each: {worst}."
