"""The volume for data: it outlives its servers, and moves from one to the next. Its snapshots, and its copy.

The host finds it, makes a file system on an empty one, and takes up what is there: see `data:` of the spec.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.api import Deadline
from builder.aws.resources import instance
from builder.aws.resources.instance import Instance
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request
    from builder.aws.resources.instance import Server

# What the instance calls it does not matter: the host looks at what is on it.
_DEVICE: Final = "/dev/sdf"
_ATTACH_SECONDS: Final = 120.0
# In the tag er:part: a copy whose server does not serve yet; and a volume that has the data no more, while another has.
COPY: Final = "data-copy"
FORMER: Final = "former-data"
_TENTHS: Final = 10


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

    @classmethod
    def find_all(cls, api: Api, name: str) -> list[Described]:
        """With copies, and with those that are kept of former servers."""
        found = api.items(cls.listing, Filters=tags.filters(name))
        return [one for one in found if part_of(one) in {cls.part, COPY, FORMER}]

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
        kind = {COPY: " (copy)", FORMER: " (former)"}.get(part_of(described), "")
        return f"{described[cls.id_field]} {size} GiB in {zone}{kind}"


def part_of(described: Described) -> str:
    """The value of its tag er:part."""
    return tags.read(described).get(tags.PART, "")


def former(found: Iterable[Described]) -> list[Described]:
    """Those that have the data no more."""
    return [one for one in found if part_of(one) == FORMER]


def of_pair(found: Iterable[Described], old: str | None, new: str | None) -> list[Described]:
    """The volume that a replacement begins with, of all of a server; `old` and `new` are the ids of its instances.

    The copy for the new one is none; by the last steps its own is the former one already, and still with the old one.
    """
    others = [one for one in found if not new or tags.read(one).get(tags.TAKER) != new]
    own = [one for one in others if part_of(one) == DataVolume.part]
    return own or [one for one in former(others) if old and _holder(one) == old]


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


def take_snapshot(api: Api, volume_id: str, server: str, taker: str, key: str = tags.TAKER) -> str:
    """Take the one of a replacement, by the instance that gets the data; that it is begun is enough. Its id.

    It is known by the tag `key`, TAKER or AHEAD.
    """
    found = Snapshot.find(api, server, **{f"tag:{key}": taker})
    if found:
        return str(found[0]["SnapshotId"])
    return str(api.call("CreateSnapshot", **snapshot_parameters(volume_id, server, taker, key))["SnapshotId"])


def snapshot_parameters(volume_id: str, server: str, taker: str, key: str = tags.TAKER) -> dict[str, Any]:
    """Of CreateSnapshot."""
    ours = tags.specification(["snapshot"], tags.of(server, Snapshot.part, **{key: taker}))
    description = f"EasyRunner server {server} before it was replaced"
    return {"VolumeId": volume_id, "Description": description, "TagSpecifications": ours}


def taken_at(api: Api, server: str, taker: str) -> float | None:
    """When the snapshot for this instance was taken, in seconds since 1970; None where there is none."""
    found = Snapshot.find(api, server, **{f"tag:{tags.TAKER}": taker})
    return found[0]["StartTime"].timestamp() if found else None


def wait_until_stored(api: Api, snapshot_id: str, deadline: Deadline, report: Callable[[str], object]) -> None:
    """Wait until a volume can be made of it; `report` gets a line every tenth. Raises UserError, NotInTimeError."""
    told = 0

    def stored() -> bool:
        nonlocal told
        named = [{"Name": "snapshot-id", "Values": [snapshot_id]}]
        found = next(iter(api.items("DescribeSnapshots", Filters=named)), {})
        if found.get("State") == "error":
            why = found.get("StateMessage") or "no reason given"
            raise UserError(f"AWS could not take the snapshot {snapshot_id}: {why}", "the same command begins anew")
        tenths = int(found.get("Progress", "").rstrip("%") or 0) // 10
        if told < tenths < _TENTHS:
            report(f"{snapshot_id}: {tenths}0 % stored")
        told = max(told, tenths)
        return found.get("State") == "completed"

    deadline.until(stored, f"the snapshot {snapshot_id} to be stored")


def copy_for(api: Api, server: str, taker: str) -> Described | None:
    """The copy of the volume that was made for this instance."""
    found = DataVolume.find_all(api, server)
    return next((one for one in found if tags.read(one).get(tags.TAKER) == taker), None)


def create_copy(api: Api, volume_id: str, snapshot_id: str, server: str, taker: Server) -> str:
    """Make the data anew from a snapshot that is stored, in the zone of the instance that gets it. The copy's id.

    EC2 does not list at once what was made a moment ago: the client token keeps it from making a second one.
    """
    if found := copy_for(api, server, taker.id):
        return str(found["VolumeId"])
    made_from = {"SnapshotId": snapshot_id, "ClientToken": f"er-{taker.id}-{snapshot_id}"}
    parameters = copy_parameters(api, volume_id, server, taker.zone, taker.id)
    return str(api.call("CreateVolume", **parameters, **made_from)["VolumeId"])


def copy_parameters(api: Api, volume_id: str, server: str, zone: str, taker: str) -> dict[str, Any]:
    """Of CreateVolume, but for the snapshot: as large and as fast as the volume is."""
    volume = _read(api, volume_id)
    speed = {key: volume[key] for key in ("Iops", "Throughput") if volume["VolumeType"] == "gp3" and volume.get(key)}
    return {
        "AvailabilityZone": zone,
        "Size": volume["Size"],
        "VolumeType": "gp3",
        "Encrypted": True,
        "TagSpecifications": tags.specification(["volume"], tags.of(server, COPY, **{tags.TAKER: taker})),
        **speed,
    }


def delete_copy(api: Api, server: str, taker: str) -> None:
    """Delete the copy that was made for this instance, if there is one; the instance has to be stopped."""
    if found := copy_for(api, server, taker):
        if _holder(found) == taker:
            detach(api, found["VolumeId"], taker)
        api.delete("DeleteVolume", VolumeId=found["VolumeId"])


def mark(api: Api, volume_id: str, wanted: str) -> None:
    """Give it this er:part, if it has another."""
    if part_of(_read(api, volume_id)) != wanted:
        api.call("CreateTags", Resources=[volume_id], Tags=[{"Key": tags.PART, "Value": wanted}])


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
