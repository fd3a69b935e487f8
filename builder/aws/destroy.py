"""`er destroy`: everything that er made for a server goes, in an order that can be cut anywhere and run again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from builder.aws import api, dns, known_hosts
from builder.aws.api import persist
from builder.aws.resources import base as resources
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.aws.api import Api
    from builder.aws.inventory import Holdings
    from builder.aws.launch import Settings
    from builder.aws.progress import Timed


def destroy(door: Api, name: str, found: Holdings, settings: Settings, told: Timed, *, unprotect: bool) -> None:
    """Names first, so that none leads to an address that is somebody else's tomorrow; the servers; then the rest."""
    if found.zones:
        with told.step("DNS records"):
            persist(partial(_names, door, found), settings.pace, told.line)
    if found.servers:
        with told.step("servers"):
            _servers(door, found, settings, told, unprotect=unprotect)
    with told.step("the rest"):
        _rest(door, found, settings, told)
    known_hosts.update(settings.known_hosts, found.ips, (), name)


def _names(door: Api, found: Holdings) -> None:
    for zone in found.zones:
        dns.remove(door, zone, dns.pointing(door, zone, found.ips))


def _servers(door: Api, found: Holdings, settings: Settings, told: Timed, *, unprotect: bool) -> None:
    ids = [one.id for one in found.servers]
    if unprotect:
        for server_id in ids:
            door.call("ModifyInstanceAttribute", InstanceId=server_id, DisableApiTermination={"Value": False})
    persist(lambda: door.call("TerminateInstances", InstanceIds=ids), settings.pace, told.line)
    resources.ended(door, ids, settings.pace)


def _rest(door: Api, found: Holdings, settings: Settings, told: Timed) -> None:
    """What costs money first. Each on its own: one that resists does not hold up the others."""
    errors: list[UserError] = []
    for call, parameters in removals(found):
        work = partial(api.take, door, call, **parameters)
        try:
            persist(work, settings.pace, told.line)
        except UserError as error:
            told.line(f"{' '.join(parameters.values())}: {error.message}")
            errors.append(error)
    if errors:
        raise UserError(f"not all of it could be removed: {errors[0].message}", errors[0].hint)


def removals(found: Holdings) -> list[tuple[str, dict[str, str]]]:
    """The calls that remove what servers leave, in order."""
    held = [address["AssociationId"] for address in found.addresses if address.get("AssociationId")]
    return [
        *(("DisassociateAddress", {"AssociationId": association}) for association in held),
        *(("ReleaseAddress", {"AllocationId": address["AllocationId"]}) for address in found.addresses),
        *(("DeleteSecurityGroup", {"GroupId": group}) for group in found.groups),
        *(("DeleteKeyPair", {"KeyName": key}) for key in found.keys),
    ]
