"""One thing that IAM decides."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Request:
    """One thing that IAM decides: an action on one resource, and the keys that conditions look at."""

    action: str
    resource: str
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def without_tags(self) -> Request:
        """The same, on a resource that is somebody else's."""
        return replace(self, keys={key: value for key, value in self.keys.items() if "Tag/" not in key})
