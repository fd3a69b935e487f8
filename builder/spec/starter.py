"""The spec that `er init` writes."""

from __future__ import annotations

import base64
from importlib import resources
from typing import Final

from builder.spec.public_key import TEMPLATE

_KIND: Final = b"ssh-ed25519"


def template() -> str:
    """A commented spec to start from. It passes `er check`, with a warning about its key."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (_KIND, TEMPLATE))
    text = resources.files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
    return text.replace("{key}", base64.b64encode(blob).decode("ascii"))
