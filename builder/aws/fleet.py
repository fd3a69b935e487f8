"""`er launch` of a spec with `fleet:`: create what is missing, bring all hosts to this spec and image, and wait.

AWS's own engines keep the number of hosts and replace them; a launch begins that and follows it. What ends a launch in
between does not end them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from builder import userdata
from builder.aws import dns, fleet_refresh, fleet_state, readiness
from builder.aws.api import Deadline, NotInTimeError, retry
from builder.aws.launch import NotReadyError, create
from builder.aws.request import Prerequisites, look_up
from builder.aws.resources import instance, parameter
from builder.aws.resources.instance import Instance
from builder.aws.resources.launch_template import LaunchTemplate, LaunchTemplateVersion
from builder.aws.resources.load_balancer import LoadBalancer, TargetGroup, unhealthy
from builder.aws.resources.parameter import Parameter
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.aws.api import Api, Progress
    from builder.aws.fleet_state import Fleet
    from builder.aws.readiness import Site
    from builder.aws.request import Request, Settings
    from builder.aws.resources.lifecycle import Described, Ids


@dataclass(frozen=True, slots=True)
class LaunchedFleet:
    """What exists now. `records` are what the domains need, `records_set` those that this run has set in Route 53."""

    prerequisites: Prerequisites
    state: Fleet
    records: tuple[dns.Alias, ...]
    records_set: tuple[dns.Alias, ...] = ()
    sites: tuple[Site, ...] = ()


def launch(api: Api, request: Request, settings: Settings, progress: Progress) -> LaunchedFleet:
    """Make the fleet, or bring it to this spec and image, or take it up where it is.

    Raises UserError when there is none: then nothing is left, or the hint says what.
    Raises NotReadyError when there is one that is not all that was asked for.
    """
    deadline = Deadline(settings.timeout, settings.backoff)
    with progress.step("look around"):
        prerequisites = look(api, look_up(api, request))
    for text in prerequisites.warnings:
        progress.line(f"warning: {text}")
    ids = create(api, prerequisites, settings.backoff, progress)
    try:
        return _finish(api, prerequisites, ids, settings, deadline=deadline, progress=progress)
    except (UserError, KeyboardInterrupt) as error:
        way = f"`er destroy {request.name} --region {prerequisites.region}` removes it"
        raise NotReadyError(error, f"the fleet {request.name} stays: the same command goes on, {way}") from error


def look(api: Api, found: Prerequisites) -> Prerequisites:
    """Complete what was looked up by what is there. Raises UserError where the name is a server's, or a domain is."""
    name = found.request.name
    servers = [instance.read(one) for one in Instance.find(api, name)]
    if alive := [one.id for one in servers if one.state not in instance.GONE]:
        raise UserError(
            f"{name} is a server ({' '.join(alive)}), and the spec has `fleet:`",
            f"another name; or first: er destroy {name} --region {found.region}",
        )
    secrets = Parameter.find(api, name) if userdata.secrets(found.request.spec) else []
    _refuse_without(secrets, found.request)
    own = frozenset(_name(one) for one in LoadBalancer.find(api, name))
    dns.check(api, found.request.domains, found.zones, own, overwrite=found.request.options.overwrite_dns)
    return replace(found, own_addresses=own, secrets=parameter.digest(secrets))


def _refuse_without(secrets: Iterable[Described], request: Request) -> None:
    """Every host would wait for those that are missing, and be taken away again."""
    wanted, there = userdata.secrets(request.spec), {one["Name"] for one in secrets}
    if missing := [(stack, name) for stack, name in wanted if parameter.path(request.name, stack, name) not in there]:
        raise UserError(
            f"no host would get ready without {', '.join(f'{name} of {stack}' for stack, name in missing)}",
            "; ".join(f"er secret set SPEC {stack} {name}" for stack, name in missing),
        )


def _name(balancer: Mapping[str, Any]) -> str:
    """The name that DNS has of it."""
    return str(balancer["DNSName"]).lower()


