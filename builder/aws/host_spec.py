"""What the hosts of a fleet are made from: the spec, completed by what only a launch knows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from builder import host as hosts
from builder import spec as specs
from builder import userdata

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.spec import Spec

SOME_FILE_SYSTEM: Final = "fs-0123456789abcdef0"
"""As long as a real one: by it the length of user-data is known before anything is made."""


def complete(spec: Spec, *, networks: Sequence[str], file_system: str, region: str) -> Spec:
    """The spec of a host: the balancer's networks are its edge, its certificates lie in the fleet's file system.

    `networks` are those of the subnets that the balancer has addresses in. Storage that the spec names itself stays.
    """
    found = specs.with_edge_networks(replace(spec, aws=replace(spec.aws, region=region)), networks)
    return found if found.tls.storage else specs.with_storage(found, f"{file_system}.efs.{region}.amazonaws.com")


def user_data(spec: Spec, *, networks: Sequence[str], file_system: str, region: str) -> bytes:
    """Of every host, before base64; the same bytes on any day. Raises UserError when it is over EC2's limit."""
    found = complete(spec, networks=networks, file_system=file_system, region=region)
    return userdata.deliver(found, hosts.build(found), "aws", "baked").content


_SOME_NETWORKS: Final = ("172.31.0.0/20", "172.31.16.0/20")
_SOME_REGION: Final = "ap-southeast-1"


def outline(spec: Spec) -> bytes:
    """User-data about as it will be, where AWS cannot be asked."""
    region = spec.aws.region or _SOME_REGION
    return user_data(spec, networks=_SOME_NETWORKS, file_system=SOME_FILE_SYSTEM, region=region)
