"""Every point of a first boot, cut, and made good by the next boot: `python -m tests.machine.cuts [--only REGEX]`.

A whole run writes docs/power-cuts.md. Exit code 1 when a host came out different.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.machine.cuts import page, sweep
from tests.machine.cuts.disks import KINDS
from tests.machine.hosts import ROOT

if TYPE_CHECKING:
    from tests.machine.cuts.disks import Bench, Kind
    from tests.machine.cuts.sweep import Course, Reference, Result

_PAGE: Final = ROOT / "docs/power-cuts.md"


def main() -> int:
    """Tell each result as it comes; write the page when all points were cut."""
    parser = argparse.ArgumentParser(prog="python -m tests.machine.cuts", description="Cut a first boot everywhere.")
    parser.add_argument("--only", metavar="REGEX", default="", help="points whose name has it; writes no page")
    parser.add_argument("--jobs", type=int, default=2, help="machines side by side")
    asked = parser.parse_args()
    start = time.monotonic()
    courses = [(course, swept(course, asked.only, asked.jobs)) for course in sweep.COURSES]
    results = [result for _, several in courses for result in several]
    print(f"{len(results)} cuts in {time.monotonic() - start:.0f} s")
    if not asked.only:
        _PAGE.write_text(page.page(courses))
    return 1 if any(result.differences for result in results) else 0


def swept(course: Course, only: str, workers: int) -> list[Result]:
    """A first boot that goes this way, cut at its points."""
    with tempfile.TemporaryDirectory() as directory:
        bench = sweep.prepared(course, Path(directory))
        wanted = sweep.reference(bench, course)
        work = [job for job in jobs(wanted) if re.search(only, job[0])]
        with ProcessPoolExecutor(workers) as pool:
            return [_told(it) for it in pool.map(partial(_cut, bench, wanted), work) if it is not None]


def jobs(wanted: Reference) -> list[tuple[str, Kind]]:
    """Each point once, the kinds of cut in turn."""
    return [(point, KINDS[number % len(KINDS)]) for number, point in enumerate(wanted.points)]


def _cut(bench: Bench, wanted: Reference, job: tuple[str, Kind]) -> Result | None:
    try:
        return sweep.cut_at(bench, wanted, *job)
    except sweep.NotReachedError as error:
        print(f"not reached: {error}", flush=True)
        return None


def _told(result: Result) -> Result:
    print(page.row(result), flush=True)
    for line in result.differences:
        print(f"    {line}", flush=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
