"""The tags by which er knows its own: everything it makes carries them from the moment of its creation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROJECT: Final = "er:project"
SERVER: Final = "er:server"
PART: Final = "er:part"
ADMIN: Final = "er:admin"
ZONES: Final = "er:zones"
BASE: Final = "er:base"
ARCH: Final = "er:arch"
OURS: Final = "easyrunner"
IMAGE: Final = "image"

Filter = dict[str, Any]


def of(server: str, part: str, **more: str) -> dict[str, str]:
    """The tags of one part of a server."""
    return {"Name": server, PROJECT: OURS, SERVER: server, PART: part, **more}


def specification(kinds: Iterable[str], tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """As a TagSpecifications parameter, for every kind of resource that one call makes."""
    listed = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return [{"ResourceType": kind, "Tags": listed} for kind in kinds]


def filters(server: str | None = None, part: str | None = None, **more: str) -> list[Filter]:
    """What finds things of ours: of all servers, or of one, or one part of it; `more` are filters of the call."""
    wanted = {PROJECT: OURS, SERVER: server, PART: part}
    found = [{"Name": f"tag:{key}", "Values": [value]} for key, value in wanted.items() if value is not None]
    return found + [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in more.items()]


def read(thing: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a described resource."""
    return {tag["Key"]: tag["Value"] for tag in thing.get("Tags", ())}


def image(base: str, arch: str) -> dict[str, str]:
    """The tags of an image that er bakes: by these a launch finds it."""
    return {PROJECT: OURS, PART: IMAGE, BASE: base, ARCH: arch}
