"""The spec as a document: its values by their place in the file, and the check of each key and of each value's type.

`Document` gives a value to the checks of host_sections and stack_entries, whatever its type. `validate` is pydantic's
check of the whole against input_model, with its failures in our words.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import TYPE_CHECKING, Any, Final, get_origin

import yaml
from pydantic import ValidationError

from builder.messages import YAML_PRIVATE_KEY
from builder.spec import messages, notify_input
from builder.spec.input_model import SpecInput, keys, sections
from builder.spec.rules import RuleError, near
from builder.yamlfile import scalars
from builder.yamlfile.source import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from pydantic_core import ErrorDetails

    from builder.messages import Text
    from builder.problems import Mark, Report
    from builder.yamlfile.source import Loc, Source


class Document:
    """Values without trust in their types, so that one broken section hides no problem of another.

    `problems` is the report that they are added to.
    """

    def __init__(self, source: Source, problems: Report) -> None:
        self.source = source
        self.problems = problems
        self._faulty = {problem.where for problem in problems if problem.severity == "error"}

    @property
    def base(self) -> Path:
        """The directory that the spec's paths start from."""
        return self.source.path.parent

    def get(self, loc: Loc) -> Any:
        """The value at a place, None where there is none."""
        value = self.source.data
        for step in loc:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def text(self, loc: Loc) -> str | None:
        """The value at a place if it is text."""
        value = self.get(loc)
        return value if isinstance(value, str) else None

    def items(self, loc: Loc) -> Iterator[Loc]:
        """The places of a list's items; none when it is no list."""
        value = self.get(loc)
        for index in range(len(value) if isinstance(value, list) else 0):
            yield (*loc, index)

    def keys(self, loc: Loc) -> Iterator[str]:
        """The keys of a mapping; none when it is no mapping."""
        value = self.get(loc)
        yield from value if isinstance(value, dict) else ()

    def mark(self, loc: Loc, *, key: bool = False) -> Mark:
        """The place in the file."""
        return self.source.mark(loc, key=key)

    def report(self, text: Text, loc: Loc, *, on_key: bool = False, **values: object) -> None:
        """Add a problem at a place. A value gets one error only: the first says it best."""
        where = dotted(loc)
        if where in self._faulty:
            return
        if text.severity == "error":
            self._faulty.add(where)
        text.add_to(self.problems, where, self.mark(loc, key=on_key), **values)


def validate(document: Document) -> SpecInput | None:
    """Report all that is wrong with single keys and values; the typed spec when nothing is."""
    data = document.source.data
    if not isinstance(data, dict):
        document.report(messages.EMPTY_SPEC, (), given=_type_in_words(data))
        return None
    for loc, value in _scalars(data, ()):
        if value is None and not str(loc[0]).startswith("x-") and loc[-2:-1] != _NULL_MEANS:
            document.report(messages.NO_VALUE, loc, on_key=True)
        if isinstance(value, str) and "PRIVATE KEY-----" in value:
            document.report(YAML_PRIVATE_KEY, loc)
    try:
        return SpecInput.model_validate({key: value for key, value in data.items() if not key.startswith("x-")})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _translate(document, detail)
        return None


_NULL_MEANS: Final = ("headers",)  # the mapping in which no value means something


def _scalars(value: Any, loc: Loc) -> Iterator[tuple[Loc, Any]]:
    if isinstance(value, dict | list):
        for step, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _scalars(child, (*loc, step))
    else:
        yield loc, value


# Texts that say why a field has its rule, by path and by pydantic's name of the failure.
_TEXTS_OF_FIELDS: Final[Mapping[tuple[str, str], Text]] = {
    ("admin", "missing"): messages.KEYS_NONE,
    ("admin.ssh_keys", "missing"): messages.KEYS_NONE,
    ("stacks.port", "greater_than_equal"): messages.PORT_LOW,
    ("stacks.port", "less_than_equal"): messages.PORT_HIGH,
    ("stacks.uid", "greater_than_equal"): messages.UID_RANGE,
    ("stacks.uid", "less_than_equal"): messages.UID_RANGE,
    ("stacks.ports", "extra_forbidden"): messages.KEY_PORTS,
    ("stacks.deploy", "missing"): messages.DEPLOY_NONE,
    ("stacks.deploy.ssh_keys", "missing"): messages.DEPLOY_NONE,
    ("registries.password", "extra_forbidden"): messages.REGISTRY_PASSWORD,
    ("stacks.registries.password", "extra_forbidden"): messages.REGISTRY_PASSWORD,
    ("notify.webhook.url", "extra_forbidden"): notify_input.URL_KEY,
    ("notify.email.password", "extra_forbidden"): notify_input.PASSWORD,
}
# And those of limits, with the name that pydantic has for the limit.
_TEXTS_OF_LIMITS: Final[Mapping[str, tuple[Text, str]]] = {
    "greater_than_equal": (messages.NUMBER_LOW, "ge"),
    "less_than_equal": (messages.NUMBER_HIGH, "le"),
    "greater_than": (messages.NUMBER_ZERO, "gt"),
    "too_short": (messages.LIST_EMPTY, "min_length"),
    "too_long": (messages.LIST_LONG, "max_length"),
}
_KEY: Final = "[key]"  # pydantic's mark for "the key itself"


