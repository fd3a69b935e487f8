"""One whole bake: a stock disk made of packages, Debian's Packer, QEMU; the image boots twice and serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from builder import host, process, userdata
from builder import spec as specs
from builder.lab import trial
from builder.packer import program
from builder.qemu import Settings, Vm, verify
from tests.packer.bake_program import ROOT, SPEC
from tests.packer.conftest import skip_if_emulated
from tests.packer.shared_bake import GROWN, assert_it_has_grown, er

if TYPE_CHECKING:
    from pathlib import Path

    from tests.packer.shared_bake import Built

pytestmark = pytest.mark.machine
STEPS = [path.name for path in sorted((ROOT / "images/steps").glob("[0-9]*"))]


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


def test_every_step_was_told(built: Built) -> None:
    assert len([line for line in built.talk.splitlines() if line.endswith(" s")]) >= len(STEPS) + 5, built.talk


def test_the_manifest_says_what_is_in_it_and_how_long_it_took(built: Built) -> None:
    told = built.manifest
    steps = [step["name"] for step in told["steps"]]
    assert [step for step in steps if step in STEPS] == STEPS
    assert {"base disk", "check", "first boot", "second boot", "convert"} <= set(steps)
    assert {"podman", "fail2ban", "openssh-server"} <= {package["name"] for package in told["packages"]}
    assert {found["user"] for found in told["containers"]} == {"proxy", "hello"}
    assert told["checks"]["findings"] == []
    assert told["versions"]["packer"] == program.find().version_text


def test_by_uefi_it_serves_too_and_grows_with_its_disk(built: Built, key: Path) -> None:
    """The same loaders and kernel as on the base disk, in a tree that was baked."""
    skip_if_emulated()
    spec, _ = specs.load(SPEC)
    spec = verify.for_this_machine(spec, key.with_name("id.pub").read_text().strip())
    user_data = userdata.cloud_config(spec, host.build(spec), "baked")
    settings = Settings(user_data=user_data, key=key, firmware="uefi", size=GROWN, name=spec.server.name)
    with Vm(built.image, settings) as vm:
        vm.boot()
        vm.wait_console(trial.READY, timeout=900)
        assert_it_has_grown(vm, firmware="uefi")
        ca = built.directory / "uefi-ca.crt"
        ca.write_text(vm.read(trial.CA))
        vm.wait(lambda: vm.https_status("hello.example.com", ca) == 200, timeout=300, what="the page")
        ca.unlink()


def test_an_image_of_the_same_is_not_made_again(built: Built) -> None:
    """Where a virtual machine would be emulated, a container proves it: its own kernel has booted it before."""
    before = built.image.stat()
    done = er(built.directory, "--builder", "container", "--reuse", "--accelerator", "tcg")
    assert done.returncode == 0, done.stderr
    assert "both boots are a container's" in done.stderr
    told = json.loads(done.stdout)
    assert told["reused"] is True
    assert [(answer["boot"], answer["status"]) for answer in told["answers"]] == [(1, 200), (2, 200)]
    assert built.image.stat() == before
