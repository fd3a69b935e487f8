"""What each base's Podman knows: the keys of its Quadlet generator, and how its containers reach the network.

From the sources of Podman 4.9.3 and 5.4.2.

Keys that Podman itself calls deprecated are left out on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from builder.quadlet.unit_file import Entry


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_CONTAINER_4_9: Final = _names(
    """
    AddCapability AddDevice Annotation AutoUpdate ContainerName ContainersConfModule DNS DNSOption DNSSearch
    DropCapability Environment EnvironmentFile EnvironmentHost Exec ExposeHostPort GIDMap GlobalArgs Group HealthCmd
    HealthInterval HealthOnFailure HealthRetries HealthStartPeriod HealthStartupCmd HealthStartupInterval
    HealthStartupRetries HealthStartupSuccess HealthStartupTimeout HealthTimeout HostName IP IP6 Image Label LogDriver
    Mask Mount Network NoNewPrivileges Notify PidsLimit PodmanArgs PublishPort Pull ReadOnly ReadOnlyTmpfs Rootfs
    RunInit SeccompProfile Secret SecurityLabelDisable SecurityLabelFileType SecurityLabelLevel SecurityLabelNested
    SecurityLabelType ShmSize SubGIDMap SubUIDMap Sysctl Timezone Tmpfs UIDMap Ulimit Unmask User UserNS Volume
    WorkingDir
    """
)
_CONTAINER_5_4: Final = _CONTAINER_4_9 | _names(
    """
    AddHost CgroupsMode Entrypoint GroupAdd HealthLogDestination HealthMaxLogCount HealthMaxLogSize LogOpt NetworkAlias
    Pod ServiceName StartWithPod StopSignal StopTimeout
    """
)
_VOLUME_4_9: Final = _names(
    """
    ContainersConfModule Copy Device Driver GlobalArgs Group Image Label Options PodmanArgs Type User VolumeName
    """
)
_NETWORK_4_9: Final = _names(
    """
    ContainersConfModule DNS DisableDNS Driver Gateway GlobalArgs IPAMDriver IPRange IPv6 Internal Label NetworkName
    Options PodmanArgs Subnet
    """
)


@dataclass(frozen=True)
class Podman:
    """One version of Podman, as far as units are concerned.

    `once` holds keys of which this version reads only the last line. `notify_healthy`: a unit can count as
    started when its health check passes. `quadlet`: the keys of the [Quadlet] section. `hands_dns_on`: pasta is told to
    answer DNS in a container's place, out of the host's own resolver. `drop_ins`: its generator reads those of units.
    """

    version: str
    container: frozenset[str]
    volume: frozenset[str]
    network: frozenset[str]
    quadlet: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    notify_healthy: bool = False
    joins_containers: bool = False
    hands_dns_on: bool = False
    drop_ins: bool = False

    def keys(self, section: str) -> frozenset[str]:
        """The keys allowed in one of Quadlet's own sections."""
        return {
            "Container": self.container,
            "Volume": self.volume,
            "Network": self.network,
            "Quadlet": self.quadlet,
        }[section]


PODMAN_4_9: Final = Podman(
    version="4.9",
    container=_CONTAINER_4_9,
    volume=_VOLUME_4_9,
    network=_NETWORK_4_9,
    once=frozenset({"Ulimit"}),
)
PODMAN_5_4: Final = Podman(
    version="5.4",
    container=_CONTAINER_5_4,
    volume=_VOLUME_4_9 | {"ServiceName"},
    network=_NETWORK_4_9 | {"ServiceName"},
    quadlet=frozenset({"DefaultDependencies"}),
    notify_healthy=True,
    joins_containers=True,
    hands_dns_on=True,
    drop_ins=True,
)

BASES: Final = {"debian-13": PODMAN_5_4, "ubuntu-24.04": PODMAN_4_9}


def defaults(podman: Podman) -> tuple[Entry, ...]:
    """The [Quadlet] section.

    No wait for network-online.target: nothing may pull it in, and a failed pull is tried again anyway.
    """
    return (("DefaultDependencies", "false"),) if "DefaultDependencies" in podman.quadlet else ()


# Where a container asks for names: the address that Podman 5 chose, which pasta takes for the host's resolver.
_DNS: Final = "169.254.1.1"


def pasta(podman: Podman, *, resolver: bool = True) -> tuple[Entry, ...]:
    """The network of a container that shares one with nobody; without `resolver` it has resolvers of its own.

    Where Podman does not tell pasta to hand DNS on, a container gets the addresses of the host's upstream resolvers:
    on some clouds the metadata service, which the firewall refuses.
    """
    if podman.hands_dns_on or not resolver:
        return (("Network", "pasta"),)
    return ("Network", f"pasta:--dns-forward,{_DNS}"), ("DNS", _DNS)
