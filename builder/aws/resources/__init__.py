"""What a server consists of on AWS: one module for each kind of resource, and the table of them.

The commands loop over the table: `er launch` creates its rows in order, `er destroy` removes what costs money first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.aws.resources.address import Address
from builder.aws.resources.data_volume import DataVolume, Snapshot
from builder.aws.resources.instance import Instance
from builder.aws.resources.key_pair import KeyPair
from builder.aws.resources.role import InstanceProfile, Role
from builder.aws.resources.security_group import SecurityGroup

if TYPE_CHECKING:
    from builder.aws.resources.lifecycle import Resource

# What outlives a server: `er destroy` leaves it unless it is told otherwise.
LASTING: Final[tuple[type[Resource], ...]] = (DataVolume, Snapshot)
# In the order of creation: what costs nothing first, a volume and an address once they have a server.
RESOURCES: Final[tuple[type[Resource], ...]] = (
    SecurityGroup,
    KeyPair,
    Role,
    InstanceProfile,
    Instance,
    DataVolume,
    Address,
)
# What costs money before all, the servers first: they use the others. A role is in its profile.
DELETION_ORDER: Final[tuple[type[Resource], ...]] = (
    Instance,
    Address,
    DataVolume,
    Snapshot,
    SecurityGroup,
    KeyPair,
    InstanceProfile,
    Role,
)
