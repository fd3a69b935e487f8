"""Elastic IPs: addresses that stay when a server is stopped; one for each server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.aws.resources.instance import Instance
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request


class Address(Resource):
    """An Elastic IP, if they are asked for."""

    part = "address"
    title = "address"
    json_key = "addresses"
    id_field = "AllocationId"
    shared = False
    listing, creation, removal = "DescribeAddresses", "AllocateAddress", "ReleaseAddress"

    @classmethod
    def count(cls, request: Request) -> int:
        """One for each server."""
        return request.options.count if request.eip else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Always the same."""
        return "Elastic IP"

    def parameters(self) -> dict[str, Any]:
        """Of AllocateAddress, for one."""
        return {"Domain": "vpc", "TagSpecifications": self.tag_specifications("elastic-ip")}

    def create(self, api: Api) -> Ids:
        """Give every server one. One that an interrupted run left over is used first."""
        free = [one for one in self.found if not one.get("InstanceId")]
        without = sorted(set(self.ids[Instance.part]) - {one.get("InstanceId") for one in self.found})
        for server_id in without:
            address = (free.pop(0) if free else self.create_one(api))[self.id_field]
            api.call("AssociateAddress", AllocationId=address, InstanceId=server_id, AllowReassociation=False)
        return tuple({*self.usable(self.found)} | self.created)

    def create_one(self, api: Api) -> Described:
        """Holds Ctrl-C back until the new id is known."""
        with shielded():
            return super().create_one(api)

    @classmethod
    def deletion(cls, described: Sequence[Described]) -> list[tuple[str, dict[str, Any]]]:
        """Disassociate, then release."""
        associations = [one["AssociationId"] for one in described if one.get("AssociationId")]
        dissociation = [("DisassociateAddress", {"AssociationId": association}) for association in associations]
        return [*dissociation, *super().deletion(described)]

    @classmethod
    def line(cls, described: Described) -> str:
        """The address and its id."""
        return f"{described.get('PublicIp', '')} {described[cls.id_field]}"


def holder(api: Api, allocation: str) -> str | None:
    """The instance that has this address."""
    (found,) = api.items("DescribeAddresses", AllocationIds=[allocation])
    return found.get("InstanceId")


def associate(api: Api, allocation: str, instance_id: str) -> None:
    """Take it to this instance, whoever has it; one that has it already keeps it."""
    if holder(api, allocation) != instance_id:
        api.call("AssociateAddress", AllocationId=allocation, InstanceId=instance_id, AllowReassociation=True)