def _translate(document: Document, detail: ErrorDetails) -> None:
    """Report one failure that pydantic found."""
    loc, kind, limits = detail["loc"], detail["type"], detail.get("ctx", {})
    on_key = kind in ("extra_forbidden", "missing") or loc[-1:] == (_KEY,)
    loc = loc[:-1] if loc[-1:] == (_KEY,) else loc
    path = _fields(loc)
    broken = limits.get("error")
    if isinstance(broken, RuleError):
        document.report(broken.text, loc, on_key=on_key, **broken.values)
    elif reason := _TEXTS_OF_FIELDS.get((path, kind)):
        document.report(reason, loc, on_key=on_key, limit=next(iter(limits.values()), None))
    elif kind in _TEXTS_OF_LIMITS:
        text, name = _TEXTS_OF_LIMITS[kind]
        document.report(text, loc, limit=f"{limits[name]:g}")
    else:
        text, values = _text_for(document, loc, path, detail)
        document.report(text, loc, on_key=on_key, **values)


def _fields(loc: Loc) -> str:
    """The fields on the way to a place: without list indexes, and without the names of a mapping of sections."""
    fields: list[str] = []
    is_name = False
    for step in (step for step in loc if isinstance(step, str)):
        if is_name and step != loc[-1]:
            is_name = False
            continue
        fields.append(step)
        model, info = sections().get(".".join(fields[:-1])), None
        if model is not None:
            info = keys(model).get(step)
        is_name = info is not None and get_origin(info.annotation) is dict and ".".join(fields) in sections()
    return ".".join(fields)


def _text_for(document: Document, loc: Loc, path: str, detail: ErrorDetails) -> tuple[Text, dict[str, object]]:
    key = str(loc[-1])
    if detail["type"] == "missing":
        return messages.MISSING, {"key": key, "example": _example(path)}
    if detail["type"] == "extra_forbidden":
        return _unknown_key(path, key)
    if detail["type"] == "literal_error":
        return _unknown_value(detail)
    return _wrong_type(document, loc, path, detail)


def _unknown_key(path: str, key: str) -> tuple[Text, dict[str, object]]:
    section = path[: -len(key)].rstrip(".")
    if section not in sections():
        section = section.rpartition(".")[0]  # of a mapping by names, as `public`
    known = keys(sections()[section])
    if meant := near(key, known):
        return messages.UNKNOWN_KEY_NEAR, {"key": key, "near": meant}
    for other, model in sections().items():
        if key in keys(model) and other:
            return messages.UNKNOWN_KEY_ELSEWHERE, {"key": key, "section": other}
    return messages.UNKNOWN_KEY, {"key": key, "known": ", ".join(known)}


_LONGEST_SHOWN: Final = 40  # longer values are not repeated in a hint


def _unknown_value(detail: ErrorDetails) -> tuple[Text, dict[str, object]]:
    value = str(detail["input"])[:_LONGEST_SHOWN]
    known = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
    if meant := near(value, known):
        return messages.UNKNOWN_VALUE_NEAR, {"value": value, "near": meant}
    return messages.UNKNOWN_VALUE, {"value": value, "known": ", ".join(known)}


# What a value should be, by pydantic's name of the failure.
_EXPECTED: Final[Mapping[str, str]] = {
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


def _wrong_type(document: Document, loc: Loc, path: str, detail: ErrorDetails) -> tuple[Text, dict[str, object]]:
    expected, value = _EXPECTED.get(detail["type"], "as in the example"), detail["input"]
    values: dict[str, object] = {"wanted": expected, "given": _type_in_words(value)}
    raw = document.source.raw(loc)
    if expected == "text" and raw is not None:
        return messages.WRONG_TYPE_QUOTE, {**values, "quoted": json.dumps(raw)}
    if expected == "a list" and raw is not None and len(raw) <= _LONGEST_SHOWN:
        return messages.WRONG_TYPE_LIST, {**values, "raw": raw}
    if isinstance(value, str) and expected in ("a number", "a whole number", "true or false"):
        unquoted = scalars.resolve(value)
        if _type_in_words(unquoted) == expected or (isinstance(unquoted, int) and "number" in expected):
            return messages.WRONG_TYPE_UNQUOTE, {**values, "raw": value}
    while path not in _examples():
        path = path.rpartition(".")[0]
    return messages.WRONG_TYPE, {**values, "key": path.rpartition(".")[2], "example": _example(path)}


_TYPE_WORDS: Final[tuple[tuple[type, str], ...]] = (
    (bool, "true or false"),
    (int, "a number"),
    (float, "a number"),
    (str, "text"),
    (list, "a list"),
    (dict, "a mapping"),
)


def _type_in_words(value: Any) -> str:
    """What kind of value this is, in words."""
    return next((words for kind, words in _TYPE_WORDS if isinstance(value, kind)), "nothing")


def _example(path: str) -> str:
    """A value for the field at a path, as one would write it."""
    shown = yaml.safe_dump(_examples()[path], default_flow_style=True, width=10_000, allow_unicode=True)
    return shown.removesuffix("\n").removesuffix("\n...")


@cache
def _examples() -> dict[str, Any]:
    return {
        f"{section}.{name}".lstrip("."): field.examples[0]
        for section, model in sections().items()
        for name, field in keys(model).items()
        if field.examples
    }
