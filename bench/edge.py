"""What a host behind an edge pays for its bans, which Caddy looks for with each request."""

from __future__ import annotations

import ipaddress
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from bench import hosts, https, rivals
from bench.load import Burst, burst
from bench.result import Goal, Result, Row, Sample
from builder import facts
from builder.lab import trial
from builder.spec.model import Edge, Spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.options import Options
    from builder.lab.machine import Machine

PLAIN: Final = "no edge"
NOBODY: Final = "behind an edge, nobody banned"
MANY: Final = "behind an edge, 10,000 addresses banned"
_BANNED: Final = 10_000
_SECONDS: Final = 4
_COMPARED: Final = f"""\
The same requests to a host that stands behind an edge and takes visitors' addresses from a header: with nobody banned,
and with {_BANNED:,} addresses, half of them networks of IPv6. Caddy looks for the client of each request in a directory
of bans. Beside it the same host without an edge, which leaves bans to the firewall."""
# What /usr/lib/easyrunner/refuse does for each, at once.
_BAN: Final = """
import os, sys
os.chdir(sys.argv[1])
for name in sys.stdin.read().split():
    os.mkdir(name)
    open(f"{name}/er-web-scan", "w").close()
"""
_UNBAN: Final = "find . -mindepth 1 -delete"


def run(options: Options) -> Result:
    """Both hosts are on; bans come and go between the bursts."""
    with ExitStack() as stack:
        plain = _booted(stack, hosts.prepare(hosts.HELLO))
        behind = _booted(stack, hosts.prepare(hosts.HELLO, _behind))
        asking = {machine: _asking(machine, options) for machine in (plain, behind)}
        for measure in asking.values():
            measure()
        found: dict[str, list[Burst]] = {name: [] for name in (NOBODY, MANY, PLAIN)}
        for number in range(options.rounds(10)):
            found[PLAIN].append(asking[plain]())
            # Each of the two is first in turn.
            for many in (number % 2 == 0, number % 2 == 1):
                _ban(behind) if many else behind.run(f"cd {facts.REFUSED} && {_UNBAN}")
                found[MANY if many else NOBODY].append(asking[behind]())
    return _result({name: Sample(tuple(one.rate for one in bursts)) for name, bursts in found.items()})


def _behind(spec: Spec) -> Spec:
    edge = Edge(None, ("198.18.5.0/24", "2001:db8:ed9e::/48"), "X-Forwarded-For")
    return replace(spec, proxy=replace(spec.proxy, edge=edge))


def _booted(stack: ExitStack, prepared: hosts.Prepared) -> Machine:
    machine = stack.enter_context(prepared.machine())
    machine.boot_and_wait()
    https.first_200(machine.ipv4, rivals.DOMAIN, lambda: machine.files.path(trial.CA), timeout=60)
    return machine


def _asking(machine: Machine, options: Options) -> Callable[[], Burst]:
    url = f"https://{rivals.DOMAIN}/"
    return partial(burst, machine.attacker(0), machine.ipv4, url, seconds=1 if options.quick else _SECONDS)


def _ban(machine: Machine) -> None:
    first = int(ipaddress.ip_address("203.0.0.0"))
    names = [str(ipaddress.ip_address(first + number)) for number in range(_BANNED // 2)]
    names += [f"2001:db8:bad:{number:x}" for number in range(_BANNED // 2)]
    machine.run(["python3", "-c", _BAN, facts.REFUSED], stdin="\n".join(names).encode())


def _result(rates: dict[str, Sample]) -> Result:
    rows = tuple(
        Row(f"requests/s: {name}", sample, "/s", None if name == NOBODY else f"requests/s: {NOBODY}")
        for name, sample in rates.items()
    )
    kept = Goal("Rate with 10,000 bans, against none", "at least", 0.98, rates[MANY].over(rates[NOBODY]).median)
    return Result("edge", "Bans behind an edge", _COMPARED, rows, (kept,))
