"""moto's server, mended.

CreateImage tags the image's snapshot too, as EC2 does and a current Packer asks it to. A role that is to be taken out
of an instance profile, and is not in it, is not found, as IAM has it. RunInstances knows its client tokens and protects
from termination, as EC2's does. Route 53 refuses to create a record that is there and to delete one that is not. An
Elastic IP stays with a server that is stopped and started, and leaves one when another gets it.
"""

from __future__ import annotations

from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.models.elastic_ip_addresses import ElasticAddressBackend
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend
from moto.route53.exceptions import Route53ClientError
from moto.route53.models import Route53Backend
from moto.server import main

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

if __name__ == "__main__":
    main()
