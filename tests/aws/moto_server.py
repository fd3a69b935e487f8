"""moto's server, mended.

CreateImage tags the image's snapshot too, as EC2 does and a current Packer asks it to. A role that is to be taken out
of an instance profile, and is not in it, is not found, as IAM has it.
"""

from __future__ import annotations

from typing import Any

from moto.ec2.models.amis import Ami, AmiBackend
from moto.iam.exceptions import NotFoundException
from moto.iam.models import IAMBackend
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

if __name__ == "__main__":
    main()
