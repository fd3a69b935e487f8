"""Route 53: which zone a domain belongs to, and the records that point it at the servers."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from builder.aws.api import Api


@dataclass(frozen=True, slots=True)
class Zone:
    """A public hosted zone; `name` without the last dot."""

    id: str
    name: str


def hosted_zones(api: Api) -> tuple[Zone, ...]:
    """The account's public zones."""
    return tuple(
        Zone(zone["Id"].rpartition("/")[2], zone["Name"].rstrip("."))
        for zone in api.items("ListHostedZones")
        if not zone.get("Config", {}).get("PrivateZone")
    )


def zones_of(domains: Sequence[str], zones: Sequence[Zone]) -> tuple[Zone, ...]:
    """For each domain its zone, the closest one; raises UserError when one has none."""
    return tuple(_zone(domain, zones) for domain in domains)


def _zone(domain: str, zones: Sequence[Zone]) -> Zone:
    parents = [zone for zone in zones if domain == zone.name or domain.endswith(f".{zone.name}")]
    if not parents:
        raise UserError(
            f"no hosted zone of this account holds {domain}",
            "make the zone in Route 53, or take `dns: route53` out and set the record where the domain is hosted",
        )
    return max(parents, key=lambda zone: len(zone.name))


_TTL: Final = 300


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """An address record: `type` is A or AAAA; `ttl` in seconds."""

    domain: str
    type: str
    addresses: tuple[str, ...]
    ttl: int = field(default=_TTL, compare=False)

    def change(self, action: str) -> dict[str, Any]:
        """As Route 53 takes it; `action` is CREATE or DELETE."""
        values = [{"Value": address} for address in self.addresses]
        record_set = {"Name": f"{self.domain}.", "Type": self.type, "TTL": self.ttl, "ResourceRecords": values}
        return {"Action": action, "ResourceRecordSet": record_set}


def records(domains: Iterable[str], addresses: Iterable[str]) -> tuple[Record, ...]:
    """The records that lead the domains to the addresses, of both families."""
    by_type: dict[str, list[str]] = {"A": [], "AAAA": []}
    for address in sorted(addresses):
        by_type["A" if ipaddress.ip_address(address).version == 4 else "AAAA"].append(address)
    return tuple(Record(domain, type_, tuple(found)) for domain in domains for type_, found in by_type.items() if found)


@dataclass(frozen=True, slots=True, order=True)
class Alias:
    """A record of Route 53's own kind: `type` A or AAAA, which leads to wherever a balancer's name leads."""

    domain: str
    type: str
    name: str
    zone: str = field(compare=False)  # the hosted zone of the balancer's name

    def change(self, action: str) -> dict[str, Any]:
        """As Route 53 takes it; `action` is CREATE or DELETE."""
        target = {"HostedZoneId": self.zone, "DNSName": f"{self.name}.", "EvaluateTargetHealth": False}
        record_set = {"Name": f"{self.domain}.", "Type": self.type, "AliasTarget": target}
        return {"Action": action, "ResourceRecordSet": record_set}


Wanted = TypeVar("Wanted", Record, Alias)


def aliases(domains: Iterable[str], name: str, zone: str, types: Iterable[str]) -> tuple[Alias, ...]:
    """The records that lead the domains to a balancer."""
    return tuple(Alias(domain, type_, name, zone) for domain in domains for type_ in types)


@dataclass(frozen=True, slots=True)
class RecordSet:
    """What a zone has for a name: addresses, an alias (then it has none), or another name. As the API describes it."""

    described: Mapping[str, Any]

    @property
    def domain(self) -> str:
        """Without the last dot."""
        return str(self.described["Name"]).rstrip(".").replace("\\052", "*")

    @property
    def type(self) -> str:
        """A, AAAA or CNAME."""
        return str(self.described["Type"])

    @property
    def values(self) -> tuple[str, ...]:
        """Where it leads; nowhere for an alias."""
        return tuple(sorted(value["Value"] for value in self.described.get("ResourceRecords", ())))

    @property
    def alias(self) -> str:
        """The name that an alias leads to, without the last dot and what the console puts before; else empty."""
        name = str(self.described.get("AliasTarget", {}).get("DNSName", ""))
        return name.rstrip(".").removeprefix("dualstack.").lower()

    def is_(self, record: Record | Alias) -> bool:
        """Whether it is this record, and the only one of its kind."""
        if "SetIdentifier" in self.described or (self.domain, self.type) != (record.domain, record.type):
            return False
        return self.alias == record.name.lower() if isinstance(record, Alias) else self.values == record.addresses

    def leads_only_to(self, own: Collection[str]) -> bool:
        """Whether it leads to these addresses, or to one of these names, and nowhere else."""
        return self.alias in own if self.alias else bool(self.values) and set(self.values) <= set(own)

    def __str__(self) -> str:
        """For a person."""
        return f"{self.domain} {self.type} {' '.join(self.values) or self.alias}"


