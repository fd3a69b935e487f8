"""The file system that the hosts of a fleet share for their certificates (Amazon EFS), and its mount targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.aws import tags
from builder.aws.api import Deadline
from builder.aws.errors import AwsError, is_missing
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.aws.resources.security_group import SecurityGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

_READY_SECONDS: Final = 300.0
_AVAILABLE: Final = "available"
_ENDING: Final = frozenset({"deleting", "deleted"})


class FileSystem(Resource):
    """One for a fleet. Its creation token is the fleet's name: two runs make one."""

    part = "file-system"
    title = "file system"
    json_key = "file_systems"
    id_field = "FileSystemId"
    dry_run = False
    listing, creation, removal = "DescribeFileSystems", "CreateFileSystem", "DeleteFileSystem"

    @classmethod
    def count(cls, request: Request) -> int:
        """One, for a fleet whose spec names no other storage."""
        return 1 if request.shares_files else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Always the same."""
        return "EFS, encrypted, elastic; for the certificates"

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """The one with the token, but for one that is going."""
        del filters
        found = api.items(cls.listing, CreationToken=f"er-{name}")
        return [one for one in found if one.get("LifeCycleState") not in _ENDING and tags.is_of(one, name)]

    def parameters(self) -> dict[str, Any]:
        """Of CreateFileSystem."""
        return {
            "CreationToken": f"er-{self.request.name}",
            "PerformanceMode": "generalPurpose",
            "ThroughputMode": "elastic",
            "Encrypted": True,
            "Tags": self.own_tags(),
        }

    def create(self, api: Api) -> Ids:
        """Mount targets are taken once it is available."""
        (file_system,) = super().create(api)
        _wait(api, lambda: api.items(self.listing, FileSystemId=file_system), "the file system")
        return (file_system,)


class MountTarget(Resource):
    """Where a zone's hosts reach the file system: one in each zone. It has no tags; its file system has."""

    part = "mount-target"
    title = "mount target"
    json_key = "mount_targets"
    id_field = "MountTargetId"
    dry_run = False
    listing, creation, removal = "DescribeMountTargets", "CreateMountTarget", "DeleteMountTarget"

    @classmethod
    def count(cls, request: Request) -> int:
        """One for each zone."""
        return request.zone_count if request.shares_files else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:
        """The zones."""
        return ", ".join(one.zone for one in prerequisites.subnets) if prerequisites else f"{request.zone_count} zones"

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """Those of the fleet's file system."""
        del filters
        systems = [one[FileSystem.id_field] for one in FileSystem.find(api, name)]
        return [target for system in systems for target in _targets(api, system)]

    def find_existing(self, api: Api) -> list[Described]:
        """Those of this file system that lead into a subnet of the launch."""
        wanted = {subnet.id for subnet in self.prerequisites.subnets}
        systems = self.ids.get(FileSystem.part, ())
        return [one for system in systems for one in _targets(api, system) if one["SubnetId"] in wanted]

    def find_new(self, api: Api) -> dict[str, Described]:
        """All, where this run has made the file system."""
        (system,) = self.ids[FileSystem.part]
        own = [tags.read(one).get(tags.RUN) for one in api.items(FileSystem.listing, FileSystemId=system)]
        found = {one[self.id_field]: one for one in _targets(api, system)}
        return found if own == [self.prerequisites.run] else {one: found[one] for one in self.created if one in found}

    def parameters(self, subnet: str = "") -> dict[str, Any]:
        """Of CreateMountTarget."""
        return {
            "FileSystemId": self.ids[FileSystem.part][0],
            "SubnetId": subnet,
            "SecurityGroups": [*self.ids[SecurityGroup.part]],
        }

    def create(self, api: Api) -> Ids:
        """One in each subnet that has none; then wait until hosts can mount."""
        there = {one["SubnetId"] for one in self.found}
        for subnet in (one.id for one in self.prerequisites.subnets if one.id not in there):
            answer = api.call(self.creation, **self.parameters(subnet))
            self.created.add(answer[self.id_field])
        (system,) = self.ids[FileSystem.part]
        _wait(api, lambda: _targets(api, system), "the mount targets")
        return self.usable(_targets(api, system))

    @classmethod
    def wait_until_gone(cls, api: Api, described: Sequence[Described]) -> None:
        """A file system goes after them."""
        systems = {one["FileSystemId"] for one in described if "FileSystemId" in one}
        gone = lambda: not any(_targets(api, system) for system in systems)  # noqa: E731
        Deadline(_READY_SECONDS, api.backoff).until(gone, "the mount targets to go")

    @classmethod
    def line(cls, described: Described) -> str:
        """With its zone."""
        return f"{described[cls.id_field]} {described.get('AvailabilityZoneName', '')}".strip()


def _targets(api: Api, system: str) -> list[Described]:
    try:
        return api.items(MountTarget.listing, FileSystemId=system)
    except AwsError as error:
        if not is_missing(error):
            raise
        return []


def _wait(api: Api, listed: Callable[[], list[Described]], what: str) -> None:
    def ready() -> bool:
        return all(one.get("LifeCycleState") == _AVAILABLE for one in listed())

    Deadline(_READY_SECONDS, api.backoff).until(ready, f"{what} to be available")
