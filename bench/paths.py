"""What the hop to an app costs: to a port in its own network, to a socket of its own, to one that systemd passes."""

from __future__ import annotations

import shlex
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import apps, hosts, https, rivals, specs
from bench.load import Burst, burst
from bench.result import Goal, Result, Row, Sample
from builder.lab import trial

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.options import Options
    from builder.lab.machine import Machine

PORT: Final = "a port in the app's own network (the usual way)"
OWN: Final = "a socket of the app's own (listen: PATH)"
PASSED: Final = "a socket that systemd passes (listen: fd)"
NATIVE: Final = "Caddy and app on the host, a port"
HOP: Final = "Caddy and app on the host, systemd-socket-proxyd between them"
# What the app listens on, and what its stack says of it.
_STACKS: Final = {PORT: ("port", ""), OWN: ("own", f"listen: {apps.SOCKET}"), PASSED: ("passed", "listen: fd")}
_DOMAINS: Final = {what: specs.domain(number) for number, what in enumerate(_STACKS)}
_SECONDS: Final = 4
_COMPARED: Final = """\
Requests by `wrk` as above, to the same app three times on one host, once by each way from the proxy to an app, and to
the app on a plain host beside the same Caddy. What the hop alone costs shows the last row: nothing is in a container
there, but `systemd-socket-proxyd` stands between Caddy and the app, as the ingress of a usual stack does."""


def run(options: Options) -> Result:
    """All are on at once, and each is asked in its turn."""
    with tempfile.TemporaryDirectory(prefix="er-bench-") as name, ExitStack() as stack:
        host = stack.enter_context(_prepared(Path(name)).machine())
        host.boot_and_wait()
        for domain in _DOMAINS.values():
            https.first_200(host.ipv4, domain, lambda: host.files.path(trial.CA), timeout=60)
        rival = stack.enter_context(rivals.rival(hosts.prepare(hosts.HELLO), _hop))
        asked: dict[str, Callable[[], Burst]] = {
            NATIVE: _asking(rival, f"{rivals.DOMAIN}:{rivals.NATIVE}", options),
            **{what: _asking(host, domain, options) for what, domain in _DOMAINS.items()},
            HOP: _asking(rival, f"{rivals.DOMAIN}:{rivals.HOP}", options),
        }
        return _result(_rounds(options.rounds(9), asked))


def _prepared(folder: Path) -> hosts.Prepared:
    stacks = "".join(
        specs.stack(number, f"oci-archive:{apps.caddy(folder / f'{listener}.tar', listener)}", more=more)
        for number, (listener, more) in enumerate(_STACKS.values())
    )
    path = folder / "paths.yaml"
    path.write_text(specs.head(f"oci-archive:{hosts.IMAGES / 'caddy.tar'}") + stacks)
    return hosts.prepare(path)


def _hop(machine: Machine) -> None:
    """The socket and the program that stand between."""
    proxyd = f"/usr/lib/systemd/systemd-socket-proxyd --connections-max=20480 127.0.0.1:{rivals.APP}"
    socket = f"--socket-property=ListenStream={rivals.HOP_SOCKET} --unit=hop"
    machine.run(shlex.split(f"systemd-run --quiet {socket} {proxyd}"))


def _asking(machine: Machine, where: str, options: Options) -> Callable[[], Burst]:
    seconds = 1 if options.quick else _SECONDS
    return partial(burst, machine.attacker(0), machine.ipv4, f"https://{where}/", seconds=seconds)


def _rounds(rounds: int, asked: dict[str, Callable[[], Burst]]) -> dict[str, Sample]:
    for measure in asked.values():
        measure()
    found: dict[str, list[float]] = {name: [] for name in asked}
    for _ in range(rounds):
        for name, measure in asked.items():
            found[name].append(measure().rate)
    return {name: Sample(tuple(values)) for name, values in found.items()}


def _result(rates: dict[str, Sample]) -> Result:
    rows = tuple(Row(what, rate, "/s", None if what == NATIVE else NATIVE) for what, rate in rates.items())
    goals = tuple(
        Goal(f"Rate with {what}, against all native", "at least", 1.0, rates[what].over(rates[NATIVE]).median)
        for what in (OWN, PASSED)
    )
    return Result("paths", "Ways to an app", _COMPARED, rows, goals)
