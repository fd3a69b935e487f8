"""The Debian mirror that this machine uses, read from apt's sources in both formats, and what it has published."""

from __future__ import annotations

import functools
import re
import tempfile
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from builder import process

if TYPE_CHECKING:
    from collections.abc import Iterator


_ONE_LINE: Final = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$")
Archive = Literal["debian", "debian-security", "ubuntu"]
# A mirror of an archive itself has a suite named like a release and the component main.
_DEBIAN: Final = "bookworm|trixie|forky|sid|stable|testing|unstable"
_SUITES: Final[dict[Archive, re.Pattern[str]]] = {
    "debian": re.compile(rf"^({_DEBIAN})$"),
    "debian-security": re.compile(rf"^({_DEBIAN})-security$"),
    "ubuntu": re.compile(r"^(jammy|noble|plucky|questing|resolute)$"),
}


def mirror(apt: Path = Path("/etc/apt"), archive: Archive = "debian") -> str | None:
    """The URI of the first mirror of `archive` in apt's sources; None without one, as for Debian's on Ubuntu."""
    suites = _SUITES[archive]
    return next((uri for uri, suite, parts in _entries(apt) if suites.match(suite) and "main" in parts), None)


def _entries(apt: Path) -> Iterator[tuple[str, str, list[str]]]:
    parts = apt / "sources.list.d"
    for path in sorted(parts.glob("*.sources")):
        yield from _deb822(path.read_text())
    for path in [apt / "sources.list", *sorted(parts.glob("*.list"))]:
        if path.is_file():
            yield from _one_line(path.read_text())


def _one_line(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for line in text.splitlines():
        if match := _ONE_LINE.match(line.split("#")[0].strip()):
            yield match[1], match[2], match[3].split()


def _deb822(text: str) -> Iterator[tuple[str, str, list[str]]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields = _fields(stanza)
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield uri, suite, fields.get("components", "").split()


def _fields(stanza: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    last = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1].isspace():
            fields[last] = f"{fields.get(last, '')} {line.strip()}"
        elif ":" in line:
            name, value = line.split(":", 1)
            last = name.strip().lower()
            fields[last] = value.strip()
    return fields


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
    signature is not checked: this only says whether a tree is up to date, and apt verifies what is put into one.
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
