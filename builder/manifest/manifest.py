"""What a build was made of and what came out, as values."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.imagecheck.model import Report


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


@dataclass(frozen=True, slots=True)
class Build:
    """Everything the wrapper knows about one build.

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
    told = environment.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(told), UTC) if told else datetime.now(UTC)
    return moment.replace(microsecond=0)
