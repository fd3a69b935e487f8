"""The end of a bake: manifest and SBOM beside the image, and what differs from the one before."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder import __version__, facts, files, imagecheck, manifest
from builder.disk import image_file
from builder.imagecheck import text_report
from builder.manifest import Build, Container, er_manifest
from builder.packer import inputs
from builder.packer.failures import BakeError
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from builder.host.model import File
    from builder.imagecheck import Report
    from builder.manifest import Difference, Input, Package, Step
    from builder.packer.leftovers import Left
    from builder.packer.progress import Clock, Run
    from builder.packer.request import Request
    from builder.qemu.verify import Proof


@dataclass(frozen=True, slots=True)
class Baked:
    """What a bake made: a file in the work directory, or ids at a provider, and what is known of its inside."""

    name: str
    image: Path | None = None
    ids: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    packages: tuple[Package, ...] = ()
    containers: tuple[Container, ...] = ()
    checks: Report | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    left: tuple[Left, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What the user gets. `differences` is None where there was nothing to compare with.

    `size`, in bytes, and `sha256` are of a file here; `left` is what may have stayed at a provider besides the image.
    """

    target: str
    image: Path | None
    ids: tuple[str, ...]
    manifest: Path
    size: int | None
    sha256: str | None
    steps: tuple[Step, ...]
    differences: tuple[Difference, ...] | None
    proof: Proof | None
    reused: bool = False
    name: str = ""
    left: tuple[Left, ...] = ()


def check(order: Request) -> None:
    """Raise the OutputError that would end a bake at its very end; nothing is begun."""
    files.directory(order.directory)
    files.check(order.log)
    if order.local:
        for path in (order.image, *(manifest.beside(order.image, kind) for kind in ("manifest", "sbom"))):
            files.check(path)


def deliver(run: Run, baked: Baked) -> Result:
    """Write manifest and SBOM aside, compare, and rename all into place, the manifest last."""
    order = run.order
    build = _build(run, baked)
    before = _before(order, baked)
    if baked.image is None:
        target = _named(order, baked, build)
        after = manifest.read(target)
    else:
        target = manifest.beside(order.image, "manifest")
        after = _beside(run, baked.image, build)
    differences = None if before is None else manifest.difference(before, after)
    image = after["image"]
    shown = order.image if baked.image else None
    return Result(
        order.target.name,
        shown,
        baked.ids,
        target,
        image.get("size"),
        image.get("sha256"),
        tuple(run.clock.steps),
        differences,
        baked.proof,
        name=baked.name,
        left=baked.left,
    )


def _named(order: Request, baked: Baked, build: Build) -> Path:
    """The manifest of an image that is elsewhere: known by its ids alone."""
    target = order.directory / f"{baked.name}.manifest.json"
    files.write(target, er_manifest.render(manifest.elsewhere(" ".join(baked.ids)), build))
    return target


def _beside(run: Run, image: Path, build: Build) -> dict[str, Any]:
    """All written aside; then the old manifest goes, and the new files come, the manifest last."""
    final = run.order.image
    aside = image.rename(run.places.root / final.name)
    manifest.write(aside, build)
    after = manifest.read(manifest.beside(aside, "manifest"))
    with shielded():
        for kind in ("manifest", "sbom"):
            # Those of the old image may not stand beside the new one; what is no plain file is written to.
            if manifest.beside(final, kind).is_file():
                manifest.beside(final, kind).unlink()
        files.move(aside, final, report=run.tell)
        for kind in ("sbom", "manifest"):
            files.move(manifest.beside(aside, kind), manifest.beside(final, kind), report=run.tell)
    return after


def _build(run: Run, baked: Baked) -> Build:
    order, job = run.order, run.job
    server = order.spec.server
    return Build(
        target=order.target.name,
        base=server.base,
        arch=server.arch,
        format=order.form.name if baked.image else "",
        made=manifest.now(),
        inputs=(*inputs.of(job, order), *baked.inputs),
        packages=baked.packages,
        containers=baked.containers,
        checks=baked.checks,
        steps=tuple(run.clock.steps),
        versions={"er": __version__, "packer": job.packer.version_text, **baked.versions},
    )


def _before(order: Request, baked: Baked) -> dict[str, Any] | None:
    """The manifest to compare with: the one named, or the one of the image that is replaced."""
    if order.compare is not None:
        return manifest.read(order.compare)
    if baked.image is None or not manifest.beside(order.image, "manifest").is_file():
        return None
    with contextlib.suppress(UserError, OSError):
        return manifest.read(manifest.beside(order.image, "manifest"))
    return None


def reusable(order: Request, wanted: Iterable[Input]) -> dict[str, Any] | None:
    """The manifest of an image that is there already, whole, and made of these inputs by this version of er."""
    if not all(path.is_file() for path in (order.image, manifest.beside(order.image, "manifest"))):
        return None
    with contextlib.suppress(UserError, OSError):
        found = manifest.read(manifest.beside(order.image, "manifest"))
        made_from = {(item["name"], item["sha256"]) for item in found["inputs"]}
        same = {(item.name, item.sha256) for item in wanted} <= made_from and found["versions"].get("er") == __version__
        if same and manifest.of_file("", order.image).sha256 == found["image"]["sha256"]:
            return found
    return None


def again(order: Request, found: Mapping[str, Any], clock: Clock, proof: Proof | None) -> Result:
    """The result of a bake that was not needed."""
    image, target = found["image"], manifest.beside(order.image, "manifest")
    steps = tuple(clock.steps)
    return Result(order.target.name, order.image, (), target, image["size"], image["sha256"], steps, None, proof, True)


_HOMES: Final = facts.HOMES.lstrip("/")
_IMAGES: Final = ".local/share/containers/storage/overlay-images/images.json"


@dataclass(frozen=True, slots=True)
class Inside:
    """What was found."""

    checks: Report
    packages: tuple[Package, ...]
    containers: tuple[Container, ...]


def look(image: Path, files: Iterable[File]) -> Inside:
    """Look at an image from outside, not booted; `files` are those of the host's baked part.

    Raises BakeError when something is in it that must not be.
    """
    with image_file.unpacked(image) as root:
        report = imagecheck.examine(root, expected=imagecheck.expected(files))
        if not report.clean:
            raise BakeError(f"the image is not clean:\n{text_report.render(report)}", "check", None)
        packages = manifest.installed((root / "var/lib/dpkg/status").read_text())
        return Inside(report, packages, tuple(sorted(_containers(root), key=lambda found: (found.user, found.name))))


def _containers(root: Path) -> Iterator[Container]:
    """Of every user's storage, as containers/storage keeps its list."""
    for path in (root / _HOMES).glob(f"*/{_IMAGES}"):
        user = path.relative_to(root / _HOMES).parts[0]
        for found in json.loads(path.read_text()):
            yield from (Container(name, found.get("digest", ""), user) for name in found.get("names") or ())
