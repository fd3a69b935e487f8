"""The models of the spec by their place in it."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel

from builder.spec.input_model import SpecInput


@cache
def sections() -> dict[str, type[BaseModel]]:
    """The models by the places they stand at, as `stacks` or `stacks.egress`; the whole spec is ``""``."""
    found: dict[str, type[BaseModel]] = {}
    _walk(SpecInput, "", found)
    return found


def _walk(model: type[BaseModel], path: str, found: dict[str, type[BaseModel]]) -> None:
    found[path] = model
    for name, info in model.model_fields.items():
        for inner in _models(info.annotation):
            _walk(inner, f"{path}.{name}".lstrip("."), found)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]
