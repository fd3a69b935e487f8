"""One whole bake: a stock disk made of packages, Debian's Packer, QEMU; the image boots twice and serves."""

from __future__ import annotations

import json
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from builder import process
from builder.packer import find
from tests.packer.rehearsal import ROOT, SPEC

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.machine
ER = str(Path(sysconfig.get_path("scripts"), "er"))
STEPS = [path.name for path in sorted((ROOT / "images/steps").glob("[0-9]*"))]


@dataclass(frozen=True, slots=True)
class Built:
    """A directory with an image, and what `er` said of it."""

    directory: Path
    told: dict[str, Any]

    @property
    def image(self) -> Path:
        return Path(self.told["image"])

    @property
    def manifest(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(Path(self.told["manifest"]).read_text())
        return found


def _er(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [ER, "build-image", str(SPEC), "--target", "qemu", "--with-stacks", "--json", "-o", str(directory), *words]
    return process.run(argv, cwd=ROOT, timeout=3000, check=False)


@pytest.fixture(scope="module")
def built(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> Built:
    directory = tmp_path_factory.mktemp("built")
    done = _er(directory)
    assert done.returncode == 0, done.stderr
    assert len([line for line in done.stderr.splitlines() if line.endswith(" s")]) >= len(STEPS) + 5, done.stderr
    return Built(directory, json.loads(done.stdout))


def test_the_host_serves_in_both_boots(built: Built) -> None:
    found = [(answer["boot"], answer["domain"], answer["status"]) for answer in built.told["answers"]]
    assert found == [(1, "hello.example.com", 200), (2, "hello.example.com", 200)]


def test_what_is_left_is_the_image_and_what_is_said_of_it(built: Built) -> None:
    name = built.image.name
    assert sorted(path.name for path in built.directory.iterdir()) == [
        name,
        f"{name}.manifest.json",
        f"{name}.sbom.json",
    ]
    assert process.run(["qemu-img", "check", "-f", "qcow2", str(built.image)]).returncode == 0
    assert f"{built.told['sha256']}  " in process.run(["sha256sum", str(built.image)]).stdout


def test_the_manifest_says_what_is_in_it_and_how_long_it_took(built: Built) -> None:
    told = built.manifest
    steps = [step["name"] for step in told["steps"]]
    assert [step for step in steps if step in STEPS] == STEPS
    assert {"base disk", "check", "first boot", "second boot", "convert"} <= set(steps)
    assert {"podman", "fail2ban", "openssh-server"} <= {package["name"] for package in told["packages"]}
    assert {found["user"] for found in told["containers"]} == {"proxy", "hello"}
    assert told["checks"]["findings"] == []
    assert told["versions"]["packer"] == find.find().version_text


def test_an_image_of_the_same_is_not_made_again(built: Built) -> None:
    before = built.image.stat()
    done = _er(built.directory, "--reuse", "--no-verify")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reused"] is True
    assert built.image.stat() == before
