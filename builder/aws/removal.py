"""Taking things away: what is gone already is as good as taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from builder.aws.errors import AwsError

if TYPE_CHECKING:
    from builder.aws.api import Door


def take(door: Door, name: str, **parameters: Any) -> None:
    """Call an operation that removes something; that it does not exist any more is no error."""
    try:
        door.call(name, **parameters)
    except AwsError as error:
        if not error.code.endswith(".NotFound"):
            raise
