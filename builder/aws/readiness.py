"""A server proves itself: first boot on its console, its host keys, then every domain over HTTPS."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from builder.aws import console, instance, known_hosts, remote, sites
from builder.aws.errors import AwsError
from builder.aws.pace import NotInTimeError
from builder.aws.running import find
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.aws.api import Door
    from builder.aws.instance import Server
    from builder.aws.launch import Settings
    from builder.aws.pace import Clock
    from builder.aws.progress import Timed
    from builder.aws.request import Order
    from builder.aws.sites import Site

# What EC2 says of the newest output where the hypervisor keeps none.
_NO_LATEST: Final = frozenset({"UnsupportedOperation", "InvalidParameterCombination", "InvalidParameterValue"})


@dataclass(frozen=True, slots=True)
class Proof:
    """What a server said of itself. `keys` are in known_hosts; empty when SSH does not answer from here."""

    server: Server
    fingerprints: frozenset[str]
    keys: frozenset[console.HostKey]
    login: remote.Login


def output(door: Door, instance: str) -> str:
    """The console so far: the newest state, where EC2 has it."""
    try:
        answer = door.call("GetConsoleOutput", InstanceId=instance, Latest=True)
    except AwsError as error:
        if error.code not in _NO_LATEST:
            raise
        answer = door.call("GetConsoleOutput", InstanceId=instance)
    return str(answer.get("Output") or "")


def prove(door: Door, one: Server, order: Order, settings: Settings, *, clock: Clock, told: Timed) -> Proof:
    """Wait for first boot, and learn the host keys; raises UserError when the server says that it failed."""
    address = one.address
    if address is None:
        raise UserError(f"{one.id} has no public address", "does its subnet give any? --eip gives one in any case")
    with told.step("first boot"):
        report = _first_boot(door, one, clock)
    keys = known_hosts.vouched(report, address)
    own = [each for each in (one.ipv4, one.ipv6) if each]
    if keys:
        known_hosts.update(settings.known_hosts, own, keys, order.name)
    else:
        told.line("SSH does not answer from here: no known_hosts entry is written")
    login = remote.Login(order.spec.admin.name, address, settings.known_hosts, settings.identity)
    return Proof(one, report.fingerprints, keys, login)


def _first_boot(door: Door, one: Server, clock: Clock) -> console.Report:
    seen = ""

    def said() -> console.Report | None:
        nonlocal seen
        seen = output(door, one.id) or seen
        report = console.read(seen)
        if report.failure:
            raise UserError(
                f"first boot has failed: {report.failure}", f"its console ends with:\n  {console.tail(seen)}"
            )
        _check_alive(door, one)
        return report if report.ready == one.name else None

    try:
        return clock.until(said, "the server's first boot") or console.Report()
    except NotInTimeError as error:
        shown = f"its console ends with:\n  {console.tail(seen)}" if seen else "its console says nothing yet"
        raise NotInTimeError(error.message, shown) from None


def _check_alive(door: Door, one: Server) -> None:
    for now in find(door, [one.id]):
        if now.state in instance.GONE | instance.STOPPED:
            raise UserError(f"{one.id} is {now.state}: {now.reason or 'no reason given'}")


def serve(order: Order, proofs: tuple[Proof, ...], clock: Clock, told: Timed) -> tuple[Site, ...]:
    """Ask for every domain at every server until each answers; what cannot before DNS leads there is asked once."""
    if not order.domains:
        return ()
    with told.step("HTTPS"):
        return tuple(site for proof in proofs for site in _sites(order, proof, clock))


def _sites(order: Order, proof: Proof, clock: Clock) -> list[Site]:
    tls = order.spec.tls
    trusted = sites.trust(tls, proof.login)
    addresses = frozenset(filter(None, (proof.server.ipv4, proof.server.ipv6)))
    found = []
    for domain in order.domains:
        there = not sites.needs_dns(tls) or order.spec.dns is not None or sites.leads_to(domain, addresses)
        site = _site(domain, proof.login.address, trusted, clock if there else None)
        found.append(site if there or site.serves else replace(site, problem=sites.NO_RECORD))
    return found


def _site(domain: str, address: str, trusted: sites.Trust, clock: Clock | None) -> Site:
    site = sites.ask(domain, address, trusted)
    if clock is None or site.serves:
        return site

    def served() -> Site | None:
        nonlocal site
        site = sites.ask(domain, address, trusted)
        return site if site.serves else None

    try:
        return clock.until(served, domain) or site
    except NotInTimeError as error:
        raise NotInTimeError(f"{error.message}: {site.problem or f'it answers {site.status}'}") from None