# A name with an alias to another name can have no addresses beside it.
_TYPES: Final = ("A", "AAAA", "CNAME")


def _record_sets(api: Api, zone: Zone, domains: Collection[str]) -> list[RecordSet]:
    """What a zone has for these domains."""
    found = map(RecordSet, api.items("ListResourceRecordSets", HostedZoneId=zone.id))
    return [one for one in found if one.type in _TYPES and one.domain in domains]


def _by_zone(domains: Sequence[str], zones: Sequence[Zone]) -> dict[Zone, list[str]]:
    """The domains of each zone; `zones` has the zone of each domain."""
    found: dict[Zone, list[str]] = {}
    for domain, zone in zip(domains, zones, strict=False):
        found.setdefault(zone, []).append(domain)
    return found


def check(api: Api, domains: Sequence[str], zones: Sequence[Zone], own: Collection[str], *, overwrite: bool) -> None:
    """Raise UserError where a domain leads elsewhere than to these addresses: that is somebody's, until he says not."""
    for zone, inside in _by_zone(domains, zones).items():
        _refuse_foreign(_record_sets(api, zone, inside), own, overwrite=overwrite)


def _refuse_foreign(found: Iterable[RecordSet], own: Collection[str], *, overwrite: bool) -> None:
    foreign = [one for one in found if not one.leads_only_to(own)]
    names = [one for one in foreign if one.type == "CNAME"]
    if names or (foreign and not overwrite):
        raise UserError(
            f"in Route 53 there is {'; '.join(map(str, names or foreign))}: it does not lead to this server",
            "remove it there; er sets address records alone"
            if names
            else "remove it there, or say --overwrite-dns: then it is replaced, and `er destroy` removes the new one",
        )


def point(
    api: Api,
    domains: Sequence[str],
    zones: Sequence[Zone],
    addresses: Sequence[str],
    own: Collection[str],
    *,
    overwrite: bool,
) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Lead the domains to the addresses and nowhere else, by one change for each zone.

    The records that were set, and in words those that they have replaced. A change names what it replaces: Route 53
    refuses it when that is no longer there. Raises UserError for what is not this server's.
    """
    desired = records(domains, addresses)
    return set_records(api, desired, domains, zones, {*own, *addresses}, overwrite=overwrite)


def set_records(
    api: Api,
    wanted: Sequence[Wanted],
    domains: Sequence[str],
    zones: Sequence[Zone],
    own: Collection[str],
    *,
    overwrite: bool,
) -> tuple[tuple[Wanted, ...], tuple[str, ...]]:
    """The same for records of addresses or aliases; `own` is where those that are there may lead to."""
    done: list[Wanted] = []
    replaced: list[str] = []
    for zone, inside in _by_zone(domains, zones).items():
        there = _record_sets(api, zone, inside)
        desired = [one for one in wanted if one.domain in inside]
        surplus: list[RecordSet] = [one for one in there if not any(one.is_(record) for record in desired)]
        missing: list[Wanted] = [record for record in desired if not any(one.is_(record) for one in there)]
        _refuse_foreign(surplus, own, overwrite=overwrite)
        if surplus or missing:
            _change(api, zone.id, [*map(_removal, surplus), *(record.change("CREATE") for record in sorted(missing))])
            done += missing
            replaced += map(str, surplus)
    return tuple(done), tuple(replaced)


def _removal(found: RecordSet) -> dict[str, Any]:
    return {"Action": "DELETE", "ResourceRecordSet": dict(found.described)}


def leading_to(api: Api, zone_id: str, own: frozenset[str]) -> tuple[RecordSet, ...]:
    """The address records of a zone that lead to these addresses, or balancers' names, and nowhere else."""
    found = map(RecordSet, api.items("ListResourceRecordSets", HostedZoneId=zone_id))
    return tuple(one for one in found if one.type in ("A", "AAAA") and one.leads_only_to(own))


def delete(api: Api, zone_id: str, records: Sequence[RecordSet]) -> None:
    """Delete these records, if there are any."""
    if records:
        _change(api, zone_id, [*map(_removal, records)])


def _change(api: Api, zone_id: str, changes: Sequence[dict[str, Any]]) -> None:
    batch = {"Comment": "er", "Changes": list(changes)}
    api.call("ChangeResourceRecordSets", HostedZoneId=zone_id, ChangeBatch=batch)
