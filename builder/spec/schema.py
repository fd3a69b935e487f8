"""The JSON Schema of a spec, for editors: what pydantic makes of the models, and what it does not know."""

from __future__ import annotations

from typing import Any

from builder.spec import rules
from builder.spec.input_model import SpecInput


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec, draft 2020-12, for editors."""
    found = _simplified(SpecInput.model_json_schema())
    stack = found["$defs"]["StackInput"]
    stack["oneOf"] = [{"required": ["compose"]}, {"required": ["image"]}, {"required": ["build"]}]
    for name in ("egress", "build_egress"):
        egress = stack["properties"][name]
        egress["anyOf"] = [{"const": rules.NONE}, {key: egress.pop(key) for key in ("type", "items")}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **found,
        "title": "EasyRunner host",
        "patternProperties": {"^x-": {"description": "Yours: a place for anchors."}},
    }


def _simplified(node: Any) -> Any:
    """Without what does not help in an editor: null as a value, titles that repeat the key."""
    if isinstance(node, list):
        return [_simplified(child) for child in node]
    if not isinstance(node, dict):
        return node
    options = node.get("anyOf")
    if options and {"type": "null"} in options:
        rest = [option for option in options if option != {"type": "null"}]
        node = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        node = {**rest[0], **node} if len(rest) == 1 else {**node, "anyOf": rest}
    return {key: _simplified(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
