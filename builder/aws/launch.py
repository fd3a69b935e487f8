"""`er launch`: create what is missing of a server, and wait until it serves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from builder.aws import dns, existing, known_hosts, readiness
from builder.aws.api import Deadline, retry
from builder.aws.errors import AwsError, is_denied
from builder.aws.request import Prerequisites, look_up
from builder.aws.resources import RESOURCES, instance
from builder.aws.resources.data_volume import DataVolume
from builder.aws.resources.instance import Instance
from builder.aws.resources.security_group import BalancerGroup
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from builder.aws.api import Api, Backoff, Progress
    from builder.aws.readiness import FirstBoot, Site
    from builder.aws.request import Request, Settings
    from builder.aws.resources.instance import Server
    from builder.aws.resources.lifecycle import Ids, Resource


@dataclass(frozen=True, slots=True)
class Launched:
    """What exists now. `records` are what the domains need, `records_set` those that this run has set in Route 53."""

    prerequisites: Prerequisites
    servers: tuple[Server, ...]
    records: tuple[dns.Record, ...]
    records_set: tuple[dns.Record, ...] = ()
    first_boots: tuple[FirstBoot, ...] = ()
    sites: tuple[Site, ...] = ()


class HalfwayError(UserError):
    """Creating failed, and so did the clean-up; the hint says what remains and how to remove it."""


class NotReadyError(Exception):
    """The server exists and stays, but does not serve yet; `cause` says why, `remains` what to do about it."""

    def __init__(self, cause: UserError | KeyboardInterrupt, remains: str) -> None:
        self.cause = cause
        self.remains = remains
        super().__init__(str(cause))


def launch(api: Api, request: Request, settings: Settings, progress: Progress) -> Launched:
    """Create the server, or take it up where it is.

    Raises UserError when there is no server: then nothing is left, or the hint says what.
    Raises NotReadyError when there is one that does not serve yet.
    """
    deadline = Deadline(settings.timeout, settings.backoff)
    with progress.step("look around"):
        prerequisites = existing.look(api, look_up(api, request))
    for text in prerequisites.warnings:
        progress.line(f"warning: {text}")
    ids = create(api, prerequisites, settings.backoff, progress)[Instance.part]
    try:
        return _wait(api, prerequisites, ids, settings, deadline=deadline, progress=progress)
    except (UserError, KeyboardInterrupt) as error:
        again = "the same command takes it up again"
        remains = f"{request.name} stays ({' '.join(ids)}): {again}, `{_removal(prerequisites)}` removes it"
        raise NotReadyError(error, remains) from error


def _removal(prerequisites: Prerequisites) -> str:
    """The command that removes a server and all that belongs to it."""
    return f"er destroy {prerequisites.request.name} --region {prerequisites.region}"


def create(
    api: Api,
    prerequisites: Prerequisites,
    backoff: Backoff,
    progress: Progress,
    kinds: Sequence[type[Resource]] = RESOURCES,
) -> dict[str, Ids]:
    """Create every resource of the table; the ids by kind. On a failure or Ctrl-C, delete what is new, and raise."""
    ids: dict[str, Ids] = {}
    resources = [kind(prerequisites, ids) for kind in kinds if kind.count(prerequisites.request)]
    try:
        for resource in resources:
            with progress.step(resource.title):
                ids[resource.part] = retry(partial(_create_one, api, resource), backoff, progress.line)
            if isinstance(resource, Instance):
                with progress.step("power on"):
                    running = partial(instance.wait_until_running, api, ids[resource.part], backoff)
                    retry(running, backoff, progress.line)
    except (UserError, KeyboardInterrupt) as error:
        remaining = _delete_new(api, resources, backoff, progress)
        if not remaining:
            raise
        message, hint = (error.message, error.hint) if isinstance(error, UserError) else ("interrupted", None)
        remains = f"there may be left of it: {', '.join(remaining)}; remove it by: {_removal(prerequisites)}"
        raise HalfwayError(message, "\n".join(filter(None, (hint, remains)))) from error
    return ids


def _create_one(api: Api, resource: Resource) -> Ids:
    """Look first, so that this may be repeated at any time."""
    resource.look(api)
    return resource.create(api)


def _delete_new(api: Api, resources: Sequence[Resource], backoff: Backoff, progress: Progress) -> list[str]:
    """Delete in reverse order; return in words what could not be deleted, or may exist unseen.

    Group, key pair and role stay when a server of another launch uses them. A volume goes once its server is gone. The
    balancer's group, the first and so the last, stays with what could not be deleted: by it `er destroy` finds that.
    """
    remaining: list[str] = []
    touched = reversed([resource for resource in resources if resource.touched])
    for resource in sorted(touched, key=lambda resource: isinstance(resource, DataVolume)):
        if remaining and isinstance(resource, BalancerGroup):
            return [*remaining, resource.title]
        try:
            if not resource.shared or not _in_use(api, resource):
                _delete_one(api, resource, backoff, progress)
        except (UserError, KeyboardInterrupt):
            remaining.append(" ".join([resource.title, *sorted(resource.created)]))
    return remaining


def _in_use(api: Api, resource: Resource) -> bool:
    """Whether a server of this name is there: this run's own are gone by now. Who may not look has made none either."""
    try:
        return bool(Instance.usable(Instance.find_all(api, resource.request.name)))
    except AwsError as error:
        if not is_denied(error):
            raise
        return False


