"""How a fleet is: its hosts, whether they are ready, and what differs from the template they should be made by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder.aws import fleet_refresh, tags
from builder.aws.resources import instance
from builder.aws.resources.auto_scaling_group import IN_SERVICE, AutoScalingGroup, version_of
from builder.aws.resources.launch_template import differences, versions
from builder.aws.resources.load_balancer import LoadBalancer, TargetGroup, unhealthy
from builder.aws.resources.security_group import BalancerGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.resources.instance import Server
    from builder.aws.resources.lifecycle import Described


@dataclass(frozen=True, slots=True)
class FleetHost:
    """A host: where its group has it in its life, what the balancer finds, and what differs from the template."""

    server: Server
    lifecycle: str
    health: str
    version: str
    drift: tuple[str, ...]

    @property
    def json(self) -> dict[str, Any]:
        """As --json shows it."""
        shown = ("lifecycle", "health", "version")
        return {**self.server.json, **{name: getattr(self, name) for name in shown}, "drift": list(self.drift)}

    def __str__(self) -> str:
        """One row below its fleet."""
        drift = f"  older: {', '.join(self.drift)}" if self.drift else ""
        one = self.server
        return f"  {self.lifecycle:<16} {self.health:<12} {one.zone}  {one.id}  {one.address or '-'}{drift}"


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet as it is; `balancer` is the name that visitors' records lead to.

    `version` of the template is what hosts are to be made by; `refresh` says in words what is under way.
    """

    name: str
    least: int
    most: int
    desired: int
    balancer: str
    version: str
    refresh: str
    hosts: tuple[FleetHost, ...]

    @property
    def json(self) -> dict[str, Any]:
        """As --json shows it."""
        numbers = {"min": self.least, "max": self.most, "desired": self.desired}
        fleet = {**numbers, "balancer": self.balancer or None, "version": self.version or None}
        fleet |= {"refresh": self.refresh or None}
        return {"name": self.name, "fleet": fleet, "hosts": [host.json for host in self.hosts]}

    @property
    def lines(self) -> Iterator[str]:
        """A row for the fleet, and one for each host."""
        serving = sum(host.lifecycle == IN_SERVICE for host in self.hosts)
        sizes = f"{self.least} to {self.most} hosts, {self.desired} wanted, {serving} in service"
        refresh = f"  {self.refresh}" if self.refresh else ""
        yield f"{self.name:<16} fleet        {sizes}  {self.balancer or 'no balancer yet'}{refresh}"
        yield from map(str, self.hosts)


def fleets(api: Api) -> tuple[Fleet, ...]:
    """All of the region. Their balancers' security groups tell their names."""
    groups = api.items(BalancerGroup.listing, Filters=tags.filters(part=BalancerGroup.part))
    names = {tags.read(group).get(tags.SERVER, "") for group in groups}
    return tuple(fleet(api, name) for name in sorted(filter(None, names)))


def fleet(api: Api, name: str) -> Fleet:
    """One as it is, also one that is half made."""
    group: Described = next(iter(AutoScalingGroup.find(api, name)), {})
    balancer: Described = next(iter(LoadBalancer.find(api, name)), {})
    refresh = fleet_refresh.in_progress(api, name) if group else None
    forward = refresh is not None and not refresh["Status"].startswith("Rollback")
    version = fleet_refresh.version_of_refresh(refresh) if refresh and forward else version_of(group)
    return Fleet(
        name,
        group.get("MinSize", 0),
        group.get("MaxSize", 0),
        group.get("DesiredCapacity", 0),
        balancer.get("DNSName", ""),
        version,
        fleet_refresh.status(refresh) if refresh else "",
        _hosts(api, name, group, version),
    )


def _hosts(api: Api, name: str, group: Mapping[str, Any], version: str) -> tuple[FleetHost, ...]:
    members = {one["InstanceId"]: one for one in group.get("Instances", ())}
    if not members:
        return ()
    by_number = {str(one["VersionNumber"]): one for one in versions(api, name)}
    targets = TargetGroup.usable(TargetGroup.find(api, name))
    sick = unhealthy(api, targets, [*members])
    servers = sorted(instance.describe(api, members), key=lambda one: (one.zone, one.id))
    return tuple(_host(one, members[one.id], sick.get(one.id, "healthy"), by_number, version) for one in servers)


def _host(
    server: Server, member: Mapping[str, Any], health: str, by_number: Mapping[str, Described], wanted: str
) -> FleetHost:
    made_by = version_of(member)
    if made_by == wanted:
        drift: Sequence[str] = ()
    elif made_by in by_number and wanted in by_number:
        drift = differences(by_number[made_by], by_number[wanted])
    else:
        drift = (f"version {made_by or 'unknown'}",)
    return FleetHost(server, member["LifecycleState"], health, made_by, tuple(drift))
