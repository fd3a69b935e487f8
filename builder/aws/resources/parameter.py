"""The secrets of a fleet's stacks, in the Parameter Store of Systems Manager: every host fetches them at first boot.

A value is never in a command line, and is not asked for: what is listed are names.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

from builder.aws.resources.lifecycle import Described, Resource
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.aws.api import Api
    from builder.aws.request import Prerequisites, Request

LONGEST: Final = 4096
"""Bytes of a value, in the tier that is free of charge."""


class Parameter(Resource):
    """`/er/NAME/STACK/SECRET`: it is er's by its path. `er secret` makes them, a launch does not."""

    part = "parameter"
    title = "secret"
    json_key = "parameters"
    id_field = "Name"
    dry_run = False
    listing, creation, removal = "GetParametersByPath", "PutParameter", "DeleteParameter"

    @classmethod
    def count(cls, request: Request) -> int:  # noqa: ARG003
        """None."""
        return 0

    @classmethod
    def summary(cls, request: Request, prerequisites: Prerequisites | None) -> str:  # noqa: ARG003
        """Of a fleet's stacks."""
        return "for the stacks"

    def parameters(self) -> dict[str, Any]:
        """A launch makes none."""
        raise NotImplementedError

    @classmethod
    def find(cls, api: Api, name: str, **filters: str) -> list[Described]:
        """All of a fleet, their values encrypted as they are stored, and left out."""
        del filters
        found = api.items(cls.listing, Path=f"/er/{name}/", Recursive=True, WithDecryption=False)
        return [{key: value for key, value in one.items() if key != "Value"} for one in found]


def path(server: str, stack: str, secret: str) -> str:
    """Where a secret lies."""
    return f"/er/{server}/{stack}/{secret}"


def names(api: Api, server: str, stack: str) -> dict[str, str]:
    """The secrets that are set for a stack, each with when that was."""
    prefix = path(server, stack, "")
    found = {one["Name"]: str(one.get("LastModifiedDate", "")) for one in Parameter.find(api, server)}
    return {name.removeprefix(prefix): date for name, date in found.items() if name.startswith(prefix)}


def digest(parameters: Iterable[Described]) -> str:
    """Another one whenever a secret is set, or removed; empty without any."""
    text = " ".join(sorted(f"{one['Name']}:{one['Version']}" for one in parameters))
    return hashlib.sha256(text.encode()).hexdigest()[:16] if text else ""


def check(name: str, value: str) -> None:
    """Raise UserError for a value that the Parameter Store does not take."""
    size = len(value.encode())
    if size > LONGEST:
        raise UserError(
            f"{name} has {size:,} bytes: the Parameter Store takes {LONGEST:,}, nothing was set",
            "a file of that size belongs into the image, or into a store that the app asks itself",
        )
    if not value:
        raise UserError(f"{name} is empty: the Parameter Store takes no empty value, nothing was set")


def put(api: Api, name: str, value: str) -> bool:
    """Set a secret, encrypted; whether it was there before."""
    answer = api.call(Parameter.creation, Name=name, Value=value, Type="SecureString", Tier="Standard", Overwrite=True)
    return int(answer["Version"]) > 1


def remove(api: Api, name: str) -> None:
    """Remove a secret; one that is not there is no error."""
    api.delete(Parameter.removal, Name=name)
