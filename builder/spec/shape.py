"""Is every key known, every value of its type and within its rule? What pydantic finds, in our words."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic import ValidationError

from builder.messages import YAML_PRIVATE_KEY
from builder.spec import messages
from builder.spec.input_model import SpecInput, sections
from builder.spec.rules import Wrong, near
from builder.yamlfile import scalars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from builder.messages import Text
    from builder.spec.document import Document
    from builder.yamlfile.source import Loc

# Fields whose rule deserves its reason, by path and by pydantic's name of the failure.
_OWN: Final[Mapping[tuple[str, str], Text]] = {
    ("admin", "missing"): messages.KEYS_NONE,
    ("admin.ssh_keys", "missing"): messages.KEYS_NONE,
    ("stacks.port", "greater_than_equal"): messages.PORT_LOW,
    ("stacks.port", "less_than_equal"): messages.PORT_HIGH,
    ("stacks.uid", "greater_than_equal"): messages.UID_RANGE,
    ("stacks.uid", "less_than_equal"): messages.UID_RANGE,
    ("stacks.ports", "extra_forbidden"): messages.KEY_PORTS,
    ("stacks.build", "extra_forbidden"): messages.KEY_BUILD,
}
_LIMITS: Final[Mapping[str, tuple[Text, str]]] = {
    "greater_than_equal": (messages.NUMBER_LOW, "ge"),
    "less_than_equal": (messages.NUMBER_HIGH, "le"),
    "greater_than": (messages.NUMBER_ZERO, "gt"),
    "too_short": (messages.LIST_EMPTY, "min_length"),
    "too_long": (messages.LIST_LONG, "max_length"),
}
_WANTED: Final[Mapping[str, str]] = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
_GIVEN: Final[tuple[tuple[type, str], ...]] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
)
_SHORT: Final = 40  # longer values are not repeated in a hint
_KEY: Final = "[key]"  # pydantic's mark for "the key itself"


def check(document: Document) -> SpecInput | None:
    """Report all that is wrong with single keys and values; the typed spec when nothing is."""
    data = document.source.data
    if not isinstance(data, dict):
        document.put(messages.EMPTY_SPEC, (), given=given(data))
        return None
    for loc, value in _scalars(data, ()):
        if value is None and not str(loc[0]).startswith("x-"):
            document.put(messages.NO_VALUE, loc, on_key=True)
        if isinstance(value, str) and "PRIVATE KEY-----" in value:
            document.put(YAML_PRIVATE_KEY, loc)
    try:
        return SpecInput.model_validate({key: value for key, value in data.items() if not key.startswith("x-")})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _translate(document, detail)
        return None


def given(value: Any) -> str:
    """What kind of value this is, in words."""
    return next((words for kind, words in _GIVEN if isinstance(value, kind)), "nothing")


def _scalars(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, dict | list):
        for step, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _scalars(child, (*loc, step))
    else:
        yield loc, value


def _translate(document: Document, detail: ErrorDetails) -> None:
    loc, kind, limits = detail["loc"], detail["type"], detail.get("ctx", {})
    on_key = kind in ("extra_forbidden", "missing") or loc[-1:] == (_KEY,)
    loc = loc[:-1] if loc[-1:] == (_KEY,) else loc
    path = ".".join(step for step in loc if isinstance(step, str))
    wrong = limits.get("error")
    if isinstance(wrong, Wrong):
        document.put(wrong.text, loc, on_key=on_key, **wrong.values)
    elif own := _OWN.get((path, kind)):
        document.put(own, loc, on_key=on_key, limit=next(iter(limits.values()), None))
    elif kind in _LIMITS:
        text, name = _LIMITS[kind]
        document.put(text, loc, limit=f"{limits[name]:g}")
    else:
        text, values = _by_kind(document, loc, path, detail)
        document.put(text, loc, on_key=on_key, **values)


def _by_kind(document: Document, loc: Loc, path: str, detail: ErrorDetails) -> tuple[Text, dict[str, object]]:
    key = str(loc[-1])
    if detail["type"] == "missing":
        return messages.MISSING, {"key": key, "example": example(path)}
    if detail["type"] == "extra_forbidden":
        return _unknown_key(path, key)
    if detail["type"] == "literal_error":
        return _unknown_value(detail)
    return _wrong_type(document, loc, path, detail)


def _unknown_key(path: str, key: str) -> tuple[Text, dict[str, object]]:
    section = path[: -len(key)].rstrip(".")
    known = sections()[section].model_fields
    if meant := near(key, known):
        return messages.UNKNOWN_KEY_NEAR, {"key": key, "near": meant}
    for other, model in sections().items():
        if key in model.model_fields and other:
            return messages.UNKNOWN_KEY_ELSEWHERE, {"key": key, "section": other}
    return messages.UNKNOWN_KEY, {"key": key, "known": ", ".join(known)}


def _unknown_value(detail: ErrorDetails) -> tuple[Text, dict[str, object]]:
    value = str(detail["input"])[:_SHORT]
    known = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
    if meant := near(value, known):
        return messages.UNKNOWN_VALUE_NEAR, {"value": value, "near": meant}
    return messages.UNKNOWN_VALUE, {"value": value, "known": ", ".join(known)}


def _wrong_type(document: Document, loc: Loc, path: str, detail: ErrorDetails) -> tuple[Text, dict[str, object]]:
    wanted, value = _WANTED.get(detail["type"], "as in the example"), detail["input"]
    values: dict[str, object] = {"wanted": wanted, "given": given(value)}
    raw = document.source.raw(loc)
    if wanted == "text" and raw is not None:
        return messages.WRONG_TYPE_QUOTE, {**values, "quoted": json.dumps(raw)}
    if wanted == "a list" and raw is not None and len(raw) <= _SHORT:
        return messages.WRONG_TYPE_LIST, {**values, "raw": raw}
    if isinstance(value, str) and wanted in ("a number", "a whole number", "true or false"):
        unquoted = scalars.resolve(value)
        if given(unquoted) == wanted or (isinstance(unquoted, int) and "number" in wanted):
            return messages.WRONG_TYPE_UNQUOTE, {**values, "raw": value}
    while path not in _examples():
        path = path.rpartition(".")[0]
    return messages.WRONG_TYPE, {**values, "key": path.rpartition(".")[2], "example": example(path)}


def example(path: str) -> str:
    """A value for the field at a path, as one would write it."""
    shown = yaml.safe_dump(_examples()[path], default_flow_style=True, width=10_000, allow_unicode=True)
    return shown.removesuffix("\n").removesuffix("\n...")


@cache
def _examples() -> dict[str, Any]:
    return {
        f"{section}.{name}".lstrip("."): field.examples[0]
        for section, model in sections().items()
        for name, field in model.model_fields.items()
        if field.examples
    }
