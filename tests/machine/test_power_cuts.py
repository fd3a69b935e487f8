"""The power goes at a point of first boot: the next boot makes it good, whatever had reached the disk by then.

`make cuts` does this at every point, beside a host of the same image that was not cut, and writes docs/power-cuts.md.
Here it is done half way through the one that makes the host, which has to be well then; `make sweeps` has it beside one
that was not cut, and one of the packages' as well, beside the same host: what they make is the same.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from builder import process
from tests.machine.cuts import disk_events, disks, points, sweep
from tests.machine.cuts.compare_hosts import OWN, UNFINISHED, Own
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine
_LEAST: Final = 50


@pytest.fixture(scope="module")
def bench(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> disks.Bench:
    return sweep.prepared(sweep.MAKING, tmp_path_factory.mktemp("cuts"))


@pytest.fixture(scope="module")
def whole(bench: disks.Bench) -> sweep.Reference:
    """A host whose power was not cut."""
    return sweep.reference(bench, sweep.MAKING)


# Most is begun by then and nothing waited for. A row of docs/power-cuts.md.
_HALF_WAY: Final = "first-boot runs /usr/lib/easyrunner/users"


def test_a_power_cut_half_way_is_made_good_by_the_next_boot(bench: disks.Bench) -> None:
    """Every site answers, SSH too, and no unit has failed."""
    result = sweep.well_after(bench, _HALF_WAY, "lost")
    assert not result.differences, "\n".join(result.differences)


@of_a_sweep
def test_there_are_points_enough(whole: sweep.Reference) -> None:
    """And none of them twice."""
    assert len(whole.points) == len(set(whole.points)) >= _LEAST
    assert whole.likeness.faults == ()


@of_a_sweep
def test_the_host_is_as_one_that_was_not_cut(bench: disks.Bench, whole: sweep.Reference) -> None:
    """List by list, and file by file."""
    assert _HALF_WAY in whole.points
    result = sweep.cut_at(bench, whole, _HALF_WAY, "lost")
    assert not result.differences, "\n".join(result.differences)


# Beside what a cut leaves: what packages find or leave that come with the disk, or after our files.
_BEFORE_OR_AFTER: Final = (
    Own("/etc/audit*", "made by cloud-init for our file, or by the package with its own mode", mode=True),
    Own("/etc/group", "numbers of the system's users, by the order they were made in"),
    Own("/etc/passwd", "likewise"),
    Own("/home/*/.ssh/authorized_keys", "the key that was made for this host"),
    Own("/var/cache/debconf/*", "what packages asked", existence=True),
    Own("/var/lib/apt/extended_states", "which packages came for another's sake"),
    Own("/var/lib/easyrunner/images/*", "archives of images, which a baked image has in its storage", existence=True),
)


def of_another_image(
    whole: sweep.Reference, course: sweep.Course, tmp: Path, point: str, kind: disks.Kind
) -> list[str]:
    """What differs when the power of a host of another image was cut; its packages came at another time."""
    bench = sweep.prepared(course, tmp)
    allowed = replace(course, own=(*OWN, *UNFINISHED, *_BEFORE_OR_AFTER))
    return sweep.cut_at(bench, replace(whole, course=allowed), point, kind).differences


@of_a_sweep
def test_a_power_cut_while_packages_come_is_made_good(
    whole: sweep.Reference, example_images: None, tmp_path: Path
) -> None:
    """All that we name is installed, dbus half configured: apt once refused everything, security updates as well."""
    assert of_another_image(whole, sweep.INSTALLING, tmp_path, "dpkg runs dbus.postinst", "kept") == []


def test_what_was_not_waited_for_is_lost(tmp_path: Path) -> None:
    """The disk of a cut: a name with its contents where somebody waited, else the name alone."""
    disk, tree = tmp_path / "disk.raw", tmp_path / "tree"
    tree.mkdir()
    process.run(["mke2fs", "-q", "-F", "-t", "ext4", str(disk), "64M"])
    process.run(["mount", "-o", "loop", str(disk), str(tree)])
    try:
        (tree / "not").write_text("not waited for\n")
        with (tree / "yes").open("w") as file:
            file.write("waited for\n")
            file.flush()
            os.fsync(file)
        disks.stop_writing(tree)
    finally:
        process.run(["umount", str(tree)])
    # A copy: as long as a mount namespace that began meanwhile has it, the disk's file system is the stopped one.
    copy = shutil.copyfile(disk, tmp_path / "copy.raw")
    process.run(["mount", "-o", "loop", str(copy), str(tree)])
    try:
        assert {path.name: path.read_text() for path in tree.iterdir() if path.is_file()} == {
            "not": "",
            "yes": "waited for\n",
        }
    finally:
        process.run(["umount", str(tree)])


def test_names_of_points_have_nothing_of_one_boot_in_them() -> None:
    """What comes again is told from what came before."""
    command = "/bin/sh /usr/lib/easyrunner/provision"
    useradd = "useradd er --groups sudo"
    events = [
        disk_events.Event(1.0, "runs", "/usr/bin/systemctl", command),
        disk_events.Event(2.0, "makes", "/etc/passwd.113", useradd),
        disk_events.Event(3.0, "makes", "/var/lib/cloud/instances/i-1/obj.pkl", "/usr/bin/python3 /usr/bin/cloud-init"),
        disk_events.Event(4.0, "makes", "/etc/passwd.114", useradd),
        disk_events.Event(5.0, "runs", "/usr/lib/easyrunner/first-boot", "(rst-boot)"),
    ]
    assert points.numbered(events) == [
        ("provision runs systemctl", 1.0),
        ("useradd makes /etc/passwd.*", 2.0),
        ("cloud-init makes /var/lib/cloud/instance/obj.pkl", 3.0),
        ("useradd makes /etc/passwd.* (2)", 4.0),
        ("systemd runs /usr/lib/easyrunner/first-boot", 5.0),
    ]
