"""er's manifest of an image: what the build was made of and what came out, as values and as JSON; and comparing two."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Input:
    """Something the image was made from. `name` says which, as `spec` or `template build.pkr.hcl`; size in bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """An installed Debian package, with the source package that it was built from."""

    name: str
    version: str
    arch: str
    source: str
    source_version: str


@dataclass(frozen=True, slots=True)
class Container:
    """A container image in the disk image. `name` is its reference, `digest` as `sha256:…`, `user` who has it."""

    name: str
    digest: str
    user: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the build and how long it took, in seconds."""

    name: str
    seconds: float


class Report(Protocol):
    """The report of an image check, which writes itself as JSON."""

    def as_json(self) -> str:
        """The findings, and which checks ran."""


@dataclass(frozen=True, slots=True)
class Build:
    """Everything that is known of one build.

    `base` and `arch` as in the spec, `target` as in `--target`, `format` of the image file. `versions` are of programs,
    er's own included. `made` is the end of the build; `now` gives it. `checks` is None when no check ran.
    """

    target: str
    base: str
    arch: str
    format: str
    made: datetime
    inputs: tuple[Input, ...] = ()
    packages: tuple[Package, ...] = ()
    containers: tuple[Container, ...] = ()
    checks: Report | None = None
    steps: tuple[Step, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)


def of_file(name: str, path: Path) -> Input:
    """An input that is a file; it is read in pieces, so a disk is no problem."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Input(name, path.stat().st_size, digest)


def of_bytes(name: str, content: bytes) -> Input:
    """An input that is a value."""
    return Input(name, len(content), hashlib.sha256(content).hexdigest())


def elsewhere(name: str) -> Input:
    """An image at a provider, whose bytes nobody here has seen."""
    return Input(name, 0, "")


def now(environment: Mapping[str, str] = os.environ) -> datetime:
    """The time to write down: SOURCE_DATE_EPOCH where it is set, else the clock. UTC, whole seconds."""
    epoch = environment.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.replace(microsecond=0)


# The version of the manifest's form: raise it when a reader of the old form would misread the new one.
FORM: Final = 1


def render(image: Input, build: Build) -> bytes:
    """The manifest's bytes: UTF-8, keys in a fixed order, ends with a line feed."""
    return json.dumps(value(image, build), indent=2, ensure_ascii=False).encode() + b"\n"


def value(image: Input, build: Build) -> dict[str, Any]:
    """The manifest as plain data."""
    return {
        "manifest": FORM,
        "image": _image(image, build),
        "made": build.made.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "target": build.target,
        "base": build.base,
        "arch": build.arch,
        "versions": dict(sorted(build.versions.items())),
        "inputs": [asdict(item) for item in sorted(build.inputs, key=lambda item: item.name)],
        "containers": [asdict(item) for item in sorted(build.containers, key=lambda item: (item.user, item.name))],
        "packages": [asdict(package) for package in build.packages],
        "checks": _checks(build.checks),
        "steps": [{"name": step.name, "seconds": round(step.seconds, 1)} for step in build.steps],
    }


def _image(image: Input, build: Build) -> dict[str, Any]:
    """A file with what is known of it; an image at a provider is known by its name there alone."""
    if not image.sha256:
        return {"file": image.name}
    return {"file": image.name, "format": build.format, "size": image.size, "sha256": image.sha256}


def _checks(report: Report | None) -> dict[str, Any] | None:
    parsed: dict[str, Any] | None = json.loads(report.as_json()) if report else None
    return parsed


_STATUS_FIELDS: Final = frozenset({"Package", "Status", "Version", "Architecture", "Source"})


def installed(status: str) -> tuple[Package, ...]:
    """The packages that are installed, by name and architecture; half-installed and removed ones are not."""
    found = (_package(stanza) for stanza in _stanzas(status) if stanza.get("Status", "").endswith(" installed"))
    return tuple(sorted(found, key=lambda package: (package.name, package.arch)))


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    for block in text.split("\n\n"):
        fields = (line.partition(":") for line in block.splitlines() if line[:1].strip())
        stanza = {name: value.strip() for name, _, value in fields if name in _STATUS_FIELDS}
        if "Package" in stanza:
            yield stanza


def _package(stanza: Mapping[str, str]) -> Package:
    # "Source: name (version)"; without a version it is the package's own, without the field so is the name.
    source, _, version = stanza.get("Source", stanza["Package"]).partition(" ")
    return Package(
        name=stanza["Package"],
        version=stanza["Version"],
        arch=stanza["Architecture"],
        source=source,
        source_version=version.strip("()") or stanza["Version"],
    )


Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. `expected` is true for what two runs with equal inputs cannot have in common."""

    expected: bool
    what: str


class _ListField(NamedTuple):
    """A list in the manifest: the word for one entry, what an entry is known by, and what of it may change."""

    name: str
    word: str
    key: Callable[[Mapping[str, Any]], str]
    shown: Callable[[Mapping[str, Any]], str]


_SCALARS: Final = ("target", "base", "arch")
_LISTS: Final = (
    _ListField("inputs", "input", lambda item: str(item["name"]), lambda item: f"SHA-256 {item['sha256'][:12]}"),
    _ListField("packages", "package", lambda item: f"{item['name']}:{item['arch']}", lambda item: str(item["version"])),
    _ListField(
        "containers",
        "container image",
        lambda item: f"{item['name']} of {item['user']}",
        lambda item: str(item["digest"]),
    ),
)


def read(path: Path) -> Manifest:
    """A manifest from its file. Raises UserError when it is none, or of another form."""
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
    yield from _changes("version of", a["versions"], b["versions"])
    for listed in _LISTS:
        one, two = ({listed.key(item): listed.shown(item) for item in side[listed.name]} for side in (a, b))
        yield from _changes(listed.word, one, two)
    yield from _changes("check", _verdicts(a), _verdicts(b))
    before, after = (", ".join(step["name"] for step in side["steps"]) for side in (a, b))
    if before != after:
        yield f"steps: {before}; then {after}"


def _changes(word: str, a: Mapping[str, str], b: Mapping[str, str]) -> Iterator[str]:
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
