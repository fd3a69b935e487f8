"""What a host's apps could reach out there: servers on many ports, and where clouds keep their metadata."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from tests.machine.probes import Place, inside, outside, serving, undone

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.lab.machine import Machine

WEB = (53, 80, 443)
OTHER = (22, 25, 3306, 7777, 8080, 9999)
METADATA = {
    4: ("169.254.169.254", "169.254.170.2", "168.63.129.16"),
    6: ("fd00:ec2::254", "fd20:ce::254"),
}
LOOPBACK = {4: "127.0.0.1", 6: "::1"}


@contextlib.contextmanager
def surroundings(machine: Machine) -> Iterator[None]:
    """Attacker 1 answers on all these ports, TCP and UDP, also at the metadata addresses, routed to it by the host."""
    there = machine.attacker(1)
    addresses = (there.ipv4, there.ipv6, *METADATA[4], *METADATA[6])
    with contextlib.ExitStack() as stack:
        for family, foreign in METADATA.items():
            ip, bits = ["ip", f"-{family}"], {4: 32, 6: 128}[family]
            for address in foreign:
                ends = [[*ip, "addr", word, f"{address}/{bits}", "dev", "lan"] for word in ("add", "del")]
                stack.enter_context(undone(ends[:1], ends[1:], outside(there)))
                ways = [[*ip, "route", word, address, "dev", "lan"] for word in ("add", "del")]
                stack.enter_context(undone(ways[:1], ways[1:], inside(machine)))
        servers = [f"{kind}:{end}:{port}" for kind in ("tcp", "udp") for end in addresses for port in WEB + OTHER]
        stack.enter_context(serving(outside(there), *servers))
        yield


def link_local(place: Place) -> str:
    """The link-local address of a place on the machine's network."""
    words = place.run("ip", "-6", "-o", "addr", "show", "dev", "lan", "scope", "link").split()
    return words[3].partition("/")[0]
