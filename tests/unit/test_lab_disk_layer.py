"""A machine's disk, as values: an overlay on a tree, or a raw disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.lab.machine_directory import REAL_DIRECTORIES, Disk, Files

if TYPE_CHECKING:
    from pathlib import Path


def test_an_overlay_has_real_directories_for_containers(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "machine", tmp_path)
    assert disk.binds == [f"--bind={disk.real_directory(path)}:{path}" for path in REAL_DIRECTORIES]
    assert Files(tmp_path / "root", disk).path("/home/er/x") == tmp_path / "machine/real/home/er/x"


def test_a_raw_disk_is_one_file_system(tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    image.touch()
    disk = Disk(tmp_path / "machine", image)
    assert disk.binds == []
    assert Files(tmp_path / "root", disk).path("/home/er/x") == tmp_path / "root/home/er/x"
