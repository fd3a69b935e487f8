"""Route 53: which zone a domain belongs to, and the records that point it at the servers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from builder.aws.api import Api
    from builder.aws.resources.instance import Server

TTL: Final = 300


@dataclass(frozen=True, slots=True)
class Zone:
    """A public hosted zone; `name` without the last dot."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, order=True)
class Record:
    """An address record: `type` is A or AAAA."""

    domain: str
    type: str
    addresses: tuple[str, ...]
    ttl: int = field(default=TTL, compare=False)

    def change(self, action: str) -> dict[str, Any]:
        """As Route 53 takes it."""
        values = [{"Value": address} for address in self.addresses]
        wanted = {"Name": f"{self.domain}.", "Type": self.type, "TTL": self.ttl, "ResourceRecords": values}
        return {"Action": action, "ResourceRecordSet": wanted}


def all_(door: Api) -> tuple[Zone, ...]:
    """The account's public zones."""
    return tuple(
        Zone(zone["Id"].rpartition("/")[2], zone["Name"].rstrip("."))
        for zone in door.items("ListHostedZones")
        if not zone.get("Config", {}).get("PrivateZone")
    )


def of(domains: Sequence[str], zones: Sequence[Zone]) -> tuple[Zone, ...]:
    """For each domain its zone, the closest one; raises UserError when one has none."""
    return tuple(_zone(domain, zones) for domain in domains)


def _zone(domain: str, zones: Sequence[Zone]) -> Zone:
    fitting = [zone for zone in zones if domain == zone.name or domain.endswith(f".{zone.name}")]
    if not fitting:
        raise UserError(
            f"no hosted zone of this account holds {domain}",
            "make the zone in Route 53, or take `dns: route53` out and set the record where the domain is hosted",
        )
    return max(fitting, key=lambda zone: len(zone.name))


def records(domains: Iterable[str], servers: Sequence[Server]) -> tuple[Record, ...]:
    """The records that the domains need."""
    families = (("A", [one.ipv4 for one in servers]), ("AAAA", [one.ipv6 for one in servers]))
    by_type = {kind: tuple(sorted(address for address in found if address)) for kind, found in families}
    return tuple(Record(domain, kind, found) for domain in domains for kind, found in by_type.items() if found)


def there(door: Api, zone: str) -> Iterator[Record]:
    """The address records that a zone has, without aliases."""
    for found in door.items("ListResourceRecordSets", HostedZoneId=zone):
        if found["Type"] in ("A", "AAAA") and found.get("ResourceRecords"):
            yield _read(found)


def _read(found: Mapping[str, Any]) -> Record:
    addresses = tuple(sorted(value["Value"] for value in found["ResourceRecords"]))
    return Record(found["Name"].rstrip(".").replace("\\052", "*"), found["Type"], addresses, found.get("TTL", TTL))


def put(door: Api, domains: Sequence[str], hosted: Sequence[Zone], servers: Sequence[Server]) -> tuple[Record, ...]:
    """Set what is missing or different, one change for each zone; the records that were set."""
    done: list[Record] = []
    for zone in dict.fromkeys(hosted):
        mine = [domain for domain, its in zip(domains, hosted, strict=True) if its == zone]
        known = set(there(door, zone.id))
        missing = [record for record in records(mine, servers) if record not in known]
        if missing:
            _change(door, zone.id, "UPSERT", missing)
            done += missing
    return tuple(done)


def pointing(door: Api, zone: str, addresses: frozenset[str]) -> tuple[Record, ...]:
    """The records of a zone that lead to these addresses and nowhere else."""
    return tuple(record for record in there(door, zone) if set(record.addresses) <= addresses)


def remove(door: Api, zone: str, records: Sequence[Record]) -> None:
    """Take records away."""
    if records:
        _change(door, zone, "DELETE", records)


def _change(door: Api, zone: str, action: str, records: Iterable[Record]) -> None:
    batch = {"Comment": "er", "Changes": [record.change(action) for record in sorted(records)]}
    door.call("ChangeResourceRecordSets", HostedZoneId=zone, ChangeBatch=batch)
