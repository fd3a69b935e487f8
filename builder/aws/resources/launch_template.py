"""The launch template of a fleet, by which its group makes hosts, and the numbered versions of it.

A version is never changed: its description is the digest of what is in it. By that a second run finds it, and an older
spec leads back to the older version.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any, Final

from builder.aws import host_spec, tags
from builder.aws.resources.file_system import FileSystem
from builder.aws.resources.instance import disk_mapping, disk_size, metadata_options
from builder.aws.resources.key_pair import KeyPair
from builder.aws.resources.lifecycle import Described, Ids, Resource
from builder.aws.resources.role import InstanceProfile
from builder.aws.resources.security_group import SecurityGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request


class LaunchTemplate(Resource):
    """One for a fleet."""

    part = "launch-template"
    title = "launch template"
    json_key = "launch_templates"
    id_field = "LaunchTemplateId"
    listing, creation, removal = "DescribeLaunchTemplates", "CreateLaunchTemplate", "DeleteLaunchTemplate"

    @classmethod
    def count(cls, request: Request) -> int:
        """One, for a fleet."""
        return 1 if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:
        """Type, image and disk of its hosts."""
        if prerequisites is None:
            return (
                f"{request.type}, newest baked image of {request.spec.server.base}, {request.disk} GiB gp3, encrypted"
            )
        found = prerequisites.image
        size = disk_size(found, request.disk)
        return f"{prerequisites.instance_type.name}, image {found.id} ({found.name}), {size} GiB gp3, encrypted"

    def parameters(self) -> dict[str, Any]:
        """Of CreateLaunchTemplate, with its first version."""
        return {
            "LaunchTemplateName": f"er-{self.request.name}",
            **_version(self.prerequisites, self.ids),
            "TagSpecifications": self.tag_specifications("launch-template"),
        }

    def create_one(self, api: Api) -> Described:
        """One call; the description is in its answer."""
        answer: Described = api.call(self.creation, **self.parameters())["LaunchTemplate"]
        self.created.add(answer[self.id_field])
        return answer


class LaunchTemplateVersion(Resource):
    """The version that hosts of this spec and image are made by. Versions go with their template."""

    part = "launch-template-version"
    title = "version of the launch template"
    json_key = "launch_template_versions"
    id_field = "VersionNumber"
    dry_run = False
    listing, creation, removal = "DescribeLaunchTemplateVersions", "CreateLaunchTemplateVersion", ""

    @classmethod
    def count(cls, request: Request) -> int:
        """One, for a fleet."""
        return 1 if request.spec.fleet else 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """What makes a new one."""
        return "of this spec and image"

    def find_existing(self, api: Api) -> list[Described]:
        """The one with the digest."""
        wanted = _version(self.prerequisites, self.ids)["VersionDescription"]
        return [one for one in versions(api, self.request.name) if one.get("VersionDescription") == wanted][:1]

    @classmethod
    def usable(cls, described: Iterable[Described]) -> Ids:
        """Their numbers, as an Auto Scaling group writes them."""
        return tuple(str(one[cls.id_field]) for one in described)

    def parameters(self) -> dict[str, Any]:
        """Of CreateLaunchTemplateVersion."""
        version = _version(self.prerequisites, self.ids)
        (template,) = self.ids.get(LaunchTemplate.part) or ("",)
        return {"LaunchTemplateId": template, "ClientToken": version["VersionDescription"], **version}

    def look(self, api: Api) -> Ids:
        """A template that is yet to be made has its first version from its creation on."""
        if self.ids.get(LaunchTemplate.part):
            return super().look(api)
        self.missing = 1
        return ()

    def create_one(self, api: Api) -> Described:
        """One call. A version that a failed launch leaves behind costs nothing, and is the next one's."""
        answer: Described = api.call(self.creation, **self.parameters())["LaunchTemplateVersion"]
        return answer

    def find_new(self, api: Api) -> dict[str, Described]:
        """None that would have to go."""
        del api
        return {}


def versions(api: Api, name: str) -> list[Described]:
    """All of a fleet's template."""
    return api.items(LaunchTemplateVersion.listing, LaunchTemplateName=f"er-{name}")


_LONGEST_DIGEST: Final = 32


def _version(prerequisites: Prerequisites, ids: Mapping[str, Ids]) -> dict[str, Any]:
    """Data and description of the version."""
    data = _data(prerequisites, ids)
    text = json.dumps(data, sort_keys=True).encode()
    return {"LaunchTemplateData": data, "VersionDescription": hashlib.sha256(text).hexdigest()[:_LONGEST_DIGEST]}


def _data(prerequisites: Prerequisites, ids: Mapping[str, Ids]) -> dict[str, Any]:
    """What a host is made by. Without the ids of the parts before it, it is good for a dry run only."""
    request, image = prerequisites.request, prerequisites.image
    system, group, key, profile = (
        next(iter(ids.get(kind.part, ())), None) for kind in (FileSystem, SecurityGroup, KeyPair, InstanceProfile)
    )
    user_data = prerequisites.user_data_of_hosts(system or host_spec.SOME_FILE_SYSTEM)
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": True, **({"Groups": [group]} if group else {})}
    more = {tags.ADMIN: request.spec.admin.name, tags.SPEC: request.digests}
    # A secret that was set anew makes another version, by which hosts are replaced that have the former value.
    more |= {tags.SECRETS: prerequisites.secrets} if prerequisites.secrets else {}
    of_host = tags.of(request.name, tags.HOST, **more)
    return {
        "ImageId": image.id,
        "InstanceType": request.type,
        "UserData": base64.b64encode(user_data).decode("ascii"),
        "BlockDeviceMappings": [disk_mapping(image, request.disk)],
        "NetworkInterfaces": [interface],
        "MetadataOptions": metadata_options(ipv6=False),
        "TagSpecifications": tags.specification(("instance", "volume", "network-interface"), of_host),
        **({"KeyName": key} if key else {}),
        **({"IamInstanceProfile": {"Name": profile}} if profile else {}),
    }


def differences(made_by: Described, wanted: Described) -> list[str]:
    """In which words two versions differ, as `er servers` says it."""
    old, new = made_by.get("LaunchTemplateData", {}), wanted.get("LaunchTemplateData", {})
    named = {"ImageId": "image", "UserData": "user-data", "InstanceType": "type"}
    found = [
        f"{word} {old[key]}" if key == "ImageId" else word
        for key, word in named.items()
        if old.get(key) != new.get(key)
    ]
    others = {key for key in {*old, *new} - named.keys() if old.get(key) != new.get(key)}
    # Tags tell of the spec, which user-data comes from, and of secrets.
    return found or [
        *["secrets"] * (others == {"TagSpecifications"}),
        *["settings"] * bool(others - {"TagSpecifications"}),
    ]
