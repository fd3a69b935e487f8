"""The checks as one file that the image's own python3 runs: `check.pyz [--live] [--json] [--only ID]… DIRECTORY`."""

from __future__ import annotations

import argparse
import hashlib
import json
import pkgutil
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.imagecheck.image_tree import Expected
from builder.imagecheck.table import IDS, examine

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.host.model import File


_MAIN: Final = "import sys\n\nfrom builder.imagecheck.zipapp import main\n\nsys.exit(main())\n"
# A fixed time, so that the same checks give the same bytes.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def bundle(target: Path, files: Iterable[File] = ()) -> Path:
    """Write the zipapp to `target`, with the host's baked files to expect; the same input gives the same bytes."""
    here = Path(__file__).parent
    texts = {f"builder/imagecheck/{path.name}": path.read_text() for path in sorted(here.glob("*.py"))}
    texts |= {"builder/__init__.py": "", "__main__.py": _MAIN}
    texts["builder/imagecheck/expected.json"] = json.dumps([asdict(file) for file in expected(files)], indent=0)
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in sorted(texts.items()):
            archive.writestr(zipfile.ZipInfo(name, _TIME), text, zipfile.ZIP_DEFLATED)
    return target


def expected(files: Iterable[File]) -> tuple[Expected, ...]:
    """What to expect of these files of a host, which are those of its baked part."""
    return tuple(
        Expected(file.path, file.mode, file.owner, file.group, hashlib.sha256(file.content).hexdigest())
        for file in files
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the report; 0 when clean, 1 on findings, 2 on wrong usage."""
    options = _parser().parse_args(arguments)
    if not options.directory.is_dir():
        sys.stderr.write(f"error: {options.directory} is not a directory\n")
        return 1
    report = examine(options.directory, live=options.live, expected=_bundled_files(), only=options.only)
    sys.stdout.write(report.as_json() if options.json else report.as_text())
    return 0 if report.clean else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="check.pyz", description="Checks the hygiene of an image.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--live", action="store_true", help="the directory is the running system's root")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--only", action="append", default=[], choices=IDS, metavar="ID")
    return parser


def _bundled_files() -> tuple[Expected, ...]:
    """The host's files that `bundle` was given; none outside of a zipapp."""
    try:
        content = pkgutil.get_data("builder.imagecheck", "expected.json")
    except FileNotFoundError:
        content = None
    return tuple(Expected(**row) for row in json.loads(content or b"[]"))
