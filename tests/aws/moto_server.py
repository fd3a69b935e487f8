"""moto's server, mended.

CreateImage tags the image's snapshot too, as EC2 does and a current Packer asks it to. A role that is to be taken out
of an instance profile, and is not in it, is not found, as IAM has it. RunInstances knows its client tokens and protects
from termination, as EC2's does. Route 53 refuses to create a record that is there and to delete one that is not. An
Elastic IP stays with a server that is stopped and started, and leaves one when another gets it. A snapshot takes a
while, no volume is made of one before it is stored, and a volume can be attached in its own zone only.

It does not look anew for each request which services and operations it has, which takes it half of the time. On SIGUSR1
it forks, and what is done from then on is the child's: once that is killed, all is as it was.
"""

from __future__ import annotations

import ctypes
import os
import signal
from functools import cache
from typing import TYPE_CHECKING, Any

from moto import backends
from moto.core import responses
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot, Volume
from moto.ec2.models.elastic_ip_addresses import ElasticAddressBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend
from moto.moto_server.werkzeug_app import DomainDispatcherApplication
from moto.route53.exceptions import Route53ClientError
from moto.route53.models import Route53Backend
from moto.server import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_create_image = AmiBackend.create_image


def create_image(
    self: AmiBackend, instance_id: str, name: str, description: str, tag_specifications: list[dict[str, Any]]
) -> Ami:
    """As moto 5.2 has it, which answers 500 to a specification for the snapshot."""
    of_snapshot = [one for one in tag_specifications if one["ResourceType"] == "snapshot"]
    others = [one for one in tag_specifications if one["ResourceType"] != "snapshot"]
    ami = _create_image(self, instance_id, name, description, others)
    for tag in (tag for one in of_snapshot for tag in one["Tags"]):
        ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
    return ami


AmiBackend.create_image = create_image  # type: ignore[method-assign]

_remove_role = IAMBackend.remove_role_from_instance_profile


def remove_role_from_instance_profile(self: IAMBackend, profile_name: str, role_name: str) -> None:
    """moto answers 500 to a role that is not in it."""
    if role_name not in [role.name for role in self.get_instance_profile(profile_name).roles]:
        raise NotFoundException(f"Role {role_name} in Instance Profile {profile_name} cannot be found.")
    _remove_role(self, profile_name, role_name)


IAMBackend.remove_role_from_instance_profile = remove_role_from_instance_profile  # type: ignore[method-assign]

_run_instances = InstanceResponse.run_instances
# Of a request, what is new each time that it is sent.
_UNSIGNED = ("Action", "Version")


class ParameterMismatchError(EC2ClientError):
    """EC2's answer to a client token that another request had."""

    def __init__(self) -> None:
        super().__init__("IdempotentParameterMismatch", "The client token was used with other parameters")


def run_instances(self: InstanceResponse) -> ActionResult:
    """The same request with the same token gets the same instances, another request with it an error."""
    said = {name: values for name, values in self.querystring.items() if name not in _UNSIGNED}
    client_token = self._get_param("ClientToken")
    # Forgotten with everything else when moto is reset.
    answered = self.ec2_backend.__dict__.setdefault("answered_tokens", {})
    if client_token in answered and not self._get_param("DryRun"):
        before, first = answered[client_token]
        if before != said:
            raise ParameterMismatchError
        return ActionResult(first)
    result = _run_instances(self)
    reservation: Any = result.result
    if self._get_param("DisableApiTermination"):
        for instance in reservation.instances:
            instance.disable_api_termination = True
    if client_token:
        answered[client_token] = (said, reservation)
    return result


InstanceResponse.run_instances = run_instances  # type: ignore[method-assign]

_change_record_sets = Route53Backend.change_resource_record_sets


def change_resource_record_sets(self: Route53Backend, zoneid: str, change_list: list[dict[str, Any]]) -> None:
    """All changes of a batch or none, each held against what the zone has by then."""
    there = {(one.name, one.type): tuple(sorted(one.records)) for one in self.get_hosted_zone(zoneid).rrsets}
    for change in change_list:
        record = change["ResourceRecordSet"]
        key = (record["Name"], record["Type"])
        values = tuple(sorted(one["Value"] for one in record.get("ResourceRecords", ())))
        name = f"[name='{key[0]}', type='{key[1]}']"
        if change["Action"] == "CREATE" and key in there:
            raise Route53ClientError("InvalidChangeBatch", f"[Tried to create {name} but it already exists]")
        if change["Action"] == "DELETE" and there.pop(key, None) != values:
            raise Route53ClientError("InvalidChangeBatch", f"[Tried to delete {name} but it was not found]")
        if change["Action"] != "DELETE":
            there[key] = values
    _change_record_sets(self, zoneid, change_list)


