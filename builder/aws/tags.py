"""The tags by which er finds what it has created: every resource has them from its creation on."""

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
PACKAGES: Final = "er:packages"
BAKED: Final = "er:baked"
# The run of `er launch` that has made it.
RUN: Final = "er:run"
# What the server was made from, and that it was to have an Elastic IP.
SPEC: Final = "er:spec"
EIP: Final = "er:eip"
# Of a host of a fleet, which secrets there were for it, as a digest.
SECRETS: Final = "er:secrets"
# Its data was to come from the backup.
RESTORE: Final = "er:restore"
# Of a replacement: on a snapshot and on a copy of the volume, the instance that was to get the data; on a snapshot that
# was taken while the old instance served, the same; on that instance, that it is given up.
TAKER: Final = "er:taker"
AHEAD: Final = "er:ahead"
GIVEN_UP: Final = "er:given-up"
OURS: Final = "easyrunner"
IMAGE: Final = "image"
# The part of an instance that is a host of a fleet.
HOST: Final = "host"

Filter = dict[str, Any]


def of(server: str, part: str, **more: str) -> dict[str, str]:
    """The tags of one resource of a server; `part` says of which kind."""
    return {"Name": server, PROJECT: OURS, SERVER: server, PART: part, **more}


def specification(types: Iterable[str], tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """As a TagSpecifications parameter, for every type of resource that one call creates."""
    return [{"ResourceType": type_, "Tags": as_list(tags)} for type_ in types]


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """As most services take and show them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def filters(server: str | None = None, part: str | None = None, **more: str) -> list[Filter]:
    """Filters for what er created: of all servers, of one, or one kind of it; `more` are filters of the call."""
    tags = {PROJECT: OURS, SERVER: server, PART: part}
    found = [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items() if value is not None]
    return found + [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in more.items()]


def read(described: Mapping[str, Any]) -> dict[str, str]:
    """The tags of a described resource."""
    return {tag["Key"]: tag["Value"] for tag in described.get("Tags", ())}


def is_of(described: Mapping[str, Any], server: str) -> bool:
    """Whether a resource that was found by its name is er's, and this server's."""
    found = read(described)
    return (found.get(PROJECT), found.get(SERVER)) == (OURS, server)


def image(base: str, arch: str, packages: Iterable[str] = (), baked: str = "") -> dict[str, str]:
    """The tags of an image that er bakes: by these a launch finds it.

    `packages` are those that not every host has, `baked` is the digest of what was baked in for every host.
    """
    extra = ({PACKAGES: " ".join(packages)} if packages else {}) | ({BAKED: baked} if baked else {})
    return {PROJECT: OURS, PART: IMAGE, BASE: base, ARCH: arch, **extra}
