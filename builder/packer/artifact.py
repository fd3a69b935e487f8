"""The end of a bake: the image's contents are checked, manifest and SBOM written beside it and compared."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import __version__, facts, files, imagecheck, manifest
from builder.disk import base, image_file
from builder.disk.recipe import RECIPES
from builder.manifest import Build, Container, er_manifest
from builder.packer.failures import BakeError
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.host.model import File
    from builder.imagecheck import Report
    from builder.manifest import Difference, Input, Package, Step
    from builder.packer.leftovers import Leftover
    from builder.packer.request import Request
    from builder.packer.run import Bake, Clock, Job
    from builder.qemu.verify import Proof


@dataclass(frozen=True, slots=True)
class Baked:
    """What a bake made: a file in the work directory, or ids at a provider, and what is known of its contents."""

    name: str
    image: Path | None = None
    ids: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    packages: tuple[Package, ...] = ()
    containers: tuple[Container, ...] = ()
    checks: Report | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    proof: Proof | None = None
    left: tuple[Leftover, ...] = ()


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
    left: tuple[Leftover, ...] = ()


def check_writable(request: Request) -> None:
    """Raise the OutputError that would end a bake at its very end; nothing is begun."""
    files.directory(request.directory)
    files.check(request.log)
    if request.local:
        for path in (request.image, *(manifest.beside(request.image, kind) for kind in ("manifest", "sbom"))):
            files.check(path)


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in an image."""

    checks: Report
    packages: tuple[Package, ...]
    containers: tuple[Container, ...]


def check_contents(image: Path, files: Iterable[File]) -> Contents:
    """Look into an image from outside, not booted; `files` are those of the host's baked part.

    Raises BakeError when something is in it that must not be.
    """
    with image_file.unpacked(image) as root:
        report = imagecheck.examine(root, expected=imagecheck.expected(files))
        if not report.clean:
            raise BakeError(f"the image is not clean:\n{report.as_text()}", "check", None)
        packages = manifest.installed((root / "var/lib/dpkg/status").read_text())
        containers = sorted(_containers(root), key=lambda container: (container.user, container.name))
        return Contents(report, packages, tuple(containers))


_HOMES: Final = facts.HOMES.lstrip("/")
_IMAGE_LIST: Final = ".local/share/containers/storage/overlay-images/images.json"


def _containers(root: Path) -> Iterator[Container]:
    """The container images in every user's storage, from the list that containers/storage keeps."""
    for path in (root / _HOMES).glob(f"*/{_IMAGE_LIST}"):
        user = path.relative_to(root / _HOMES).parts[0]
        for image in json.loads(path.read_text()):
            yield from (Container(name, image.get("digest", ""), user) for name in image.get("names") or ())


def deliver(bake: Bake, baked: Baked) -> Result:
    """Write manifest and SBOM aside, compare, and rename all into place, the manifest last."""
    request = bake.request
    build = _build(bake, baked)
    before = _previous_manifest(request, baked)
    if baked.image is None:
        target = _write_remote_manifest(request, baked, build)
        after = manifest.read(target)
    else:
        target = manifest.beside(request.image, "manifest")
        after = _move_into_place(bake, baked.image, build)
    differences = None if before is None else manifest.difference(before, after)
    image = after["image"]
    return Result(
        request.target.name,
        request.image if baked.image else None,
        baked.ids,
        target,
        image.get("size"),
        image.get("sha256"),
        tuple(bake.clock.steps),
        differences,
        baked.proof,
        name=baked.name,
        left=baked.left,
    )


def _build(bake: Bake, baked: Baked) -> Build:
    request, job = bake.request, bake.job
    server = request.spec.server
    return Build(
        target=request.target.name,
        base=server.base,
        arch=server.arch,
        format=request.image_format.name if baked.image else "",
        made=manifest.now(),
        inputs=(*inputs(job, request), *baked.inputs),
        packages=baked.packages,
        containers=baked.containers,
        checks=baked.checks,
        steps=tuple(bake.clock.steps),
        versions={"er": __version__, "packer": job.packer.version_text, **baked.versions},
    )


