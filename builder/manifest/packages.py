"""Installed packages from the text of /var/lib/dpkg/status, in its format (deb-control)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.manifest.manifest import Package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_WANTED: Final = frozenset({"Package", "Status", "Version", "Architecture", "Source"})


def installed(status: str) -> tuple[Package, ...]:
    """The packages that are installed, by name and architecture; half-installed and removed ones are not."""
    found = (_package(stanza) for stanza in _stanzas(status) if stanza.get("Status", "").endswith(" installed"))
    return tuple(sorted(found, key=lambda package: (package.name, package.arch)))


def _stanzas(text: str) -> Iterator[Mapping[str, str]]:
    for block in text.split("\n\n"):
        fields = (line.partition(":") for line in block.splitlines() if line[:1].strip())
        stanza = {name: value.strip() for name, _, value in fields if name in _WANTED}
        if "Package" in stanza:
            yield stanza


def _package(stanza: Mapping[str, str]) -> Package:
    # "Source: name (version)"; without a version it is the package's own, without the field so is the name.
    source, _, version = stanza.get("Source", stanza["Package"]).partition(" ")
    return Package(
        name=stanza["Package"],
        version=stanza["Version"],
        arch=stanza["Architecture"],
        source=source,
        source_version=version.strip("()") or stanza["Version"],
    )
