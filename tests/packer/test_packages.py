"""What only some specs need is baked, and its list is not: that is the host's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder import facts, manifest
from builder.host.packages import PACKAGES
from builder.lab import base_tree
from builder.lab.machine import Machine
from tests.machine import hosts
from tests.packer import bake_without_packer as bake
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine


@of_a_sweep
@pytest.mark.usefixtures("example_images")
def test_a_bake_installs_what_its_spec_needs(tmp_path: Path) -> None:
    """From the real mirror, by the step that installs everything else; the manifest lists it among all others."""
    spec, _ = hosts.written("ecr", tmp_path)
    with Machine(base_tree.tree(PACKAGES["debian-13"]), bake.STOCK.encode(), name="bake") as machine:
        machine.boot_and_wait()
        bake.must(machine, bake.step(bake.FIRST))
        bake.upload(machine, bake.wanted(spec, tmp_path), tmp_path / "upload")
        bake.must(machine, bake.step("20-files"))
        bake.must(machine, bake.step("30-packages"))
        status = machine.run(["cat", "/var/lib/dpkg/status"]).stdout
        assert "amazon-ecr-credential-helper" in {package.name for package in manifest.installed(status)}
        assert machine.run(["ls", facts.PACKAGES], check=False).returncode != 0
