"""The entries of `ssh_keys`: keys, or files of keys. Nothing here quotes an entry that could be a secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, NamedTuple

from builder.spec import messages, public_key
from builder.spec.rules import Wrong

_PRIVATE: Final = re.compile(
    r"PRIVATE KEY|PuTTY-User-Key-File|^\s*b3BlbnNzaC1rZXktdjE|^\s*MII[A-Za-z0-9+/]{60}", re.MULTILINE
)
_REMOTE: Final = re.compile(r"(gh|lp|github|launchpad):\S|https?://", re.IGNORECASE)
_KEY_WORD: Final = re.compile(
    r"(?:^|\s)(?:ssh|ecdsa|sk)-[a-z0-9@.-]+(?:\s|$)|(?:^|\s)AAAA[A-Za-z0-9+/=]{16,}", re.MULTILINE
)
_LARGEST_FILE: Final = 65_536


class Keys(NamedTuple):
    """The usable lines of one entry, and what is wrong or worth knowing."""

    lines: tuple[str, ...]
    faults: tuple[Wrong, ...]


def resolve(entry: str, base: Path) -> Keys:
    """The keys of an entry of `ssh_keys`: a key, several lines of them, or the path of a file."""
    try:
        return _check(_lines(entry) if _is_key(entry) else _read(entry, base))
    except Wrong as wrong:
        return Keys((), (wrong,))


def _is_key(entry: str) -> bool:
    if _PRIVATE.search(entry):
        raise Wrong(messages.KEY_PRIVATE)
    if "BEGIN SSH2 PUBLIC KEY" in entry:
        raise Wrong(messages.KEY_SSH2)
    if _REMOTE.match(entry):
        raise Wrong(messages.KEY_REMOTE)
    return bool(_KEY_WORD.search(entry.strip()))


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _read(entry: str, base: Path) -> list[str]:
    path = base / (Path(entry).expanduser() if entry.startswith("~/") else entry)
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE).decode("utf-8", "replace")
    except (OSError, ValueError):
        raise _missing(entry, path) from None
    if _PRIVATE.search(text):
        raise Wrong(messages.KEY_PRIVATE_FILE, path=entry)
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise Wrong(messages.KEY_SSH2)
    lines = _lines(text)
    if not lines or not any(_KEY_WORD.search(line) for line in lines):
        raise Wrong(messages.KEY_FILE_EMPTY, path=entry)
    return lines


def _missing(entry: str, path: Path) -> Wrong:
    shown = entry if len(entry) <= 80 and entry.isprintable() else "of this name"
    try:
        if Path(f"{path}.pub").is_file():
            return Wrong(messages.KEY_FILE_NEAR, path=shown, near=f"{entry}.pub")
    except (OSError, ValueError):
        pass
    return Wrong(messages.KEY_FILE_MISSING, path=shown)


def _check(lines: list[str]) -> Keys:
    good: list[str] = []
    faults: list[Wrong] = []
    for line in lines:
        found = list(public_key.faults(line))
        faults += found
        if all(wrong.text.severity == "warning" for wrong in found):
            good.append(" ".join(line.split()))
    return Keys(tuple(good), tuple(faults))
