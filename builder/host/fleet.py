"""What a host of a fleet has, and any other behind a balancer: a path that says how it is, and doors that it opens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder import facts

if TYPE_CHECKING:
    from builder.spec import Spec
    from builder.spec.model import Edge

# Those that ask a host for its health, and have more than one of them to choose from; so has who says by the PROXY
# protocol, for each connection, whose it is.
_BALANCERS: Final = ("aws-nlb", "hetzner-lb", "digitalocean-lb")


def values(spec: Spec) -> dict[str, object]:
    """What the templates of these files are rendered with."""
    return {
        "refused": facts.REFUSED,
        "balanced": _is_balanced(spec.proxy.edge),
        "ready_path": facts.READY_PATH,
        "host_ready": facts.HOST_READY,
        "host_open": facts.HOST_OPEN,
        "fleet_file": facts.FLEET,
        "fleet_done": facts.FLEET_DONE,
        "fleet_secrets": _secrets(spec),
        "drain": facts.DRAIN,
        "stack_data": facts.STACK_DATA,
    }


def _is_balanced(edge: Edge | None) -> bool:
    return edge is not None and (edge.name in _BALANCERS if edge.name else edge.proxy_protocol)


def _secrets(spec: Spec) -> list[str]:
    """STACK/SECRET of each secret that a host of a fleet fetches, each once."""
    found = (f"{stack.name}/{name}" for stack in spec.stacks for one in stack.services for name in one.secret_names)
    return list(dict.fromkeys(found))
