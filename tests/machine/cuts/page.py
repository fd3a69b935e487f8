"""docs/power-cuts.md, written from a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.machine.cuts.compare_hosts import OWN, UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.machine.cuts.compare_hosts import Own
    from tests.machine.cuts.sweep import Course, Result

_HEAD: Final = """\
# Power cuts

`make cuts` boots the host of `tests/machine/specs/three` from its user-data on a disk with a real file system (ext4),
cuts the power at a point of first boot, boots again, and compares with a host whose power was never cut: every file of
the disk (kind, mode, owner, content), packages, unit files, users, firewall rules of both families, jails, sshd, kernel
settings, images and their layers; no unit may have failed, every domain and SSH must answer over IPv4 and IPv6. It does
so three times: on a stock image that has the packages, on one that has to install them, and on a baked one.

A point is a step of that boot, found in one that was not cut: a program about to run, or a file that was made and has
no content yet. The kernel holds the process there (fanotify) until the power goes. There are two kinds of cut:

* **kept**: all processes are gone, what they wrote is on the disk;
* **lost**: names are on the disk, contents only where somebody waited for them (fsync) or ext4 had sent them already.
  What is in memory only is gone. This is the worst that ext4 does at a cut: files that exist and are empty.

`tests/machine/test_power_cuts.py` does a part of it in every run of the tests.

A stock image's packages are installed by apt and dpkg, and a cut there is made good by dpkg and the next boot. What
packages' own scripts had written and not waited for may stay empty: see the second list below. On Ubuntu 24.04, whose
Podman 4.9 cannot check its images, a cut in the seconds after an image came is not made good by itself.
"""
_TABLE: Final = "| point | cut | after | ready again after | differences |\n|---|---|---|---|---|\n"
_OWN: Final = """
## What is each host's own

Kind, mode and owner are compared all the same.

"""
_UNFINISHED: Final = """
## What a cut while packages are installed leaves besides

"""
_LIST: Final = "| files | why | |\n|---|---|---|\n"


def page(courses: Sequence[tuple[Course, Sequence[Result]]]) -> str:
    """The whole page."""
    tables = "".join(_table(course, results) for course, results in courses)
    return f"{_HEAD}{tables}{_OWN}{_list(OWN)}{_UNFINISHED}{_list(UNFINISHED)}"


def _table(course: Course, results: Sequence[Result]) -> str:
    wrong = sum(bool(result.differences) for result in results)
    told = f"{len(results)} points, {wrong} with differences. The seconds are those of a small and busy machine.\n\n"
    rows = "".join(f"{row(result)}\n" for result in results)
    return f"\n## {course.name}\n\n{told}{_TABLE}{rows}"


def _list(own: Sequence[Own]) -> str:
    rows = "".join(f"| `{one.names}` | {one.why} |{' may be missing' if one.existence else ''} |\n" for one in own)
    return f"{_LIST}{rows}"


def row(result: Result) -> str:
    """A line of the table."""
    found = str(len(result.differences)) if result.differences else "none"
    return f"| {result.point} | {result.kind} | {result.cut:.1f} s | {result.ready:.1f} s | {found} |"
