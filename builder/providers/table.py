"""The providers, one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.problems import UserError
from builder.providers.model import Counted, Provider

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROWS: Final = (
    Provider("aws", "AWS EC2", 16_384, Counted.RAW, True),
    Provider("lightsail", "AWS Lightsail", 16_384, Counted.RAW, False),
    Provider("digitalocean", "DigitalOcean", 65_536, Counted.RAW, False),
    Provider("hetzner", "Hetzner Cloud", 32_768, Counted.RAW, False),
    Provider("vultr", "Vultr", 16_384, Counted.RAW, True),
    Provider("linode", "Linode (Akamai)", 16_384, Counted.RAW, True),
    Provider("scaleway", "Scaleway", 16_384, Counted.RAW, True),
    Provider("openstack", "OVH and other OpenStack", 65_535, Counted.BASE64, True),
    Provider("upcloud", "UpCloud", 16_384, Counted.RAW, False),
    Provider("gcp", "Google Cloud", 262_144, Counted.RAW, False),
    Provider("azure", "Azure", 65_536, Counted.BASE64, True),
    Provider("oracle", "Oracle Cloud", 32_000, Counted.BASE64, True),
    Provider("exoscale", "Exoscale", 32_768, Counted.BASE64, True),
    Provider("proxmox", "Proxmox VE", None, Counted.RAW, False),
    Provider("nocloud", "NoCloud: libvirt, a seed ISO", None, Counted.RAW, True),
)
PROVIDERS: Final[Mapping[str, Provider]] = {row.name: row for row in _ROWS}
NAMES: Final = tuple(PROVIDERS)


def get(name: str) -> Provider:
    """The row of a provider. Raises UserError for a name that is none."""
    if name not in PROVIDERS:
        raise UserError(f"no provider is called {name}", f"one of {', '.join(NAMES)}")
    return PROVIDERS[name]