Route53Backend.change_resource_record_sets = change_resource_record_sets  # type: ignore[method-assign]

_associate_address = ElasticAddressBackend.associate_address


def associate_address(self: ElasticAddressBackend, *args: Any, **more: Any) -> Any:
    """moto gives a server that starts another address, and lets the former one go on showing this one."""
    before = {address.allocation_id: address.eni for address in self.describe_addresses()}
    address: Any = _associate_address(self, *args, **more)
    former = before[address.allocation_id]
    if former and former is not address.eni:
        former.public_ip = None
    address.eni.public_ip_auto_assign = False
    return address


ElasticAddressBackend.associate_address = associate_address  # type: ignore[method-assign]

_create_snapshot, _describe_snapshots = EBSBackend.create_snapshot, EBSBackend.describe_snapshots
_create_volume, _attach_volume = EBSBackend.create_volume, EBSBackend.attach_volume


def create_snapshot(self: EBSBackend, *args: Any, **more: Any) -> Snapshot:
    """It is under way until it was asked about twice."""
    made = _create_snapshot(self, *args, **more)
    if not made.from_ami:
        made.status = "pending"
        made.asked = 0  # type: ignore[attr-defined]
    return made


def describe_snapshots(self: EBSBackend, *args: Any, **more: Any) -> list[Snapshot]:
    found = _describe_snapshots(self, *args, **more)
    for one in (one for one in found if one.status == "pending"):
        one.asked += 1  # type: ignore[attr-defined]
        one.status = "pending" if one.asked < 2 else "completed"  # type: ignore[attr-defined]
    return found


def create_volume(self: EBSBackend, size: Any, zone_name: str, snapshot_id: Any = None, **more: Any) -> Volume:
    """EC2 refuses it for a snapshot that is under way."""
    if snapshot_id and self.get_snapshot(snapshot_id).status != "completed":
        raise EC2ClientError("IncorrectState", f"Snapshot {snapshot_id} is not completed")
    return _create_volume(self, size, zone_name, snapshot_id, **more)


def attach_volume(self: EBSBackend, volume_id: str, instance_id: str, *args: Any, **more: Any) -> Any:
    instance: Any = self.get_instance(instance_id)  # type: ignore[attr-defined]
    where = (self.get_volume(volume_id).zone.name, instance.placement.zone)
    if len(set(where)) > 1:
        raise EC2ClientError("InvalidVolume.ZoneMismatch", "The volume is not in the zone of the instance")
    return _attach_volume(self, volume_id, instance_id, *args, **more)


EBSBackend.create_snapshot = create_snapshot  # type: ignore[method-assign]
EBSBackend.describe_snapshots = describe_snapshots  # type: ignore[method-assign]
EBSBackend.create_volume = create_volume  # type: ignore[assignment,method-assign]
EBSBackend.attach_volume = attach_volume  # type: ignore[method-assign]
Snapshot.progress = property(lambda one: "100%" if one.status == "completed" else "50%")  # type: ignore[assignment]

vars(responses)["method_names_from_class"] = cache(vars(responses)["method_names_from_class"])
_modules = tuple(backends.list_of_moto_modules())
backends.list_of_moto_modules = lambda: _modules

_PR_SET_PDEATHSIG = 1
_dispatch = DomainDispatcherApplication.__call__


def call(self: DomainDispatcherApplication, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """Who asks for it gets the id of the process that answers."""
    if environ["PATH_INFO"] != "/moto-api/process":
        return _dispatch(self, environ, start_response)
    start_response("200 OK", [("Content-Type", "text/plain")])
    said: Iterable[bytes] = [b"%d" % os.getpid()]
    return said


def go_on_in_a_child(*_: object) -> None:
    """The parent waits, in the main thread, which is the one that accepts connections."""
    if child := os.fork():
        os.waitpid(child, 0)
    else:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    DomainDispatcherApplication.__call__ = call  # type: ignore[method-assign]
    signal.signal(signal.SIGUSR1, go_on_in_a_child)
    main()
