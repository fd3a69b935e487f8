"""Host keys, and the entries for them in a known_hosts file."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import files, process

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_KEY: Final = re.compile(r"\b((?:ssh|ecdsa)-[a-z0-9-]+) (AAAA[A-Za-z0-9+/]+={0,2})")
_SCAN_SECONDS: Final = 5


@dataclass(frozen=True, slots=True, order=True)
class HostKey:
    """A public host key: its type and its base64."""

    type: str
    blob: str

    @property
    def fingerprint(self) -> str:
        """As ssh-keygen shows it; empty when the base64 is damaged."""
        try:
            data = base64.b64decode(self.blob, validate=True)
        except binascii.Error:
            return ""
        return "SHA256:" + base64.b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")


def parse_keys(text: str) -> frozenset[HostKey]:
    """All public keys in a text, as ssh-keyscan and cloud-init print them."""
    return frozenset(HostKey(type_, blob) for type_, blob in _KEY.findall(text))


def scan(address: str) -> frozenset[HostKey]:
    """Ask a server for its host keys, which proves nothing yet; empty when SSH does not answer from here."""
    argv = ["ssh-keyscan", "-T", str(_SCAN_SECONDS), "-t", "ed25519,ecdsa,rsa", address]
    return parse_keys(process.run(argv, check=False).stdout)


def default() -> Path:
    """The user's own file, so that a plain `ssh` knows the server."""
    return Path.home() / ".ssh" / "known_hosts"


def named(text: str) -> Path:
    """A file that the user named. Raises OutputError where it cannot be written, or ssh could not read it then."""
    files.check(text)
    if files.is_stream(text) and not Path(text).is_char_device():
        raise files.OutputError(f"{text}: host keys go into a file that ssh reads, too", "give a file name")
    return Path(text)


def update(path: Path, addresses: Collection[str], keys: Collection[HostKey], name: str) -> bool:
    """Write the file when it would change; whether it did."""
    # A device such as /dev/null has no old text. A pipe was refused before: ssh reads this file as well.
    old = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    new = merge(old, addresses, keys, name)
    if new == old:
        return False
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    mode = None if path.exists() else 0o600
    files.write(path, new.encode("utf-8", errors="surrogateescape"), mode)
    return True


def known(path: Path, address: str) -> frozenset[HostKey]:
    """The keys that a file has for an address."""
    return parse_keys("\n".join(entries(path, [address])))


def entries(path: Path, addresses: Collection[str]) -> list[str]:
    """The lines that a file has for these addresses."""
    text = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    return [line for line in text.splitlines() if _is_for(line, addresses)]


def merge(text: str, addresses: Collection[str], keys: Iterable[HostKey], name: str) -> str:
    """The text with entries for these addresses, and without what it said about them before.

    AWS hands addresses on: an entry of somebody's former server would be a false alarm. Without keys, entries only go.
    """
    kept = [line for line in text.splitlines() if not _is_for(line, addresses)]
    new = [f"{address} {key.type} {key.blob} er:{name}" for address in sorted(addresses) for key in sorted(keys)]
    return "".join(f"{line}\n" for line in (*kept, *new))


_HASHED: Final = "|1|"


def _is_for(line: str, addresses: Collection[str]) -> bool:
    """Whether an entry is for one of the addresses alone; ssh may have hashed them."""
    host = line.split(maxsplit=1)[0] if line.strip() else ""
    if host.startswith(_HASHED):
        return any(_is_hash_of(host, address) for address in addresses)
    return host in addresses


def _is_hash_of(host: str, address: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in host.removeprefix(_HASHED).split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, address.encode(), hashlib.sha1), digest)
