"""What a server says on its serial console, the only channel that nobody on the network can forge."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

# Printed by /usr/lib/easyrunner/first-boot; serial lines may be cut into by the kernel's, never inside a line of ours.
_READY: Final = re.compile(r"easyrunner: ready name=(\S+)(.*)")
_NOT_READY: Final = re.compile(r"easyrunner: (not ready: .*)")
_FINGERPRINT: Final = re.compile(r"easyrunner: ssh \d+ (SHA256:[A-Za-z0-9+/]{43}) ")
# Printed by cloud-init.
_KEYS: Final = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_KEY: Final = re.compile(r"\b((?:ssh|ecdsa)-[a-z0-9-]+) (AAAA[A-Za-z0-9+/]+={0,2})")


@dataclass(frozen=True, slots=True, order=True)
class HostKey:
    """A public host key: its type and its base64."""

    kind: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it; empty when the base64 is damaged."""
        try:
            data = base64.b64decode(self.blob, validate=True)
        except binascii.Error:
            return ""
        return "SHA256:" + base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Report:
    """What a console tells. `ready` is the name in the ready line, `failure` why there will be none."""

    ready: str | None = None
    failure: str | None = None
    fingerprints: frozenset[str] = frozenset()
    keys: frozenset[HostKey] = frozenset()

    @property
    def trusted(self) -> frozenset[HostKey]:
        """Printed keys whose fingerprints the host itself has printed too."""
        return frozenset(key for key in self.keys if key.fingerprint in self.fingerprints)


def read(text: str) -> Report:
    """The state of the last boot that the text shows."""
    ready, failed = list(_READY.finditer(text)), list(_NOT_READY.finditer(text))
    last = max((*ready, *failed), key=lambda match: match.start(), default=None)
    return Report(
        ready=last[1] if last in ready and last else None,
        failure=last[1].strip() if last in failed and last else None,
        fingerprints=frozenset(_FINGERPRINT.findall(text)),
        keys=parse_keys("\n".join(_KEYS.findall(text))),
    )


def parse_keys(text: str) -> frozenset[HostKey]:
    """All public keys in a text, as ssh-keyscan and cloud-init print them."""
    return frozenset(HostKey(kind, blob) for kind, blob in _KEY.findall(text))


def tail(text: str, lines: int = 12) -> str:
    """The end of it, for a person."""
    return "\n  ".join(line for line in text.replace("\r", "").strip().splitlines()[-lines:] if line.strip())