def _finish(
    api: Api,
    prerequisites: Prerequisites,
    ids: Mapping[str, Ids],
    settings: Settings,
    *,
    deadline: Deadline,
    progress: Progress,
) -> LaunchedFleet:
    """Set the records of the domains, roll if need be, then wait for hosts, the balancer and every domain."""
    request, name = prerequisites.request, prerequisites.request.name
    (balancer,) = LoadBalancer.find(api, name)
    records = _records(request, balancer)
    done: tuple[dns.Alias, ...] = ()
    if prerequisites.zones:
        with progress.step("DNS records"):
            done = _point_domains(api, prerequisites, _name(balancer), records, progress)
    goal = fleet_refresh.Goal(name, *ids[LaunchTemplate.part], *ids[LaunchTemplateVersion.part])
    if not settings.wait:
        if fleet_refresh.needed(fleet_refresh.describe(api, name), goal.version):
            retry(partial(fleet_refresh.start, api, goal), settings.backoff, progress.line)
        return LaunchedFleet(prerequisites, fleet_state.fleet(api, name), records, done)
    with progress.step("hosts"):
        fleet_refresh.roll(api, goal, deadline, progress)
        hosts = fleet_refresh.wait_until_up(api, goal, deadline, progress)
    with progress.step("balancer"):
        _wait_until_healthy(api, ids[TargetGroup.part], hosts, deadline)
    sites = readiness.wait_for_balanced_sites(request, _name(balancer), deadline, progress)
    return LaunchedFleet(prerequisites, fleet_state.fleet(api, name), records, done, sites)


def _records(request: Request, balancer: Described) -> tuple[dns.Alias, ...]:
    types = ("A", "AAAA") if balancer.get("IpAddressType") == "dualstack" else ("A",)
    return dns.aliases(request.domains, _name(balancer), balancer["CanonicalHostedZoneId"], types)


def _point_domains(
    api: Api,
    prerequisites: Prerequisites,
    balancer: str,
    records: tuple[dns.Alias, ...],
    progress: Progress,
) -> tuple[dns.Alias, ...]:
    """Lead the domains to the balancer; those records that this has set."""
    domains, zones = prerequisites.request.domains, prerequisites.zones
    own = {*prerequisites.own_addresses, balancer}
    overwrite = prerequisites.request.options.overwrite_dns
    work = partial(dns.set_records, api, records, domains, zones, own, overwrite=overwrite)
    done, replaced = retry(work, api.backoff, progress.line)
    for text in replaced:
        progress.line(f"replaced: {text}")
    return done


def _wait_until_healthy(api: Api, groups: Ids, hosts: Ids, deadline: Deadline) -> None:
    """As the balancer finds them, by its own question. Raises NotInTimeError with those that it does not."""
    sick: dict[str, str] = {}

    def healthy() -> bool:
        nonlocal sick
        sick = unhealthy(api, groups, hosts)
        return not sick

    try:
        deadline.until(healthy, "the balancer to find the hosts healthy")
    except NotInTimeError as error:
        raise NotInTimeError(error.message, "\n".join(f"{host}: {state}" for host, state in sick.items())) from None


def launched_rows(launched: LaunchedFleet) -> Iterator[tuple[str, str]]:
    """What exists now, and what to do with it, each with a word for what it is; for a person."""
    prerequisites = launched.prerequisites
    yield "fleet", "\n".join(launched.state.lines)
    for site in launched.sites:
        answer = f"{site.status}, certificate {site.trust}" if site.serves else site.problem
        yield "site", f"https://{site.domain}/  {answer}"
    if prerequisites.request.spec.dns:
        for record in launched.records:
            yield "DNS", f"{record.domain} {record.type} alias of {record.name}, set in Route 53"
    else:
        for domain in prerequisites.request.domains:
            said = f"{domain} CNAME {launched.state.balancer} (at the top of a zone: ALIAS or ANAME)"
            yield "next", f"set in your DNS: {said}"
    yield "next", f"to remove it all: er destroy {prerequisites.request.name} --region {prerequisites.region}"


def launched_json(launched: LaunchedFleet, seconds: dict[str, float]) -> dict[str, Any]:
    """The same for --json; `seconds` by step."""
    prerequisites = launched.prerequisites
    return {
        "account": prerequisites.account,
        "region": prerequisites.region,
        "image": prerequisites.image.id,
        **launched.state.json,
        "sites": [
            {"url": f"https://{s.domain}/", "status": s.status, "trust": s.trust, "problem": s.problem or None}
            for s in launched.sites
        ],
        "records": [{"name": r.domain, "type": r.type, "alias": r.name} for r in launched.records],
        "records_set": len(launched.records_set),
        "seconds": {step: round(value, 3) for step, value in seconds.items()},
    }
