"""What lies in the directory after a bake, and what is said of the one before."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder import spec as specs
from builder.cli import build_image
from builder.manifest import Step
from builder.packer import artifact
from builder.packer.artifact import Baked, Result
from builder.packer.build_log import Log
from builder.packer.program import Packer
from builder.packer.request import Request
from builder.packer.run import Bake, Clock, Job
from builder.packer.targets import BY_NAME
from builder.packer.upload_files import Upload
from builder.packer.work_directory import TemplateFile, WorkDirectory

if TYPE_CHECKING:
    from collections.abc import Mapping

STEP = b"#!/bin/sh\n"


@pytest.fixture
def order(tmp_path: Path) -> Request:
    spec, _ = specs.load(Path(__file__).parents[2] / "examples" / "web.yaml")
    return Request(spec, BY_NAME["qemu"], tmp_path / "made")


def _run(order: Request, work: Path, step: bytes = STEP) -> Bake:
    packer = Packer(Path("/usr/bin/packer"), (1, 6, 6))
    job = Job(packer, (TemplateFile("steps/10-x", step),), Upload({"rootfs.tar": b"x"}, {}), {"name": order.name})
    return Bake(order, job, WorkDirectory(work, work), Log(order.log), Clock(), print)


def _deliver(order: Request, tmp_path: Path, content: bytes, seconds: float, step: bytes = STEP) -> Result:
    work = tmp_path / "work"
    work.mkdir(exist_ok=True)
    order.directory.mkdir(exist_ok=True)
    made = work / "made-by-packer"
    made.write_bytes(content)
    run = _run(order, work, step)
    run.clock.steps.append(Step("10-x", seconds))
    result = artifact.deliver(run, Baked(order.name, made))
    assert list(work.iterdir()) == []
    return result


def test_the_image_its_manifest_and_its_sbom_appear_together(order: Request, tmp_path: Path) -> None:
    result = _deliver(order, tmp_path, b"disk", 1)
    name = "er-debian-13-amd64.qcow2"
    assert sorted(path.name for path in order.directory.iterdir()) == [
        name,
        f"{name}.manifest.json",
        f"{name}.sbom.json",
    ]
    assert (result.image, result.size, result.differences) == (order.directory / name, 4, None)
    assert order.image.read_bytes() == b"disk"


def test_a_second_build_of_the_same_differs_by_what_it_must(order: Request, tmp_path: Path) -> None:
    _deliver(order, tmp_path, b"disk", 1)
    result = _deliver(order, tmp_path, b"ksid", 2)
    assert result.differences
    assert all(found.expected for found in result.differences)
    assert build_image.compared(result.differences).startswith("same as the build before, but for ")


def test_another_input_is_named(order: Request, tmp_path: Path) -> None:
    _deliver(order, tmp_path, b"disk", 1)
    result = _deliver(order, tmp_path, b"disk", 1, b"#!/bin/sh\ntrue\n")
    assert result.differences
    first, *_ = build_image.compared(result.differences).splitlines()[1:]
    assert first.startswith("  input template steps/10-x: SHA-256 ")


def test_an_image_at_a_provider_is_known_by_its_id(order: Request, tmp_path: Path) -> None:
    aws = dataclasses.replace(order, target=BY_NAME["aws"])
    order.directory.mkdir()
    result = artifact.deliver(
        _run(aws, tmp_path), Baked("er-debian-13-amd64-20260101-000000", ids=("eu-west-1:ami-1",))
    )
    assert [path.name for path in order.directory.iterdir()] == ["er-debian-13-amd64-20260101-000000.manifest.json"]
    assert (result.image, result.ids) == (None, ("eu-west-1:ami-1",))


def _spoil(order: Request, how: str) -> Mapping[str, bytes]:
    if how == "image":
        order.image.write_bytes(b"other")
    elif how == "manifest":
        (order.directory / f"{order.image.name}.manifest.json").write_text("{}")
    return {"step": b"#!/bin/sh\ntrue\n"} if how == "input" else {}


@pytest.mark.parametrize("how", ["", "image", "manifest", "input"])
def test_only_a_whole_image_of_the_same_inputs_is_taken_again(order: Request, tmp_path: Path, how: str) -> None:
    _deliver(order, tmp_path, b"disk", 1)
    job = _run(order, tmp_path, **_spoil(order, how)).job
    assert (artifact.reusable(order, artifact.inputs(job, order)) is not None) == (how == "")
