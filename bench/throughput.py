"""Requests per second and their latency through the whole path, against what people run today."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from bench import hosts, https, rivals
from bench.load import Burst, burst
from bench.result import Goal, Result, Row, Sample
from builder.lab import trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.options import Options
    from builder.lab.machine import Machine

PATH: Final = "the host's path"
SAME_APP: Final = "Caddy on the host, app in a container on the host's network"
PUBLISHED_APP: Final = "Caddy on the host, app in a container with a published port"
NATIVE: Final = "Caddy and app on the host"
PUBLISHED: Final = "Caddy and app in rootless containers with published ports"
_SECONDS: Final = 4
_COMPARED: Final = """\
Requests by `wrk` (32 TLS connections that stay open) from another network namespace through the whole path: redirect,
Caddy in its container on passed sockets, unix socket, systemd-socket-proxyd, app container. Against it stand Caddy and
the same app run in other ways on a plain host: the same base tree, the same Caddy binary, the same site configuration
with access log, certificates of Caddy's own authority. All are on at once; each asks and answers in its turn. The
clients' CPU time is in the numbers, as they share the cores."""


def run(options: Options) -> Result:
    """All contenders are on at the same time and idle but for the one whose turn it is."""
    prepared = hosts.prepare(hosts.HELLO)
    with ExitStack() as stack:
        host = stack.enter_context(prepared.machine())
        host.boot_and_wait()
        https.first_200(host.ipv4, rivals.DOMAIN, lambda: host.files.path(trial.CA), timeout=60)
        rival = stack.enter_context(rivals.rival(prepared))
        contenders = {
            NATIVE: _asking(rival, rivals.NATIVE, options),
            PATH: _asking(host, 443, options),
            SAME_APP: _asking(rival, rivals.NATIVE_HOSTNET, options),
            PUBLISHED_APP: _asking(rival, rivals.NATIVE_PUBLISHED, options),
            PUBLISHED: _asking(rival, rivals.PUBLISHED, options),
        }
        bursts = _rounds(options.rounds(7), contenders)
    return _result(bursts)


def _asking(machine: Machine, port: int, options: Options) -> Callable[[], Burst]:
    url = f"https://{rivals.DOMAIN}:{port}/" if port != 443 else f"https://{rivals.DOMAIN}/"
    return partial(burst, machine.attacker(0), machine.ipv4, url, seconds=1 if options.quick else _SECONDS)


def _rounds(rounds: int, contenders: dict[str, Callable[[], Burst]]) -> dict[str, list[Burst]]:
    for measure in contenders.values():
        measure()
    found: dict[str, list[Burst]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            found[name].append(measure())
    return found


def _result(bursts: dict[str, list[Burst]]) -> Result:
    rates = {name: Sample(tuple(one.rate for one in found)) for name, found in bursts.items()}
    tails = {name: Sample(tuple(one.p99 for one in found)) for name, found in bursts.items()}
    rows = (*_rows("requests/s", "/s", rates), *_rows("p99 latency", "ms", tails))
    return Result("throughput", "Requests", _COMPARED, rows, (*_goals(rates),), (_note(rates),))


def _note(rates: dict[str, Sample]) -> str:
    ratio = rates[PATH].over(rates[SAME_APP]).median
    return (
        "With the app's container on the host's network there is no hop to the app, and no isolation of its network "
        f"either: the path reaches {ratio:.2f}x of that rate."
    )


def _rows(what: str, unit: str, samples: dict[str, Sample]) -> Iterator[Row]:
    base = f"{what}: {NATIVE}"
    for name, sample in samples.items():
        yield Row(f"{what}: {name}", sample, unit, None if name == NATIVE else base)


def _goals(rates: dict[str, Sample]) -> Iterator[Goal]:
    for text, limit, rival in (
        ("Rate, against Caddy on the host and the same app container, port published", 0.9, PUBLISHED_APP),
        ("Rate, against Caddy and the app in containers with published ports", 1.2, PUBLISHED),
    ):
        yield Goal(text, "at least", limit, rates[PATH].over(rates[rival]).median)
