"""What of the section about an edge does not go together, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, cast

from builder.messages import Text
from builder.spec import model, rules
from builder.spec.edge_input import EDGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.spec.document import Document
    from builder.spec.edge_input import EdgeSection
    from builder.yamlfile.source import Loc

HOW: Final = Text(
    "nothing says how this edge names the visitor",
    "write `header: X-Forwarded-For`, or another that it sets, or `proxy_protocol: true`",
)
BOTH: Final = Text(
    "an edge names the visitor by a header or by the PROXY protocol, not by both",
    "take one of them out: an edge that ends TLS has a header, one that passes it on has not",
)
NETWORKS: Final = Text(
    "the addresses that {name} has in your network are known to nobody else",
    "write beside it `networks: [10.0.0.0/24]`, the ones that it calls this host from: docs/edge.md",
)
TWICE: Final = Text("the networks of the edge are written twice", "take out one of the two")
NO_EDGE: Final = Text("`{key}` goes with an edge, and there is none", "write `behind: …`, or take it out: docs/edge.md")
OWN_CA: Final = Text(
    "Cloudflare knows no authority of this host's own: its mode Full (strict) refuses what it signs",
    "letsencrypt: its certificates come through Cloudflare as well",
    "warning",
)

_SECTION: Final[Loc] = ("proxy",)
_BEHIND: Final[Loc] = (*_SECTION, "behind")
_NETWORKS: Final[Loc] = (*_SECTION, "networks")
# Balancer and hosts are made by `er launch`, which then says what its networks are.
_FLEET: Final = model.Edge("aws-nlb", ())


def check(document: Document) -> None:
    """What of the section does not go together."""
    behind = document.get(_BEHIND)
    if behind is None and document.get(("fleet",)) is None:
        for key in ("networks", "only"):
            if document.get((*_SECTION, key)):
                document.report(NO_EDGE, (*_SECTION, key), on_key=True, key=key)
    if isinstance(behind, dict):
        _check_own(document, behind)
    elif isinstance(behind, str) and behind in EDGES:
        _check_known(document, behind)


def _check_own(document: Document, behind: Mapping[str, Any]) -> None:
    header, proxy_protocol = behind.get("header"), behind.get("proxy_protocol")
    if header is not None and proxy_protocol is True:
        document.report(BOTH, (*_BEHIND, "proxy_protocol"), on_key=True)
    if header is None and proxy_protocol in (None, False):
        document.report(HOW, _BEHIND, on_key=True)
    if document.get(_NETWORKS) is not None:
        document.report(TWICE, _NETWORKS, on_key=True)


def _check_known(document: Document, name: str) -> None:
    is_fleet = document.get(("fleet",)) is not None
    if not EDGES[cast("model.EdgeName", name)].networks and document.get(_NETWORKS) is None and not is_fleet:
        document.report(NETWORKS, _BEHIND, name=name)
    if name == "cloudflare" and document.text(("tls", "ca")) == "internal":
        document.report(OWN_CA, ("tls", "ca"))


def of_spec(document: Document, section: EdgeSection) -> model.Edge | None:
    """What stands before the host; None where visitors come to it themselves."""
    behind = section.behind
    if behind is None:
        return replace(_FLEET, only=section.only) if document.get(("fleet",)) is not None else None
    name = cast("model.EdgeName | None", document.text(_BEHIND))
    networks = behind.networks if section.networks is None else section.networks
    return model.Edge(name, tuple(dict.fromkeys(networks)), behind.header, section.only)


def with_edge_networks(spec: model.Spec, networks: Iterable[str]) -> model.Spec:
    """The same host behind the same edge, which comes from these networks (CIDR). Raises ValueError without an edge."""
    edge = spec.proxy.edge
    if edge is None:
        raise ValueError("no edge stands before this host")
    found = tuple(dict.fromkeys(map(rules.network, networks)))
    return replace(spec, proxy=replace(spec.proxy, edge=replace(edge, networks=found)))
