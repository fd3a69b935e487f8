"""What differs between two builds, in words: what two runs cannot share apart from what they should."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.manifest.summary import FORM
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `expected` is true for what two runs with equal inputs cannot have in common."""

    expected: bool
    what: str


class _List(NamedTuple):
    """A list in the manifest: its word for one entry, what an entry is known by, what of it may change."""

    field: str
    word: str
    key: Callable[[Mapping[str, Any]], str]
    shown: Callable[[Mapping[str, Any]], str]


_SCALARS: Final = ("target", "base", "arch")
_LISTS: Final = (
    _List("inputs", "input", lambda item: str(item["name"]), lambda item: f"SHA-256 {item['sha256'][:12]}"),
    _List("packages", "package", lambda item: f"{item['name']}:{item['arch']}", lambda item: str(item["version"])),
    _List(
        "containers",
        "container image",
        lambda item: f"{item['name']} of {item['user']}",
        lambda item: str(item["digest"]),
    ),
)


def read(path: Path) -> Manifest:
    """A manifest from its file; a UserError when it is none, or of another form."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path}: not a manifest: {error}") from error
    if not isinstance(value, dict) or value.get("manifest") != FORM:
        raise UserError(f"{path}: not a manifest of form {FORM}", "make the image again with this version of er")
    return value


def difference(a: Manifest, b: Manifest) -> tuple[Difference, ...]:
    """Everything that differs, unexpected first; empty for equal manifests."""
    unexpected = (Difference(False, what) for what in _unexpected(a, b))
    return (*unexpected, *(Difference(True, what) for what in _expected(a, b)))


def _unexpected(a: Manifest, b: Manifest) -> Iterator[str]:
    for name in _SCALARS:
        if a[name] != b[name]:
            yield f"{name}: {a[name]}, then {b[name]}"
    if a["image"].get("format") != b["image"].get("format"):
        yield f"format: {a['image']['format']}, then {b['image']['format']}"
    yield from _mapping("version of", a["versions"], b["versions"])
    for kind in _LISTS:
        one, two = ({kind.key(item): kind.shown(item) for item in side[kind.field]} for side in (a, b))
        yield from _mapping(kind.word, one, two)
    yield from _mapping("check", _verdicts(a), _verdicts(b))
    before, after = (", ".join(step["name"] for step in side["steps"]) for side in (a, b))
    if before != after:
        yield f"steps: {before}; then {after}"


def _mapping(word: str, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[str]:
    for key in sorted(a.keys() | b.keys()):
        if key not in b:
            yield f"{word} {key}: only in the first, {a[key]}"
        elif key not in a:
            yield f"{word} {key}: only in the second, {b[key]}"
        elif a[key] != b[key]:
            yield f"{word} {key}: {a[key]}, then {b[key]}"


def _verdicts(manifest: Manifest) -> dict[str, str]:
    """What each check said, in one text a check."""
    checks = manifest["checks"]
    if checks is None:
        return {}
    verdicts = dict.fromkeys(checks["ran"], "clean") | {skip["check"]: "not run" for skip in checks["skipped"]}
    for name in {finding["check"] for finding in checks["findings"]}:
        found = sorted(f"{item['path']} ({item['what']})" for item in checks["findings"] if item["check"] == name)
        verdicts[name] = "; ".join(found)
    return verdicts


def _expected(a: Manifest, b: Manifest) -> Iterator[str]:
    if a["made"] != b["made"]:
        yield f"made: {a['made']}, then {b['made']}"
    if a["image"]["file"] != b["image"]["file"]:
        yield f"file: {a['image']['file']}, then {b['image']['file']}"
    if a["image"].get("sha256") != b["image"].get("sha256"):
        yield (
            f"image: SHA-256 {a['image']['sha256'][:12]}, then {b['image']['sha256'][:12]}:"
            " times of files, identifiers of file systems and the order of blocks are each run's own"
        )
    if a["image"].get("size") != b["image"].get("size"):
        yield f"size: {a['image']['size']} bytes, then {b['image']['size']}"
    yield from _times(a, b)


def _times(a: Manifest, b: Manifest) -> Iterator[str]:
    if [step["name"] for step in a["steps"]] == [step["name"] for step in b["steps"]]:
        for one, two in zip(a["steps"], b["steps"], strict=True):
            if one["seconds"] != two["seconds"]:
                yield f"step {one['name']}: {one['seconds']} s, then {two['seconds']} s"