def _previous_manifest(request: Request, baked: Baked) -> dict[str, Any] | None:
    """The manifest to compare with: the one named, or the one of the image that is replaced."""
    if request.compare is not None:
        return manifest.read(request.compare)
    if baked.image is None or not manifest.beside(request.image, "manifest").is_file():
        return None
    with contextlib.suppress(UserError, OSError):
        return manifest.read(manifest.beside(request.image, "manifest"))
    return None


def _write_remote_manifest(request: Request, baked: Baked, build: Build) -> Path:
    """The manifest of an image at a provider, which is known by its ids alone."""
    target = request.directory / f"{baked.name}.manifest.json"
    files.write(target, er_manifest.render(manifest.elsewhere(" ".join(baked.ids)), build))
    return target


def _move_into_place(bake: Bake, image: Path, build: Build) -> dict[str, Any]:
    """All written aside; then the old manifest goes, and the new files come, the manifest last."""
    final = bake.request.image
    aside = image.rename(bake.work.root / final.name)
    manifest.write(aside, build)
    after = manifest.read(manifest.beside(aside, "manifest"))
    with shielded():
        for kind in ("manifest", "sbom"):
            # Those of the old image may not stand beside the new one; what is no plain file is written to.
            if manifest.beside(final, kind).is_file():
                manifest.beside(final, kind).unlink()
        files.move(aside, final, report=bake.report)
        for kind in ("sbom", "manifest"):
            files.move(manifest.beside(aside, kind), manifest.beside(final, kind), report=bake.report)
    return after


def inputs(job: Job, request: Request) -> tuple[Input, ...]:
    """What an image is made from, by name and hash: the template, the upload and the values, not the base image."""
    return tuple(sorted(_unsorted_inputs(job, request), key=lambda item: item.name))


def _unsorted_inputs(job: Job, request: Request) -> Iterator[Input]:
    for file in job.files:
        yield _input(f"template {file.path}", file.content)
    for name, content in job.upload.files.items():
        yield _input(f"upload {name}", content)
    for name, path in job.upload.archives.items():
        yield _input(f"upload {name}", path)
    for path in job.var_files:
        yield _input(f"variables {path.name}", path)
    server = request.spec.server
    base_key = base.key(RECIPES[server.base], server.arch, base.SIZE) if request.local else ""
    values = {"base": request.checksum or base_key, "size": request.size, "with_stacks": request.with_stacks}
    yield _input("options", json.dumps(values, sort_keys=True).encode())


def _input(name: str, content: bytes | Path) -> Input:
    return manifest.of_file(name, content) if isinstance(content, Path) else manifest.of_bytes(name, content)


def reusable(request: Request, inputs: Iterable[Input]) -> dict[str, Any] | None:
    """The manifest of an image that is there already, whole, and made of these inputs by this version of er."""
    if not all(path.is_file() for path in (request.image, manifest.beside(request.image, "manifest"))):
        return None
    with contextlib.suppress(UserError, OSError):
        found = manifest.read(manifest.beside(request.image, "manifest"))
        made_from = {(item["name"], item["sha256"]) for item in found["inputs"]}
        same = {(item.name, item.sha256) for item in inputs} <= made_from and found["versions"].get("er") == __version__
        if same and manifest.of_file("", request.image).sha256 == found["image"]["sha256"]:
            return found
    return None


def reused(request: Request, found: Mapping[str, Any], clock: Clock, proof: Proof | None) -> Result:
    """The result of a bake that was not needed; `found` is the manifest of the image."""
    image, target = found["image"], manifest.beside(request.image, "manifest")
    size, sha256, steps = image["size"], image["sha256"], tuple(clock.steps)
    return Result(request.target.name, request.image, (), target, size, sha256, steps, None, proof, reused=True)
