"""The volume for data: it outlives its servers, and moves from one to the next. Its snapshots.

The host finds it, makes a file system on an empty one, and takes up what is there: see `data:` of the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.api import Deadline
from builder.aws.resources import instance
from builder.aws.resources.instance import Instance
from builder.aws.resources.lifecycle import Described, Ids, Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

# What the instance calls it does not matter: the host looks at what is on it.
_DEVICE: Final = "/dev/sdf"
_ATTACH_SECONDS: Final = 120.0


class DataVolume(Resource):
    """The volume, where the spec has a disk for data that er may choose."""

    part = "data"
    title = "data volume"
    json_key = "data_volumes"
    id_field = "VolumeId"
    shared = False
    listing, creation, removal = "DescribeVolumes", "CreateVolume", "DeleteVolume"

    @classmethod
    def count(cls, request: Request) -> int:
        """One or none."""
        return 1 if request.has_data_volume else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Size and kind."""
        return f"{request.data_size} GiB gp3, encrypted, stays when the server goes"

    def parameters(self) -> dict[str, Any]:
        """Of CreateVolume, in the zone of the first subnet."""
        return {
            "AvailabilityZone": self.prerequisites.subnet.zone,
            "Size": self.request.data_size,
            "VolumeType": "gp3",
            "Encrypted": True,
            "TagSpecifications": self.tag_specifications("volume"),
        }

    def create(self, api: Api) -> Ids:
        """Create it beside the server, if need be, and attach it."""
        (server,) = instance.describe(api, self.ids[Instance.part])
        volume = self.found[0] if self.found else self._create_in(api, server.zone)
        attach(api, volume[self.id_field], server.id)
        return (volume[self.id_field],)

    def _create_in(self, api: Api, zone: str) -> Described:
        answer: Described = api.call(self.creation, **self.parameters() | {"AvailabilityZone": zone})
        self.created.add(answer[self.id_field])
        return answer

    @classmethod
    def line(cls, described: Described) -> str:
        """Its id, size and zone."""
        size, zone = described.get("Size", "?"), described.get("AvailabilityZone", "")
        return f"{described[cls.id_field]} {size} GiB in {zone}"


class Snapshot(Resource):
    """A snapshot of the data volume, made when a server is replaced; a launch makes none."""

    part = "snapshot"
    title = "snapshot"
    json_key = "snapshots"
    id_field = "SnapshotId"
    listing, creation, removal = "DescribeSnapshots", "CreateSnapshot", "DeleteSnapshot"

    @classmethod
    def count(cls, request: Request) -> int:  # noqa: ARG003
        """None."""
        return 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Always the same."""
        return "the data before the move"

    def parameters(self) -> dict[str, Any]:
        """A launch has no use for any."""
        raise NotImplementedError


def take_snapshot(api: Api, volume_id: str, server: str, taker: str) -> str:
    """Take the one of a replacement, by the instance that gets the volume; that it is begun is enough. Its id."""
    found = Snapshot.find(api, server, **{f"tag:{tags.TAKER}": taker})
    if found:
        return str(found[0]["SnapshotId"])
    return str(api.call("CreateSnapshot", **snapshot_parameters(volume_id, server, taker))["SnapshotId"])


def snapshot_parameters(volume_id: str, server: str, taker: str) -> dict[str, Any]:
    """Of CreateSnapshot."""
    ours = tags.specification(["snapshot"], tags.of(server, Snapshot.part, **{tags.TAKER: taker}))
    description = f"EasyRunner server {server} before it was replaced"
    return {"VolumeId": volume_id, "Description": description, "TagSpecifications": ours}


def attach(api: Api, volume_id: str, instance_id: str) -> None:
    """Attach it and wait until it is; that may be done already. Raises AwsError, NotInTimeError."""
    if _holder(_read(api, volume_id)) != instance_id:
        _wait(api, volume_id, lambda one: one["State"] == "available", "the data volume to be free")
        api.call("AttachVolume", **attach_parameters(volume_id, instance_id))
    _wait(api, volume_id, lambda one: _state(one) == "attached", "the data volume to be attached")


def attach_parameters(volume_id: str, instance_id: str) -> dict[str, Any]:
    """Of AttachVolume."""
    return {"VolumeId": volume_id, "InstanceId": instance_id, "Device": _DEVICE}


def detach(api: Api, volume_id: str, instance_id: str) -> None:
    """Detach it from this instance, which has to be stopped: then nothing on it is mounted."""
    if _holder(_read(api, volume_id)) == instance_id:
        api.call("DetachVolume", VolumeId=volume_id, InstanceId=instance_id)
        _wait(api, volume_id, lambda one: _holder(one) != instance_id, "the data volume to be detached")


def holder(api: Api, volume_id: str) -> str | None:
    """The instance that has it."""
    return _holder(_read(api, volume_id))


def _read(api: Api, volume_id: str) -> Described:
    (found,) = api.items("DescribeVolumes", VolumeIds=[volume_id])
    return found


def _attachment(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    return next((one for one in volume.get("Attachments", ()) if one.get("State") != "detached"), {})


def _holder(volume: Mapping[str, Any]) -> str | None:
    return _attachment(volume).get("InstanceId")


def _state(volume: Mapping[str, Any]) -> str | None:
    return _attachment(volume).get("State")


def _wait(api: Api, volume_id: str, condition: Callable[[Described], bool], what: str) -> None:
    Deadline(_ATTACH_SECONDS, api.backoff).until(lambda: condition(_read(api, volume_id)), what)
