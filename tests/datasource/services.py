"""The metadata services by name: from what a provider knows of a server to its routes.

Paths, headers and encodings are those that cloud-init 25.1's datasource asks for; what a provider is known to refuse is
refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.datasource import azure
from tests.datasource.directories import ec2, exoscale
from tests.datasource.documents import digitalocean, hetzner, linode, scaleway, upcloud, vultr
from tests.datasource.headers import gcp, nocloud, nothing, oracle
from tests.datasource.nova import openstack

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.datasource.instance import Server
    from tests.datasource.protocol import Routes

_ALL: Final[tuple[Callable[[Server], Routes], ...]] = (
    azure.routes,
    digitalocean,
    ec2,
    exoscale,
    gcp,
    hetzner,
    linode,
    nocloud,
    nothing,
    openstack,
    oracle,
    scaleway,
    upcloud,
    vultr,
)
SERVICES: Final = {"azure" if service is azure.routes else service.__name__: service for service in _ALL}
