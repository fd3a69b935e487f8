"""`er destroy`: all that er has created for a server, found by its tags, and its removal.

The order of removal can be cut anywhere; the next run takes up the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from builder.aws import dns, known_hosts, tags
from builder.aws.api import retry
from builder.aws.resources import DELETION_ORDER, LASTING, OF_FLEET, data_volume, instance, security_group
from builder.aws.resources.address import Address
from builder.aws.resources.auto_scaling_group import AutoScalingGroup
from builder.aws.resources.data_volume import DataVolume, Snapshot
from builder.aws.resources.instance import Instance, Predecessor
from builder.aws.resources.load_balancer import LoadBalancer
from builder.aws.resources.security_group import SecurityGroup
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from builder.aws.api import Api, Progress
    from builder.aws.dns import RecordSet
    from builder.aws.request import Settings
    from builder.aws.resources.instance import Server
    from builder.aws.resources.lifecycle import Described, Resource


@dataclass(frozen=True, slots=True)
class Holdings:
    """What belongs to one server: described resources by kind, in the order of removal, and its DNS records by zone.

    What outlives it and `stays` is no reason to ask anybody.
    """

    found: Mapping[type[Resource], list[Described]]
    stays: Mapping[type[Resource], list[Described]] = field(default_factory=dict)
    records: Mapping[str, tuple[RecordSet, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(self.found.values())

    @property
    def servers(self) -> tuple[Server, ...]:
        """Its instances."""
        return tuple(map(instance.read, self.found[Instance]))

    @property
    def own(self) -> frozenset[str]:
        """All that its DNS records may lead to: addresses, or the name of a balancer."""
        return self.ips | {str(one["DNSName"]).lower() for one in self.found.get(LoadBalancer, ())}

    @property
    def ips(self) -> frozenset[str]:
        """Every address that DNS may know the server by."""
        own = {ip for one in self.servers for ip in one.addresses}
        return frozenset(filter(None, own | {one.get("PublicIp") for one in self.found[Address]}))

    @property
    def zone_ids(self) -> tuple[str, ...]:
        """The Route 53 zones that hold its records."""
        balancers = (tags.read(one).get(tags.ZONES, "").split() for one in self.found.get(LoadBalancer, ()))
        own = {zone for one in self.servers for zone in one.zone_ids}
        return tuple(sorted(own.union(*balancers)))

    @property
    def disks(self) -> tuple[str, ...]:
        """Disks that somebody attached and that do not end with the server: they stay."""
        return tuple(
            disk["Ebs"]["VolumeId"]
            for one in self.found[Instance]
            for disk in one.get("BlockDeviceMappings", ())
            if not disk["Ebs"].get("DeleteOnTermination") and disk["Ebs"]["VolumeId"] not in self._own_volumes
        )

    @property
    def _own_volumes(self) -> frozenset[str]:
        """Of both kinds that er makes: those that go and those that stay."""
        both = (*self.found.get(DataVolume, ()), *self.stays.get(DataVolume, ()))
        return frozenset(one["VolumeId"] for one in both)


def holdings(api: Api, name: str, *, with_data: bool = False) -> Holdings:
    """All that carries the name, whatever run has created it. What outlives a server goes only when that is asked.

    What only a fleet has is looked for where there is one: a server's policy need not allow that.
    """
    found: dict[type[Resource], list[Described]] = {}
    for kind in (kind for kind in DELETION_ORDER if kind not in OF_FLEET):
        of_fleet = any(map(security_group.is_of_fleet, found.get(SecurityGroup, ())))
        found[kind] = kind.find_surely(api, name) if of_fleet else kind.find_all(api, name)
    if any(map(security_group.is_of_fleet, found[SecurityGroup])):
        found |= {kind: kind.find_all(api, name) for kind in OF_FLEET}
    described: dict[type[Resource], list[Described]] = {kind: found[kind] for kind in DELETION_ORDER if kind in found}
    kept = () if with_data else LASTING
    whole = Holdings(
        {kind: [] if kind in kept else listed for kind, listed in described.items()},
        {kind: described[kind] for kind in kept},
    )
    return replace(whole, records={zone: dns.leading_to(api, zone, whole.own) for zone in whole.zone_ids})


def replaced(api: Api, name: str) -> Holdings:
    """What `er launch --replace` has left of former servers: they are stopped, and the data is with the new one."""
    empty: dict[type[Resource], list[Described]] = {kind: [] for kind in DELETION_ORDER if kind not in OF_FLEET}
    former = data_volume.former(DataVolume.find_all(api, name))
    own = {Instance: Predecessor.find(api, name), DataVolume: former, Snapshot: Snapshot.find(api, name)}
    return Holdings(empty | own)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Other regions: those that have something of a server, those that have not, and why the rest was not asked."""

    having: tuple[str, ...]
    empty: tuple[str, ...]
    errors: Mapping[str, UserError]


def elsewhere(api: Api, name: str) -> Elsewhere:
    """Look for the server and its address in the account's other regions. Raises AwsError."""
    having: list[str] = []
    empty: list[str] = []
    errors: dict[str, UserError] = {}
    for region in sorted(one["RegionName"] for one in api.items("DescribeRegions")):
        if region == api.region:
            continue
        try:
            other = api.in_region(region)
            (having if Instance.find(other, name) or Address.find(other, name) else empty).append(region)
        except UserError as error:
            errors[region] = error
    return Elsewhere(tuple(having), tuple(empty), errors)


