"""What a server, or a fleet, consists of on AWS: one module for each kind of resource, and the table of them.

The commands loop over the table: `er launch` creates its rows in order, `er destroy` removes what costs money first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.aws.resources.address import Address
from builder.aws.resources.auto_scaling_group import AutoScalingGroup
from builder.aws.resources.data_volume import DataVolume, Snapshot
from builder.aws.resources.file_system import FileSystem, MountTarget
from builder.aws.resources.instance import Instance
from builder.aws.resources.key_pair import KeyPair
from builder.aws.resources.launch_template import LaunchTemplate, LaunchTemplateVersion
from builder.aws.resources.load_balancer import Listener, LoadBalancer, TargetGroup
from builder.aws.resources.parameter import Parameter
from builder.aws.resources.role import InstanceProfile, Role
from builder.aws.resources.security_group import BalancerGroup, SecurityGroup

if TYPE_CHECKING:
    from builder.aws.resources.lifecycle import Resource

# What outlives a server: `er destroy` leaves it unless it is told otherwise.
LASTING: Final[tuple[type[Resource], ...]] = (DataVolume, Snapshot)
# In the order of creation: what costs nothing first, a volume and an address once they have a server. What a request
# has no use for it counts as none of.
RESOURCES: Final[tuple[type[Resource], ...]] = (
    BalancerGroup,
    SecurityGroup,
    KeyPair,
    FileSystem,
    MountTarget,
    Role,
    InstanceProfile,
    LaunchTemplate,
    LaunchTemplateVersion,
    LoadBalancer,
    TargetGroup,
    Listener,
    AutoScalingGroup,
    Instance,
    DataVolume,
    Address,
)
# What only a fleet has: it is looked for where there is a balancer's security group of the name, which goes after it.
OF_FLEET: Final[tuple[type[Resource], ...]] = (
    AutoScalingGroup,
    LoadBalancer,
    TargetGroup,
    LaunchTemplate,
    MountTarget,
    FileSystem,
    Parameter,
)
# What costs money before all, the servers first: they use the others. A group would make new ones. A role is in its
# profile.
DELETION_ORDER: Final[tuple[type[Resource], ...]] = (
    AutoScalingGroup,
    Instance,
    Address,
    DataVolume,
    Snapshot,
    *OF_FLEET[1:],
    SecurityGroup,
    KeyPair,
    InstanceProfile,
    Role,
)
