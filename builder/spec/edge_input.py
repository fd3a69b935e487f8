"""What stands before a host as the user writes it (`proxy.behind`), and the edges that er knows."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema

from builder.messages import Text
from builder.spec import messages, model, rules
from builder.spec.rules import RuleError
from builder.spec.value_types import Section
from builder.stack import public

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADER: Final = Text("`{value}` is no header that holds addresses", "as in X-Forwarded-For, or X-Real-IP")
LOOPBACK: Final = Text(
    "{network} has this host's own addresses in it: an app could say who it is",
    "name the addresses that the edge calls from",
)
MAPPED: Final = Text("{network} is IPv4 in the form of IPv6", "write it as IPv4, as in 203.0.113.0/24")
WIDE: Final = Text(
    "whoever is in {network} would be believed, and these are too many", "name the addresses that the edge calls from"
)


@dataclass(frozen=True, slots=True)
class KnownEdge:
    """How an edge names the visitor, and, where its networks are published, which they were and on what day.

    `header` is None with the PROXY protocol; `sources` are what publishes the networks, a line each, as plain text.
    """

    header: str | None = None
    networks: tuple[str, ...] = ()
    as_of: str = ""
    sources: tuple[str, ...] = ()


# A load balancer's networks are those of its user's own network: they are written in the spec.
EDGES: Final[Mapping[model.EdgeName, KnownEdge]] = {
    # https://developers.cloudflare.com/fundamentals/concepts/cloudflare-ip-addresses/
    # https://developers.cloudflare.com/fundamentals/reference/http-headers/#cf-connecting-ip
    "cloudflare": KnownEdge(
        header="CF-Connecting-IP",
        networks=(
            "103.21.244.0/22",
            "103.22.200.0/22",
            "103.31.4.0/22",
            "104.16.0.0/13",
            "104.24.0.0/14",
            "108.162.192.0/18",
            "131.0.72.0/22",
            "141.101.64.0/18",
            "162.158.0.0/15",
            "172.64.0.0/13",
            "173.245.48.0/20",
            "188.114.96.0/20",
            "190.93.240.0/20",
            "197.234.240.0/22",
            "198.41.128.0/17",
            "2400:cb00::/32",
            "2405:8100::/32",
            "2405:b500::/32",
            "2606:4700::/32",
            "2803:f800::/32",
            "2a06:98c0::/29",
            "2c0f:f248::/32",
        ),
        as_of="2026-10-05",
        sources=("https://www.cloudflare.com/ips-v4", "https://www.cloudflare.com/ips-v6"),
    ),
    # https://docs.aws.amazon.com/elasticloadbalancing/latest/network/edit-target-group-attributes.html#proxy-protocol
    "aws-nlb": KnownEdge(),
    # https://docs.hetzner.com/cloud/load-balancers/overview/
    "hetzner-lb": KnownEdge(),
    # https://docs.digitalocean.com/products/networking/load-balancers/
    "digitalocean-lb": KnownEdge(),
}


# IPv4 as IPv6 writes it, which no socket of ours shows.
_MAPPED: Final = ipaddress.IPv6Network("::ffff:0:0/96")
# Calls of this host's own apps come from there: builder/host/firewall.py.
_LOOPBACK: Final = {4: ipaddress.ip_network("127.0.0.0/8"), 6: ipaddress.ip_network("::1/128")}
# By family, what is too wide: nobody's edge has that many addresses.
_WIDEST: Final = {4: 8, 6: 16}
# RFC 7239 writes `for=…`, which Caddy does not read.
_NO_ADDRESSES: Final = ("forwarded", "host", "cookie", "authorization")


def _network(value: str) -> str:
    found = rules.network(value)
    network = ipaddress.ip_network(found)
    if network.overlaps(_LOOPBACK[network.version]):
        raise RuleError(LOOPBACK, network=found)
    if isinstance(network, ipaddress.IPv6Network) and network.overlaps(_MAPPED):
        raise RuleError(MAPPED, network=found)
    if network.prefixlen < _WIDEST[network.version]:
        raise RuleError(WIDE, network=found)
    return found


EdgeNetwork = Annotated[str, AfterValidator(_network)]


def _header(value: str) -> str:
    if public.header_fault(value) or value.lower() in _NO_ADDRESSES:
        raise RuleError(HEADER, value=value)
    return value


class EdgeInput(Section):
    """An edge of one's own: where it calls from, and how it names the visitor."""

    networks: Annotated[list[EdgeNetwork], Field(min_length=1)] = Field(
        description="The networks that it calls this host from.", examples=[["10.0.0.0/24"]]
    )
    header: (
        Annotated[str, AfterValidator(_header), WithJsonSchema({"type": "string", "pattern": f"^(?:{public.HEADER})$"})]
        | None
    ) = Field(
        default=None,
        description="The header in which it writes the visitor's address, where it ends TLS.",
        examples=["X-Forwarded-For"],
    )
    proxy_protocol: bool = Field(
        default=False,
        description="It passes TLS on, and says who the visitor is by the PROXY protocol, version 1 or 2.",
        examples=[True],
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """This, or the name of one that is known."""
        return {"anyOf": [handler(core), {"enum": list(EDGES)}]}


def _named(value: Any) -> Any:
    """Before the keys are looked at: what the name of an edge stands for."""
    if not isinstance(value, str):
        return value
    known = {str(name): edge for name, edge in EDGES.items()}
    if value not in known:
        near = rules.near(value, known)
        text = messages.UNKNOWN_VALUE_NEAR if near else messages.UNKNOWN_VALUE
        raise RuleError(text, value=value, near=near, known=", ".join(known))
    edge = known[value]
    return EdgeInput.model_construct(
        networks=list(edge.networks), header=edge.header, proxy_protocol=edge.header is None
    )


Behind = Annotated[EdgeInput, BeforeValidator(_named)]


class EdgeSection(Section):
    """What of the proxy's section is about the edge before it."""

    behind: Behind | None = Field(
        default=None,
        description="What stands before the host and says who the visitor is.",
        examples=["cloudflare", {"networks": ["10.0.0.0/24"], "header": "X-Forwarded-For"}],
    )
    networks: Annotated[list[EdgeNetwork], Field(min_length=1)] | None = Field(
        default=None,
        description="Beside the name of an edge, the networks that it calls this host from; in place of known ones.",
        examples=[["10.0.0.0/24"]],
    )
    only: bool = Field(default=False, description="Ports 80 and 443 answer to the edge alone.", examples=[True])
