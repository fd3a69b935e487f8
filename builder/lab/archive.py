"""Which edition of a distribution's archive a mirror has today."""

from __future__ import annotations

import functools
import re
import tempfile
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

from builder import process

# Apt's own downloader: it knows this machine's proxies and credentials, as mmdebstrap, which is apt too, does.
_HELPER: Final = "/usr/lib/apt/apt-helper"
_OPTIONS: Final = (
    "APT::Sandbox::User=root",
    "Acquire::Retries=0",
    "Acquire::http::Timeout=5",
    "Acquire::https::Timeout=5",
)
_DATE: Final = re.compile(r"^Date:\s*(.+)$", re.MULTILINE)
_FORM: Final = "%Y%m%dT%H%M%S"


@functools.cache
def edition(mirror: str | None, suite: str) -> str:
    """When the suite was last published, as `20261121T091544` (UTC); empty where that cannot be found out.

    A stable suite is published anew with each point release. Asked once a run, so that a run keeps to one edition. The
    signature is not looked at: this tells which of our trees is of today, and what is put into one apt verifies.
    """
    if mirror is None or not Path(_HELPER).exists():
        return ""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory, "InRelease")
        options = [word for option in _OPTIONS for word in ("-o", option)]
        url = f"{mirror.rstrip('/')}/dists/{suite}/InRelease"
        done = process.run([_HELPER, *options, "download-file", url, str(target)], check=False)
        return published(target.read_text(errors="replace")) if done.returncode == 0 else ""


def published(release: str) -> str:
    """The date of a Release file (wiki.debian.org/DebianRepository/Format); empty when there is none to read."""
    match = _DATE.search(release)
    try:
        return parsedate_to_datetime(match[1]).strftime(_FORM) if match else ""
    except ValueError:
        return ""
