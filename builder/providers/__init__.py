"""Providers: what each takes as user-data, and how it is handed over. One row each, every fact with its source."""

from builder.problems import UserError
from builder.providers import rows
from builder.providers.model import Counted, Encoding, Fact, Provider

_ROWS = {row.name: row for row in (*rows.CLOUDS, *rows.HOSTERS, *rows.OWN)}
# The names, in the order in which they are listed everywhere.
NAMES = (
    "aws",
    "lightsail",
    "digitalocean",
    "hetzner",
    "vultr",
    "linode",
    "scaleway",
    "openstack",
    "upcloud",
    "gcp",
    "azure",
    "oracle",
    "exoscale",
    "proxmox",
    "nocloud",
)
PROVIDERS = {name: _ROWS[name] for name in NAMES}


def get(name: str) -> Provider:
    """The row of a provider. Raises UserError for a name that is none."""
    if name not in PROVIDERS:
        raise UserError(f"no provider is called {name}", f"one of {', '.join(NAMES)}")
    return PROVIDERS[name]


__all__ = ["NAMES", "PROVIDERS", "Counted", "Encoding", "Fact", "Provider", "get"]
