"""What a release is to run: each image found in the store of its stack, or pulled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from builder.server.remote import common, release_record
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.server.remote.changed_files import Change
    from builder.server.remote.common import Value


class Wanted(NamedTuple):
    """What a service is to run: the id, the name in its unit (none for the spec's image), the entry of the record."""

    id: str
    name: str
    entry: Value


def fetch(stack: str, change: Change, images: Mapping[str, str], release: Value | None) -> dict[str, Wanted]:
    """Find each image in the store of the stack, or pull it; of a `release` that runs again, by its id.

    `images` are names by service, an empty one is the spec's. Nothing that runs changes.
    """
    found = {}
    every = release_record.store(stack)
    for service, name in images.items():
        asked = name or release_record.of_spec(stack, service)
        again = (release or {}).get("images", {}).get(service)
        image = release_record.find(every, asked)
        if again:
            image = next((one for one in every if one.id == again["id"]), None)
        elif not asked.startswith("localhost/") and (name or image is None):
            change.set_state("fetching the image", image=asked)
            image = pulled(stack, asked)
        if image is None:
            raise RemoteError(f"{stack} has no image {asked}; nothing was changed")
        entry = release_record.entry(stack, service, image, again["image"] if again else asked)
        of_spec = release_record.find(every, release_record.of_spec(stack, service))
        is_spec = not name or (again is not None and of_spec is not None and of_spec.id == image.id)
        found[service] = Wanted(image.id, "" if is_spec else entry["name"], entry)
    return found


# How long a registry may take to give an image, in seconds.
_PULL: Final = 1800


def pulled(stack: str, name: str) -> release_record.Image:
    """Pull an image as the stack does; a tag that the spec names goes on naming what it named."""
    old = release_record.find(release_record.store(stack), name)
    limit = f"--property=RuntimeMaxSec={_PULL}"
    unit = ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", limit]
    user = common.user_of(stack)
    try:
        new = common.as_user(user, [*unit, "podman", "--log-level=error", "pull", "--quiet", name], timeout=_PULL + 60)
    except RemoteError as error:
        said = str(error).partition("Error: ")[2] or str(error)
        raise RemoteError(f"{name} cannot be fetched: {said}; nothing was changed") from None
    number = new.split()[-1] if new.split() else ""
    image = next((one for one in release_record.store(stack) if one.id == number), None)
    if image is None:
        raise RemoteError(f"{name} was fetched and is not there; nothing was changed")
    if old is not None and old.id != image.id:
        common.as_user(user, ["podman", "tag", old.id, name])
    return image
