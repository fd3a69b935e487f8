"""Runs the benchmarks: `python -m bench [--quick] [--only NAME] [--rounds N]`."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING, Final, cast

from bench import report
from bench.hosts import ROOT
from bench.options import Options
from bench.talk import note
from builder.localhost import requirements
from builder.problems import UserError

if TYPE_CHECKING:
    from bench.result import Result

# In the order of the page; each module has run(options) -> Result.
NAMES: Final = ("boot", "image", "throughput", "paths", "edge", "scale", "sleep", "dense", "user-data")


def main() -> int:
    """The results go to stdout; a whole run also writes docs/benchmarks.md and its plot. A missed goal is a failure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure, as ratios within one run.")
    parser.add_argument("--quick", action="store_true", help="two small rounds, to see that it works; writes no page")
    parser.add_argument("--only", choices=NAMES, action="append", help="one benchmark (or several); writes no page")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of each; more make the medians steadier")
    chosen = parser.parse_args()
    try:
        page = not (chosen.quick or chosen.only)
        return _run(tuple(chosen.only or NAMES), Options(chosen.quick, chosen.rounds), page=page)
    except UserError as error:
        note(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        return 1


def _run(names: tuple[str, ...], options: Options, *, page: bool) -> int:
    if set(names) != {"user-data"}:
        requirements.check_booting()
    results = []
    for name in names:
        note(f"{name} …")
        results.append(_one(name, options))
        sys.stdout.write(report.plain(results[-1]) + "\n")
        sys.stdout.flush()
    if page:
        _write(tuple(results))
    return 0 if all(goal.met for result in results for goal in result.goals) else 1


def _one(name: str, options: Options) -> Result:
    module = importlib.import_module(f"bench.{name.replace('-', '_')}")
    return cast("Result", module.run(options))


def _write(results: tuple[Result, ...]) -> None:
    from bench import plot  # noqa: PLC0415  matplotlib takes a second to import

    docs = ROOT / "docs"
    docs.mkdir(exist_ok=True)
    (docs / "benchmarks.md").write_text(report.markdown(results, _machine()))
    plot.write(docs / "benchmarks.svg", results)
    note(f"wrote {docs / 'benchmarks.md'} and its plot")


def _machine() -> str:
    """In general words."""
    cores = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{cores}, on which systemd-nspawn boots the hosts and the clients run too"


if __name__ == "__main__":
    raise SystemExit(main())