def _delete_one(api: Api, resource: Resource, backoff: Backoff, progress: Progress) -> None:
    new = described = resource.find_new(api)
    if not new:
        return
    progress.line(f"taking away again: {resource.title} {' '.join(new)}")

    def delete() -> None:
        """Look again when this is repeated: an address may have been associated meanwhile."""
        nonlocal described
        now, described = described or resource.find_new(api), {}
        for operation, parameters in resource.deletion(list(now.values())):
            api.delete(operation, **parameters)

    retry(delete, backoff, progress.line)
    resource.created.clear()
    resource.wait_until_gone(api, list(new.values()))


def _wait(
    api: Api, prerequisites: Prerequisites, ids: Ids, settings: Settings, *, deadline: Deadline, progress: Progress
) -> Launched:
    """Set the records of the domains, then wait for first boot and every domain."""
    domains = prerequisites.request.domains
    servers = instance.describe(api, ids)
    addresses = [address for one in servers for address in one.addresses]
    launched = Launched(prerequisites, servers, dns.records(domains, addresses))
    if prerequisites.zones:
        with progress.step("DNS records"):
            launched = replace(launched, records_set=_point_domains(api, prerequisites, addresses, settings, progress))
    if not settings.wait:
        return launched
    request = prerequisites.request
    wait_for_first_boot = partial(readiness.wait_for_first_boot, deadline=deadline, progress=progress)
    there = prerequisites.existing
    boots = tuple(wait_for_first_boot(api, one, request, settings, existing=one.id in there) for one in servers)
    return replace(launched, first_boots=boots, sites=readiness.wait_for_sites(request, boots, deadline, progress))


def _point_domains(
    api: Api, prerequisites: Prerequisites, addresses: Sequence[str], settings: Settings, progress: Progress
) -> tuple[dns.Record, ...]:
    """Lead the domains to the server; those records that this has set."""
    request, own = prerequisites.request, prerequisites.own_addresses
    overwrite = request.options.overwrite_dns
    work = partial(dns.point, api, request.domains, prerequisites.zones, addresses, own, overwrite=overwrite)
    done, replaced = retry(work, settings.backoff, progress.line)
    for text in replaced:
        progress.line(f"replaced: {text}")
    return done


def launched_rows(launched: Launched, settings: Settings, default_known_hosts: Path) -> Iterator[tuple[str, str]]:
    """What exists now, and what to do with it, each with a word for what it is; for a person."""
    prerequisites = launched.prerequisites
    for one in launched.servers:
        addresses = " ".join(one.addresses) or "no address yet"
        login = readiness.Login(one.admin, one.address or "ADDRESS", settings.known_hosts, settings.identity)
        yield "server", f"{one.name}  {one.id}  {one.type} in {one.zone}  {addresses}"
        yield "login", login.shown(default_known_hosts)
    for site in launched.sites:
        answer = f"{site.status}, certificate {_certificate(site.trust)}" if site.serves else site.problem
        yield "site", f"https://{site.domain}/  {answer}"
    is_set = prerequisites.request.spec.dns
    for record in launched.records:
        said = f"{record.domain} {record.type} {' '.join(record.addresses)}"
        yield ("DNS", f"{said}, set in Route 53") if is_set else ("next", f"set in your DNS: {said}")
    if not launched.first_boots:
        yield from _secrets_to_set(launched)
    yield "next", f"to remove it all: {_removal(prerequisites)}"


def host_key_rows(launched: Launched, settings: Settings) -> Iterator[tuple[str, str]]:
    """After a replacement: what those need who have the old server's keys, as whoever deploys has; for a person."""
    addresses = {address for one in launched.servers for address in one.addresses}
    if found := known_hosts.entries(settings.known_hosts, addresses):
        yield "host key", "\n".join(["it has its own; for the known_hosts of who deploys:", *found])


def _secrets_to_set(launched: Launched) -> Iterator[tuple[str, str]]:
    """Of a server that gets its data from the backup, and was not waited for."""
    request = launched.prerequisites.request
    if request.restores and request.spec.backup:
        for one, name in ((one, name) for one in launched.servers for name in request.spec.backup.secrets):
            way = readiness.secret_command(f"{one.admin}@{one.address or 'ADDRESS'}", name)
            yield "next", f"its data waits for the host's secret {name}: {way}"


def _certificate(trust: str) -> str:
    """How the certificate was checked, or why it was not."""
    return trust if trust.startswith("not checked") else f"checked {trust}"


def launched_json(launched: Launched, settings: Settings, seconds: dict[str, float]) -> dict[str, Any]:
    """The same for --json; `seconds` by step."""
    keys = {boot.server.id: sorted(boot.fingerprints) for boot in launched.first_boots}
    return {
        "name": launched.prerequisites.request.name,
        "account": launched.prerequisites.account,
        "region": launched.prerequisites.region,
        "image": launched.prerequisites.image.id,
        "servers": [one.json | {"host_keys": keys.get(one.id, [])} for one in launched.servers],
        "known_hosts": str(settings.known_hosts),
        "sites": [
            {"url": f"https://{s.domain}/", "status": s.status, "trust": s.trust, "problem": s.problem or None}
            for s in launched.sites
        ],
        "records": [{"name": r.domain, "type": r.type, "values": list(r.addresses)} for r in launched.records],
        "records_set": len(launched.records_set),
        "seconds": {step: round(value, 3) for step, value in seconds.items()},
    }
