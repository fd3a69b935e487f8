"""The targets of `er build-image`, a row each. The rest of one is in images/packer/{sources,plugins}/<name>.pkr.hcl."""

from __future__ import annotations

from typing import Final

from builder.packer.target import Target
from builder.packer.targets.bases import AMD64, ARM64, DEBIAN, UBUNTU
from builder.packer.targets.large import LARGE
from builder.packer.targets.own import OWN
from builder.packer.targets.small import SMALL

__all__ = ["AMD64", "ARM64", "BY_NAME", "DEBIAN", "TARGETS", "UBUNTU", "Target"]

# As they are listed.
_ORDER: Final = (
    "qemu", "aws", "digitalocean", "hetzner", "linode", "vultr", "scaleway", "openstack", "gcp", "azure", "upcloud",
    "exoscale", "proxmox",
)  # fmt: skip

TARGETS: Final = tuple(sorted((*OWN, *LARGE, *SMALL), key=lambda row: _ORDER.index(row.name)))
BY_NAME: Final = {target.name: target for target in TARGETS}
