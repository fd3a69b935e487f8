"""What the AWS commands show: lines for a person, and values for --json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder import problem_report
from builder.aws import price, readiness
from builder.aws.resources import instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from builder.aws.inventory import Holdings
    from builder.aws.launch import Launched, Settings
    from builder.aws.plan import Entry, Outline, Plan
    from builder.aws.request import Request
    from builder.aws.resources.instance import Server


def plan_lines(plan: Plan, order: Request) -> Iterator[str]:
    """What is there and what would be made."""
    ground = plan.ground
    yield f"  account {ground.account}, {ground.region}, {ground.place.subnet} of {ground.place.vpc}"
    for entry in plan.entries:
        yield f"  {_state(entry):<10} {entry.part}: {entry.what}"
        if entry.there:
            yield f"  {'':<10} {' '.join(entry.there)}"
    yield f"  user-data  {plan.user_data:,} bytes"
    if plan.hourly is not None:
        yield f"  {price.line(plan.hourly, order.wishes.count)}"


def _state(entry: Entry) -> str:
    if entry.refusal:
        return "refused"
    if not entry.missing:
        return "is there"
    return "would make" if entry.missing == 1 else f"make {entry.missing}"


def outline_lines(found: Outline) -> Iterator[str]:
    """What would be made, as far as it is known."""
    yield f"  account unknown, {found.region or 'region unknown'}"
    for entry in found.entries:
        yield f"  {_state(entry):<10} {entry.part}: {entry.what}"
    sizes = ", ".join(f"{size:,} bytes for a {on} image" for on, size in found.user_data.items())
    yield f"  user-data  {sizes}"
    yield f"  unknown    {', '.join(found.unknown)}"
    yield f"  would ask  {', '.join(found.asks)}"


def outline_json(found: Outline, order: Request) -> dict[str, Any]:
    """The same as a value, in the form of a plan: null is unknown."""
    wish = order.wishes.image or ""
    named = wish.startswith("ami-")
    return {
        "account": None,
        "region": found.region,
        "vpc": order.wishes.vpc,
        "subnet": order.wishes.subnet,
        "image": {"id": wish if named else None, "name": None, "kind": None if named else wish or None},
        "user_data": dict(found.user_data),
        "usd_per_hour": None,
        "parts": [
            {"part": entry.part, "what": entry.what, "there": None, "missing": entry.missing, "refused": None}
            for entry in found.entries
        ],
        "unknown": list(found.unknown),
        "asks": list(found.asks),
        "missing": problem_report.missing(found.lacking),
    }


def plan_json(plan: Plan) -> dict[str, Any]:
    """The same as a value."""
    ground = plan.ground
    return {
        "account": ground.account,
        "region": ground.region,
        "vpc": ground.place.vpc,
        "subnet": ground.place.subnet,
        "image": {"id": ground.image.id, "name": ground.image.name, "kind": ground.image.on},
        "user_data": plan.user_data,
        "usd_per_hour": plan.hourly,
        "parts": [
            {
                "part": entry.part,
                "what": entry.what,
                "there": list(entry.there),
                "missing": entry.missing,
                "refused": entry.refusal.message if entry.refusal else None,
            }
            for entry in plan.entries
        ],
        "unknown": [],
        "missing": [],
    }


def launched_lines(done: Launched, order: Request, settings: Settings, default: Path) -> Iterator[str]:
    """What there is now, and what to do with it."""
    yield ""
    for one in done.servers:
        addresses = " ".join(filter(None, (one.ipv4, one.ipv6))) or "no address yet"
        yield f"  {one.name}  {one.id}  {one.type} in {one.zone}  {addresses}"
        yield f"    {_login(one, settings).shown(default)}"
    for site in done.sites:
        answer = f"{site.status}, certificate checked {site.trust}" if site.serves else site.problem
        yield f"  https://{site.domain}/  {answer.replace('checked not checked', 'not checked')}"
    verb = "set in Route 53" if order.spec.dns else "to set"
    for record in done.records:
        yield f"  DNS {verb}: {record.domain} {record.type} {' '.join(record.addresses)}"
    yield f"  remove it all: er destroy {order.name} --region {done.ground.region}"


def _login(one: Server, settings: Settings) -> readiness.Login:
    return readiness.Login(one.admin, one.address or "ADDRESS", settings.known_hosts, settings.identity)


def launched_json(done: Launched, order: Request, settings: Settings, seconds: Mapping[str, float]) -> dict[str, Any]:
    """The same as a value."""
    keys = {proof.server.id: sorted(proof.fingerprints) for proof in done.proofs}
    return {
        "name": order.name,
        "account": done.ground.account,
        "region": done.ground.region,
        "image": done.ground.image.id,
        "servers": [server_json(one) | {"host_keys": keys.get(one.id, [])} for one in done.servers],
        "known_hosts": str(settings.known_hosts),
        "sites": [
            {"url": f"https://{s.domain}/", "status": s.status, "trust": s.trust, "problem": s.problem or None}
            for s in done.sites
        ],
        "records": [{"name": r.domain, "type": r.type, "values": list(r.addresses)} for r in done.records],
        "records_set": len(done.set_),
        "seconds": {step: round(value, 3) for step, value in seconds.items()},
    }


def server_line(one: Server) -> str:
    """One row of `er servers`."""
    spot = " spot" if one.spot else ""
    return f"{one.name:<16} {one.state:<12} {one.type}{spot}  {one.zone}  {one.id}  {one.address or '-'}"


def server_json(one: Server) -> dict[str, Any]:
    """A server as a value."""
    return {
        "name": one.name,
        "id": one.id,
        "state": one.state,
        "type": one.type,
        "zone": one.zone,
        "image": one.image,
        "ipv4": one.ipv4,
        "ipv6": one.ipv6,
        "started": one.started,
        "spot": one.spot,
        "admin": one.admin,
    }


def holding_lines(found: Holdings) -> Iterator[str]:
    """What would be removed."""
    for one in found.servers:
        note = "" if one.state not in instance.GONE else " (ending)"
        yield f"  server {one.id} {one.type} {one.address or ''}{note}"
    for address in found.addresses:
        yield f"  address {address.get('PublicIp', '')} {address['AllocationId']}"
    for group in found.groups:
        yield f"  security group {group}"
    for key in found.keys:
        yield f"  key pair {key}"
    if found.zones:
        yield f"  DNS records that lead to it, in {' '.join(found.zones)}"
