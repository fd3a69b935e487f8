"""The program of the zipapp: `python3 check.pyz [--live] [--json] [--only ID]… DIRECTORY`."""

from __future__ import annotations

import argparse
import json
import pkgutil
import sys
from pathlib import Path

from builder.imagecheck import text_report
from builder.imagecheck.model import Expected
from builder.imagecheck.run import examine
from builder.imagecheck.table import IDS


def main(words: list[str] | None = None) -> int:
    """Print the report; 0 when clean, 1 on findings, 2 on wrong usage."""
    asked = _parser().parse_args(words)
    if not asked.directory.is_dir():
        sys.stderr.write(f"error: {asked.directory} is not a directory\n")
        return 1
    report = examine(asked.directory, live=asked.live, expected=bundled(), only=asked.only)
    sys.stdout.write(report.as_json() if asked.json else text_report.render(report))
    return 0 if report.clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="check.pyz", description="Checks the hygiene of an image.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--live", action="store_true", help="the directory is the running system's root")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", action="append", default=[], choices=IDS, metavar="ID")
    return parser


def bundled() -> tuple[Expected, ...]:
    """The host's files that `bundle` was told of; none outside of a zipapp."""
    try:
        content = pkgutil.get_data("builder.imagecheck", "expected.json")
    except FileNotFoundError:
        content = None
    return tuple(Expected(**row) for row in json.loads(content or b"[]"))
