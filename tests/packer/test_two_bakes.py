"""A bake in a container and one in a virtual machine come to the same image, but for the differences listed here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import pytest

from builder.disk import unpacked
from tests.packer import host_contents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.packer.host_contents import Facts
    from tests.packer.shared_bake import Built

pytestmark = pytest.mark.machine


@dataclass(frozen=True)
class Difference:
    """Files (with wildcards) that may differ, and why; one image may lack them where `existence` says so."""

    names: str
    why: str
    existence: bool = False


DIFFERENCES: tuple[Difference, ...] = (
    Difference("/usr/share/netplan/*__pycache__*", "netplan runs at the boot of a machine, and Python keeps it", True),
    Difference(
        "/var/cache/apparmor/*", "what AppArmor compiled for the kernel of the bake; a container has none", True
    ),
    Difference("/var/cache/ldconfig/aux-cache", "inode numbers of libraries"),
    Difference("/var/lib/cloud", "cloud-init makes it; a container's seed lay there, and was taken away with it", True),
    Difference("/var/lib/systemd/timesync*", "a machine sets its clock; a container has that of this one", True),
)


@dataclass(frozen=True)
class Two:
    """What is in both images."""

    container: Mapping[str, Facts]
    machine: Mapping[str, Facts]


def portray(built: Built) -> dict[str, Facts]:
    with unpacked(built.image) as root:
        return {
            "files": host_contents.of_trees({"/": root}),
            "packages": {package["name"]: package["version"] for package in built.manifest["packages"]},
            "units": dict(_enabled(root)),
            "containers": {
                f"{found['user']} {found['name']}": found["digest"] for found in built.manifest["containers"]
            },
        }


def _enabled(root: Path) -> Iterator[tuple[str, str]]:
    """Every unit that something wants or requires, of the system and of users, and where it comes from."""
    for tree in ("etc/systemd", "usr/lib/systemd", "etc/easyrunner/units"):
        for path in (root / tree).rglob("*.[wr]*/*"):
            if re.search(r"\.(wants|requires)$", path.parent.name):
                yield str(path.relative_to(root)), str(path.readlink()) if path.is_symlink() else "file"


@pytest.fixture(scope="module")
def two(built: Built, built_in_a_machine: Built) -> Two:
    return Two(portray(built), portray(built_in_a_machine))


def test_both_were_baked_as_they_say(built: Built, built_in_a_machine: Built) -> None:
    assert [bake.manifest["checks"]["findings"] for bake in (built, built_in_a_machine)] == [[], []]
    steps = [{step["name"] for step in bake.manifest["steps"]} for bake in (built, built_in_a_machine)]
    assert "container" in steps[0]
    assert "container" not in steps[1]


@pytest.mark.parametrize("name", ["files", "packages", "units", "containers"])
def test_both_images_are_the_same(two: Two, name: str) -> None:
    one, other = two.container[name], two.machine[name]
    assert one
    unexplained = [
        f"{key}\n    container {one.get(key, 'nothing')}\n    machine   {other.get(key, 'nothing')}"
        for key in differing(one, other)
        if not explained(key, existence=key not in one or key not in other)
    ]
    assert not unexplained, "\n".join(unexplained)


def test_every_explanation_is_needed(two: Two) -> None:
    """A difference that is gone leaves the table too."""
    found = differing(two.container["files"], two.machine["files"])
    for row in DIFFERENCES:
        assert any(fnmatchcase(key, row.names) for key in found), row


def differing(one: Facts, other: Facts) -> list[str]:
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))


def explained(key: str, *, existence: bool) -> bool:
    return any(fnmatchcase(key, row.names) and (row.existence or not existence) for row in DIFFERENCES)
