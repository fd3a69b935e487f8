"""The Debian mirror this machine itself uses, read from apt's sources in both formats."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

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
    """The URI of the first such archive in apt's sources; None where there is none, as for Debian's on Ubuntu."""
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
