"""JSON Schema of the spec, for editors: from the model that also reads it."""

from __future__ import annotations

import base64
from importlib import resources
from typing import Any, Final

from builder.spec.input_model import SpecInput
from builder.spec.ssh_keys import TEMPLATE


def schema() -> dict[str, Any]:
    """A JSON Schema, draft 2020-12."""
    found = _plain(SpecInput.model_json_schema())
    stack = found["$defs"]["StackInput"]
    stack["oneOf"] = [{"required": ["compose"]}, {"required": ["image"]}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "EasyRunner host",
        "patternProperties": {"^x-": {"description": "Yours: a place for anchors."}},
    }


def _plain(node: Any) -> Any:
    """Without what does not help in an editor: null as a value, titles that repeat the key."""
    if isinstance(node, list):
        return [_plain(child) for child in node]
    if not isinstance(node, dict):
        return node
    options = node.get("anyOf")
    if options and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        node = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        node = {**rest[0], **node} if len(rest) == 1 else {**node, "anyOf": rest}
    return {key: _plain(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}


_KIND: Final = b"ssh-ed25519"


def template() -> str:
    """A commented spec to start from. It passes `er check`, with a warning about its key."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (_KIND, TEMPLATE))
    text = resources.files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
    return text.replace("{key}", base64.b64encode(blob).decode("ascii"))
