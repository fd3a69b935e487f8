"""`update:` of the host: the proxy takes patch releases by itself. As the user writes it, and its texts."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from builder.messages import Text
from builder.spec import model
from builder.spec.value_types import Age, Section

RELEASE: Final = Text(
    "{image} is not named by a release of three numbers, so it has no patch releases", "as in caddy:2.11.7"
)
ARCHIVE: Final = Text("the proxy's image comes as an archive, and no registry has newer ones", "take it out")
BASE: Final = Text(
    "Podman of {base} reads no drop-ins of units, by which a release of the proxy is taken",
    "take it out, and now and then: er server apply HOST SPEC --newest-proxy",
)


class ProxyUpdateInput(Section):
    """What of the host updates itself beside Debian's packages."""

    proxy: Literal["patch"] = Field(
        description="At night, the newest patch release of the proxy's minor version; one that fails is taken back.",
        examples=["patch"],
    )
    min_age: Age = Field(
        default="3d",
        validate_default=True,
        description="How long a release has been in the registry, unchanged, before it is taken.",
        examples=["3d"],
    )


def of_host(section: ProxyUpdateInput | None) -> model.ProxyUpdate | None:
    """How the proxy updates itself; None where it does not."""
    return None if section is None else model.ProxyUpdate(float(section.min_age))
