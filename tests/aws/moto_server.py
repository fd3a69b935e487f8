"""moto's server, mended: CreateImage tags the image's snapshot too, as EC2 does and a current Packer asks it to."""

from __future__ import annotations

from typing import Any

from moto.ec2.models.amis import Ami, AmiBackend
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

if __name__ == "__main__":
    main()
