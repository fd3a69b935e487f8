"""Where a bake on this machine's own network takes its packages from."""

from __future__ import annotations

from typing import Final

from builder.localhost import debian_mirror

_SUITES: Final = {"debian-13": "trixie"}


def here(base: str) -> str:
    """The lines of a sources.list for a base, from this machine's mirror; empty where the image's own will do."""
    return lines(base, debian_mirror.mirror(), debian_mirror.mirror(archive="debian-security"))


def lines(base: str, mirror: str | None, security: str | None) -> str:
    """The same as a pure function; without a mirror there is nothing to say."""
    suite = _SUITES.get(base)
    if suite is None or mirror is None:
        return ""
    found = [(mirror, suite), (mirror, f"{suite}-updates"), *([(security, f"{suite}-security")] if security else [])]
    return "".join(f"deb {uri} {name} main\n" for uri, name in found)
