"""The power goes at a point of first boot: the next boot makes it good, whatever had reached the disk by then.

`make cuts` does this at every point and writes docs/power-cuts.md; here it is done at some of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from builder import process
from tests.machine.cuts import disk_events, disks, points, sweep
from tests.machine.cuts.__main__ import jobs

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.machine
_CUTS: Final = 2
_LEAST: Final = 50


@pytest.fixture(scope="module")
def bench(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> disks.Bench:
    return sweep.prepared(sweep.MAKING, tmp_path_factory.mktemp("cuts"))


@pytest.fixture(scope="module")
def whole(bench: disks.Bench) -> sweep.Reference:
    """A host whose power was not cut."""
    return sweep.reference(bench, sweep.MAKING)


def test_there_are_points_enough(whole: sweep.Reference) -> None:
    """And none of them twice."""
    assert len(whole.points) == len(set(whole.points)) >= _LEAST
    assert whole.likeness.faults == ()


@pytest.mark.parametrize("number", range(_CUTS))
def test_a_power_cut_is_made_good_by_the_next_boot(bench: disks.Bench, whole: sweep.Reference, number: int) -> None:
    """From the first step to the last, evenly; both kinds of cut in turn."""
    work = jobs(whole)
    point, _ = work[(2 * number + 1) * len(work) // (2 * _CUTS)]
    result = sweep.cut_at(bench, whole, point, disks.KINDS[number % 2])
    assert not result.differences, "\n".join([f"{result.kind} at: {point}", *result.differences])


@pytest.fixture(scope="module")
def stock(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[disks.Bench, sweep.Reference]:
    """A stock image, and the host it became without a cut."""
    bench = sweep.prepared(sweep.INSTALLING, tmp_path_factory.mktemp("stock"))
    return bench, sweep.reference(bench, sweep.INSTALLING)


@pytest.mark.parametrize(
    ("point", "kind"),
    [
        # The names of the package lists are there and they are empty: apt would believe that the archive has nothing.
        ("provision runs apt-get (2)", "lost"),
        # All that we name is installed, dbus half configured: apt would refuse everything, security updates as well.
        ("dpkg runs dbus.postinst", "kept"),
    ],
)
def test_a_power_cut_while_packages_come_is_made_good(
    stock: tuple[disks.Bench, sweep.Reference], point: str, kind: disks.Kind
) -> None:
    """Both are points at which the next boot once did not."""
    result = sweep.cut_at(*stock, point, kind)
    assert not result.differences, "\n".join(result.differences)


@pytest.fixture(scope="module")
def baked(example_images: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[disks.Bench, sweep.Reference]:
    """A baked image, and the host it became without a cut."""
    bench = sweep.prepared(sweep.BAKED, tmp_path_factory.mktemp("baked"))
    return bench, sweep.reference(bench, sweep.BAKED)


@pytest.mark.parametrize("point", ["first-boot runs loginctl (3)", "first-boot runs loginctl (4)"])
def test_a_power_cut_of_a_baked_image_is_made_good(baked: tuple[disks.Bench, sweep.Reference], point: str) -> None:
    """The first stacks have started: their images have no other copy, and the places of their sockets were not told."""
    result = sweep.cut_at(*baked, point, "lost")
    assert not result.differences, "\n".join(result.differences)


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
    process.run(["mount", "-o", "loop", str(disk), str(tree)])
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
