"""Podman's own generator and systemd's own check accept every unit of the public projects' Compose files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from builder.host.packages import PACKAGES
from builder.lab import base_tree
from tests import wild_projects as wild
from tests.quadlet_generator import generate, verify

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine

SUFFIXES = {".container": "", ".volume": "-volume", ".network": "-network"}


def test_all_units_are_generated_without_a_word(tmp_path: Path) -> None:
    units = tmp_path / "units"
    units.mkdir()
    for name, row in wild.projects().items():
        outcome = wild.check(name, row, tmp_path)
        if outcome.spec is not None:
            for file, text in wild.units(outcome, "debian-13").items():
                assert not (units / file).exists()
                (units / file).write_text(text)
    tree = base_tree.tree(PACKAGES["debian-13"])
    wanted = {f"{path.stem}{SUFFIXES[path.suffix]}.service" for path in units.iterdir()}
    assert len(wanted) > 400
    assert generate(tree, units).keys() == wanted
    verify(tree, units)
