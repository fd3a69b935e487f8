"""The entries of `ssh_keys`: public keys, or files of them, down to the fields inside a key.

No problem quotes an entry, which could be a secret.
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.spec import messages
from builder.spec.rules import RuleError

if TYPE_CHECKING:
    from collections.abc import Iterator


class KeyLines(NamedTuple):
    """The usable lines of one entry, as in authorized_keys, and what is wrong or worth knowing."""

    lines: tuple[str, ...]
    faults: tuple[RuleError, ...]


def read_entry(entry: str, base: Path) -> KeyLines:
    """The keys of an entry of `ssh_keys`: a key, several lines of them, or the path of a file."""
    try:
        return _check_lines(_lines(entry) if _is_key(entry) else _read_file(entry, base))
    except RuleError as fault:
        return KeyLines((), (fault,))


_PRIVATE: Final = re.compile(
    r"PRIVATE KEY|PuTTY-User-Key-File|^\s*b3BlbnNzaC1rZXktdjE|^\s*MII[A-Za-z0-9+/]{60}", re.MULTILINE
)
_REMOTE: Final = re.compile(r"(gh|lp|github|launchpad):\S|https?://", re.IGNORECASE)
_KEY_WORD: Final = re.compile(
    r"(?:^|\s)(?:ssh|ecdsa|sk)-[a-z0-9@.-]+(?:\s|$)|(?:^|\s)AAAA[A-Za-z0-9+/=]{16,}", re.MULTILINE
)


def _is_key(entry: str) -> bool:
    if _PRIVATE.search(entry):
        raise RuleError(messages.KEY_PRIVATE)
    if "BEGIN SSH2 PUBLIC KEY" in entry:
        raise RuleError(messages.KEY_SSH2)
    if _REMOTE.match(entry):
        raise RuleError(messages.KEY_REMOTE)
    return bool(_KEY_WORD.search(entry.strip()))


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


_LARGEST_FILE: Final = 65_536


def _read_file(entry: str, base: Path) -> list[str]:
    path = base / (Path(entry).expanduser() if entry.startswith("~/") else entry)
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_FILE).decode("utf-8", "replace")
    except (OSError, ValueError):
        raise _missing(entry, path) from None
    if _PRIVATE.search(text):
        raise RuleError(messages.KEY_PRIVATE_FILE, path=entry)
    if "BEGIN SSH2 PUBLIC KEY" in text:
        raise RuleError(messages.KEY_SSH2)
    lines = _lines(text)
    if not lines or not any(_KEY_WORD.search(line) for line in lines):
        raise RuleError(messages.KEY_FILE_EMPTY, path=entry)
    return lines


def _missing(entry: str, path: Path) -> RuleError:
    shown = entry if len(entry) <= 80 and entry.isprintable() else "of this name"
    try:
        if Path(f"{path}.pub").is_file():
            return RuleError(messages.KEY_FILE_NEAR, path=shown, near=f"{entry}.pub")
    except (OSError, ValueError):
        pass
    return RuleError(messages.KEY_FILE_MISSING, path=shown)


def _check_lines(lines: list[str]) -> KeyLines:
    good: list[str] = []
    faults: list[RuleError] = []
    for line in lines:
        found = list(key_faults(line))
        faults += found
        if all(fault.text.severity == "warning" for fault in found):
            good.append(" ".join(line.split()))
    return KeyLines(tuple(good), tuple(faults))


# The content of the key in the template, after its type.
TEMPLATE_KEY: Final = b"replace this key by your own one"
TYPES: Final = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)


def key_faults(line: str) -> Iterator[RuleError]:
    """What is wrong with a line of authorized_keys, or worth knowing."""
    kind, _, rest = line.partition(" ")
    try:
        _check_type(kind, line)
        fields = _decode(kind, (rest.split() or [""])[0])
    except RuleError as fault:
        yield fault
        return
    if kind == "ssh-rsa":
        yield from _check_rsa(int.from_bytes(fields[1], "big").bit_length())
    if fields[0] == TEMPLATE_KEY:
        yield RuleError(messages.KEY_TEMPLATE)


def _check_type(kind: str, line: str) -> None:
    if kind in TYPES:
        return
    if kind == "ssh-dss":
        raise RuleError(messages.KEY_DSS)
    if kind.startswith("AAAA"):
        raise RuleError(messages.KEY_NO_TYPE)
    if any(f" {known} AAAA" in line for known in TYPES):
        raise RuleError(messages.KEY_OPTIONS)
    raise RuleError(messages.KEY_TYPE, kind=kind[:40], known=", ".join(TYPES))


# How many fields follow the type, and the length of the first where it is fixed.
_FIELDS: Final = {
    "ssh-ed25519": (1, 32),
    "ssh-rsa": (2, None),
    "sk-ssh-ed25519@openssh.com": (2, 32),
    "sk-ecdsa-sha2-nistp256@openssh.com": (3, 8),
}
_ECDSA_FIELDS: Final = (2, 8)


def _decode(kind: str, blob: str) -> list[bytes]:
    """The fields after the type."""
    if not blob:
        raise RuleError(messages.KEY_CUT)
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        raise RuleError(messages.KEY_BASE64 if re.search(r"[^A-Za-z0-9+/=]", blob) else messages.KEY_CUT) from None
    fields = _split(data)
    found = fields[0].decode("ascii", "replace")
    if found != kind and found in (*TYPES, "ssh-dss"):
        raise RuleError(messages.KEY_MISMATCH, said=kind, found=found)
    count, length = _FIELDS.get(kind, _ECDSA_FIELDS)
    if found != kind or len(fields) != count + 1 or (length and len(fields[1]) != length):
        raise RuleError(messages.KEY_CUT)
    return fields[1:]


def _split(data: bytes) -> list[bytes]:
    """Length-prefixed fields, as RFC 4253 writes them."""
    fields = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length:
            raise RuleError(messages.KEY_CUT)
        fields.append(data[4 : 4 + length])
        data = data[4 + length :]
    return fields or [b""]


_RSA_LEAST: Final = 2048
_RSA_GOOD: Final = 3072


def _check_rsa(bits: int) -> Iterator[RuleError]:
    if bits < _RSA_LEAST:
        yield RuleError(messages.KEY_RSA_SHORT, bits=bits)
    elif bits < _RSA_GOOD:
        yield RuleError(messages.KEY_RSA_WEAK, bits=bits)
