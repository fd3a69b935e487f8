"""docs/power-cuts.md, written from a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.machine.cuts.likeness import OWN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.machine.cuts.sweep import Result

_HEAD: Final = """\
# Power cuts

`make cuts` boots the host of `tests/machine/specs/three` from its user-data on a disk with a real file system (ext4),
cuts the power at a point of first boot, boots again, and compares with a host whose power was never cut: every file of
the disk (kind, mode, owner, content), packages, unit files, users, firewall rules of both families, jails, sshd, kernel
settings, images and their layers; no unit may have failed, every domain and SSH must answer over IPv4 and IPv6.

A point is a step of that boot, found in one that was not cut: a program about to run, or a file that was made and has
no content yet. The kernel holds the process there (fanotify) until the power goes. There are two kinds of cut:

* **kept**: all processes are gone, what they wrote is on the disk;
* **lost**: names are on the disk, contents only where somebody waited for them (fsync) or ext4 had sent them already.
  What is in memory only is gone. This is the worst that ext4 does at a cut: files that exist and are empty.

`tests/machine/test_power_cuts.py` does a part of it in every run of the tests.

Not in the table: cuts while a stock image's packages are being installed, which dpkg makes good by itself. What
packages' own scripts had written and not waited for may stay empty there: compiled Python and audit's joined rules,
which are made anew, and records of which units were enabled. And on Ubuntu 24.04, whose Podman 4.9 cannot check its
images, a cut in the seconds after an image came is not made good by itself.
"""
_TABLE: Final = "| point | cut | after | ready again after | differences |\n|---|---|---|---|---|\n"
_OWN: Final = """
## What is each host's own

Kind, mode and owner are compared all the same.

| files | why | |
|---|---|---|
"""


def page(results: Sequence[Result]) -> str:
    """The whole page."""
    wrong = sum(bool(result.differences) for result in results)
    told = f"\n{len(results)} points, {wrong} with differences. The seconds are those of a small and busy machine.\n\n"
    rows = "".join(f"{row(result)}\n" for result in results)
    own = "".join(f"| `{one.names}` | {one.why} |{' may be missing' if one.existence else ''} |\n" for one in OWN)
    return f"{_HEAD}{told}{_TABLE}{rows}{_OWN}{own}"


def row(result: Result) -> str:
    """A line of the table."""
    found = str(len(result.differences)) if result.differences else "none"
    return f"| {result.point} | {result.kind} | {result.cut:.1f} s | {result.ready:.1f} s | {found} |"
