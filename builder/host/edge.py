"""What a host has that stands behind an edge: whom the firewall lets in, and what its own tools are to know.

What Caddy and Fail2Ban have for it are templates of cloudinit/rootfs: servers, log-edge and headers-edge in
etc/easyrunner/caddy, and usr/lib/easyrunner/refuse.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from builder import facts
from builder.host import firewall
from builder.host.firewall import OWN_SOURCE, WEB, Fragment, Rule, family_of
from builder.host.model import File, Part
from builder.spec import EDGES, KnownEdge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.spec.model import Edge


def files(edge: Edge | None) -> Iterator[File]:
    """The files beside those of templates; none without an edge."""
    if edge is None:
        return
    for fragment in (Fragment("filter", tuple(_visitors(edge))), Fragment("nat", tuple(_own_calls()))):
        yield File(f"{firewall.HOST}/23-edge.{fragment.table}", fragment.render(), Part.FIRST_BOOT)
    yield File(facts.EDGE, _json(edge), Part.FIRST_BOOT)


def _visitors(edge: Edge) -> Iterator[Rule]:
    """Each is inserted before those above it, and all before the limits of the baked part and who is in `ignore`.

    The address of an HTTP/3 client that begins with early data is not proved yet, and could be an edge's.
    """
    yield Rule(WEB, "" if edge.only else "-p udp", "DROP", why="no edge passes HTTP/3 on", first=True)
    for network in edge.networks:
        yield Rule(WEB, f"-p tcp -s {network}", "ACCEPT", family_of(network), "many visitors", first=True)


def _own_calls() -> Iterator[Rule]:
    """A call of this host's own stacks comes from the loopback: its addresses may lie in an edge's network."""
    for family, loopback in ((4, "127.0.0.1"), (6, "::1")):
        yield Rule(OWN_SOURCE, "", f"SNAT --to-source {loopback}", (family,))


def _json(edge: Edge) -> bytes:
    """For `er server`: whom never to ban, and with what to compare. `as_of` is empty for networks of the spec's own."""
    known = EDGES[edge.name] if edge.name else KnownEdge()
    value = {
        "name": edge.name,
        "networks": edge.networks,
        "only": edge.only,
        "as_of": known.as_of if edge.networks == known.networks else "",
        "sources": known.sources,
    }
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"
