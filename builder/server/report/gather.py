"""What a report is made of: what the host says over ssh, and what answers from here."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from builder import facts
from builder.server.report import outside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.server.ssh import Server
    from builder.spec import Spec

Found = dict[str, Any]
# Seconds: every container of every stack is asked for.
_ASKED_WITHIN = 300


def gather(
    server: Server,
    named: Sequence[str],
    spec: Spec | None,
    compare: Callable[[], list[str]] | None = None,
    *,
    rehearsal: bool = False,
    step: Callable[[str], object] = str,
) -> Found:
    """Everything, as values that could be JSON. `named` are addresses or names by which the host is reached.

    `compare` gives the files that are not as the spec has them; `step` is told what is done next. Raises as
    `Server.ask` does.
    """
    step("inside")
    status = server.ask("status", timeout=_ASKED_WITHIN)
    doctor = server.ask("doctor", timeout=_ASKED_WITHIN)
    more = server.ask("report-facts", timeout=_ASKED_WITHIN)
    differs = compare() if compare else None
    step("outside")
    domains = _domains(spec) if spec else sorted({name for names in more["domains"].values() for name in names})
    found = outside.look(
        addresses(named, more["addresses"]),
        [one for one in domains if "*" not in one],
        [port["port"] for port in status["ports"] if port["protocol"] == "tcp"],
        more["authority"],
        more["sleeping"],
    )
    return {
        "status": status,
        "doctor": doctor,
        "more": more,
        "differs": differs,
        "outside": found,
        "rehearsal": rehearsal,
    }


def _domains(spec: Spec) -> list[str]:
    """Every name of a spec."""
    return [domain for stack in spec.stacks for domain in stack.domains]


def addresses(named: Sequence[str], own: Sequence[str]) -> list[str]:
    """Where visitors come in: what the host is named by, and those of its own addresses that are public.

    A private address of the host's may be that of another machine here, which nobody has asked to be examined.
    """
    first: list[str] = []
    for name in named:
        with contextlib.suppress(OSError):
            first += [str(one[4][0]) for one in socket.getaddrinfo(name, facts.HTTPS, type=socket.SOCK_STREAM)]
    return list(dict.fromkeys([*first, *(one for one in own if ipaddress.ip_address(one).is_global)]))