def baked_images(api: Api) -> tuple[str, ...]:
    """The images that er baked in this region: they stay for the next launch."""
    filters = tags.filters(part=tags.IMAGE)
    return tuple(image["ImageId"] for image in api.items("DescribeImages", Owners=["self"], Filters=filters))


def holding_lines(found: Holdings) -> Iterator[str]:
    """What would be removed, for a person."""
    for resource, described in found.found.items():
        for one in described:
            yield f"  {resource.title} {resource.line(one)}"
    for zone, records in found.records.items():
        for record in records:
            yield f"  DNS record {record} in the zone {zone}"


def holdings_json(found: Holdings, *, removed: bool) -> dict[str, Any]:
    """The same for --json."""
    ids = {kind.json_key: [one[kind.id_field] for one in described] for kind, described in found.found.items()}
    kept = [one[kind.id_field] for kind, described in found.stays.items() for one in described]
    return {"removed": removed, **ids, "stays": [*found.disks, *kept], "missing": []}


def destroy(api: Api, name: str, found: Holdings, settings: Settings, progress: Progress, *, unprotect: bool) -> None:
    """Remove the DNS records, so that none leads to what is somebody else's address tomorrow; the servers; the rest.

    Raises UserError; before anything is removed when a server is protected.
    """
    _lift_protection(api, found, unprotect=unprotect)
    if found.zone_ids:
        with progress.step("DNS records"):
            retry(partial(_delete_records, api, found), settings.backoff, progress.line)
    if groups := found.found.get(AutoScalingGroup):
        with progress.step("hosts"):
            _delete_group(api, groups, settings, progress)
    elif found.servers:
        with progress.step("servers"):
            _terminate(api, found, settings, progress)
    with progress.step("the rest"):
        _delete_rest(api, found, settings, progress)
    if found.ips:
        known_hosts.update(settings.known_hosts, found.ips, (), name)


def _lift_protection(api: Api, found: Holdings, *, unprotect: bool) -> None:
    """AWS refuses to end a protected server: then its records have to stay as well."""
    alive = [one for one in found.servers if one.state not in instance.GONE]
    protected = [one for one in alive if instance.is_protected(api, one.id)]
    if protected and not unprotect:
        name = protected[0].name
        raise UserError(
            f"{' '.join(one.id for one in protected)} of {name} is protected from termination: nothing was removed",
            f"if you mean it: er destroy {name} --region {api.region} --unprotect",
        )
    for one in protected:
        api.call("ModifyInstanceAttribute", InstanceId=one.id, DisableApiTermination={"Value": False})


def _delete_group(api: Api, groups: Sequence[Described], settings: Settings, progress: Progress) -> None:
    """It ends its hosts itself, and goes with the last one."""
    for operation, parameters in AutoScalingGroup.deletion(groups):
        retry(partial(api.delete, operation, **parameters), settings.backoff, progress.line)
    AutoScalingGroup.wait_until_gone(api, groups)


def _delete_records(api: Api, found: Holdings) -> None:
    for zone in found.zone_ids:
        dns.delete(api, zone, dns.leading_to(api, zone, found.own))


def _terminate(api: Api, found: Holdings, settings: Settings, progress: Progress) -> None:
    ids = [one.id for one in found.servers]
    for operation, parameters in Instance.deletion(found.found[Instance]):
        retry(partial(api.delete, operation, **parameters), settings.backoff, progress.line)
    instance.wait_until_terminated(api, ids, settings.backoff)


def _delete_rest(api: Api, found: Holdings, settings: Settings, progress: Progress) -> None:
    """Each by itself: one that cannot be deleted does not hold up the others.

    But the balancer's group stays with them: by it the next run knows that it has to look for what only a fleet has.
    """
    first = (Instance, AutoScalingGroup)
    errors: list[UserError] = []
    for resource, described in found.found.items():
        if resource not in first:
            marked = resource is SecurityGroup and errors
            going = [one for one in described if not (marked and security_group.is_of_fleet(one))]
            errors += _delete_all(api, resource, going, settings, progress)
    if errors:
        raise UserError(f"not all of it could be removed: {errors[0].message}", errors[0].hint)


def _delete_all(
    api: Api, resource: type[Resource], described: Sequence[Described], settings: Settings, progress: Progress
) -> list[UserError]:
    """Those of a kind, until they are gone; the errors."""
    errors = [*_delete_kind(api, resource, described, settings, progress)]
    if described and not errors:
        try:
            resource.wait_until_gone(api, described)
        except UserError as error:
            errors.append(error)
    return errors


def _delete_kind(
    api: Api, resource: type[Resource], described: Sequence[Described], settings: Settings, progress: Progress
) -> Iterator[UserError]:
    """The errors of those that could not be deleted."""
    for operation, parameters in resource.deletion(described):
        try:
            retry(partial(api.delete, operation, **parameters), settings.backoff, progress.line)
        except UserError as error:
            progress.line(f"{' '.join(map(str, parameters.values()))}: {error.message}")
            yield error
