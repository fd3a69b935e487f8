"""Templates as values: what a source says, and what its plugin documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import hcl2

from builder import data

FIELDS: Final = Path(__file__).parent / "plugin_fields"
TEMPLATES: Final = data.tree("images") / "packer"


def load(folder: str, name: str) -> dict[str, Any]:
    """One file of images/packer as today's plugins get it, without the quotes that the parser keeps."""
    lines = (TEMPLATES / folder / f"{name}.pkr.hcl").read_text().splitlines()
    loaded = _plain(hcl2.loads("\n".join(line for line in lines if not line.endswith("# until 1.6")) + "\n"))
    assert isinstance(loaded, dict)
    return loaded


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key.strip('"'): _plain(item) for key, item in value.items() if key != "__comments__"}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.strip('"') if isinstance(value, str) else value


def source(name: str) -> tuple[str, dict[str, Any]]:
    """The builder of a target's one source, which is called host, and its body."""
    ((builder, labels),) = (pair for found in load("sources", name)["source"] for pair in found.items())
    ((label, body),) = labels.items()
    assert label == "host"
    for dynamic in body.pop("dynamic", []):
        for block, inner in dynamic.items():
            if block != "__is_block__":
                body[block] = inner["content"]
    return builder, body


def variables(folder: str, name: str) -> dict[str, dict[str, Any]]:
    """Declared variables by name."""
    return {key: body for found in load(folder, name).get("variable", []) for key, body in found.items()}


def blocks(body: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The blocks of a body; everything else is an attribute."""
    return {key: value for key, value in body.items() if isinstance(value, list) and _is_block(value)}


def _is_block(value: list[Any]) -> bool:
    return all(isinstance(item, dict) and item.get("__is_block__") for item in value)


def names(body: dict[str, Any]) -> set[str]:
    """What a body sets, blocks included."""
    return {key for key in body if key != "__is_block__"}


@dataclass(frozen=True)
class Documented:
    """What a plugin takes: its fields, the fields of its blocks, and what must be there (one name of each group)."""

    plugin: str
    version: str
    fields: frozenset[str]
    blocks: dict[str, frozenset[str]]
    required: tuple[frozenset[str], ...]


def documented(name: str) -> Documented:
    """The fields of a target's plugin at the pinned version."""
    head, *lines = (FIELDS / f"{name}.txt").read_text().splitlines()
    repository, version = head.lstrip("# ").split(",")[0].split(" ")
    words: dict[str, list[str]] = {}
    label = ""
    for line in lines:
        start, _, more = (label, "", line) if line.startswith(" ") else line.partition(":")
        words.setdefault(start, []).extend(more.split())
        label = start
    required = tuple(frozenset(group.split("|")) for group in words.pop("required"))
    fields = frozenset(words.pop("fields"))
    nested = {block: frozenset(known) for block, known in words.items()}
    return Documented(repository.replace("packer-plugin-", ""), version.lstrip("v"), fields, nested, required)
