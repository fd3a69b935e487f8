"""Route 53: which zone a domain belongs to, and the records that point it at the servers."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

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
        """As Route 53 takes it; `action` is UPSERT or DELETE."""
        values = [{"Value": address} for address in self.addresses]
        record_set = {"Name": f"{self.domain}.", "Type": self.type, "TTL": self.ttl, "ResourceRecords": values}
        return {"Action": action, "ResourceRecordSet": record_set}


def records(domains: Iterable[str], addresses: Iterable[str]) -> tuple[Record, ...]:
    """The records that lead the domains to the addresses, of both families."""
    by_type: dict[str, list[str]] = {"A": [], "AAAA": []}
    for address in sorted(addresses):
        by_type["A" if ipaddress.ip_address(address).version == 4 else "AAAA"].append(address)
    return tuple(Record(domain, type_, tuple(found)) for domain in domains for type_, found in by_type.items() if found)


def upsert(api: Api, domains: Sequence[str], zones: Sequence[Zone], addresses: Sequence[str]) -> tuple[Record, ...]:
    """Set the records that are missing or different, one change for each zone; those that were set.

    `zones` has the zone of each domain.
    """
    done: list[Record] = []
    for zone in dict.fromkeys(zones):
        inside = [domain for domain, its in zip(domains, zones, strict=True) if its == zone]
        existing = set(address_records(api, zone.id))
        missing = [record for record in records(inside, addresses) if record not in existing]
        if missing:
            _change(api, zone.id, "UPSERT", missing)
            done += missing
    return tuple(done)


def address_records(api: Api, zone_id: str) -> Iterator[Record]:
    """The address records that a zone has, without aliases."""
    for found in api.items("ListResourceRecordSets", HostedZoneId=zone_id):
        if found["Type"] in ("A", "AAAA") and found.get("ResourceRecords"):
            yield _read(found)


def _read(found: Mapping[str, Any]) -> Record:
    addresses = tuple(sorted(value["Value"] for value in found["ResourceRecords"]))
    return Record(found["Name"].rstrip(".").replace("\\052", "*"), found["Type"], addresses, found.get("TTL", _TTL))


def leading_to(api: Api, zone_id: str, addresses: frozenset[str]) -> tuple[Record, ...]:
    """The records of a zone that lead to these addresses and nowhere else."""
    return tuple(record for record in address_records(api, zone_id) if set(record.addresses) <= addresses)


def delete(api: Api, zone_id: str, records: Sequence[Record]) -> None:
    """Delete these records, if there are any."""
    if records:
        _change(api, zone_id, "DELETE", records)


def _change(api: Api, zone_id: str, action: str, records: Iterable[Record]) -> None:
    batch = {"Comment": "er", "Changes": [record.change(action) for record in sorted(records)]}
    api.call("ChangeResourceRecordSets", HostedZoneId=zone_id, ChangeBatch=batch)
