"""known_hosts entries from keys that the server's console vouches for: no trust on first use."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import files, process
from builder.aws.console import HostKey, Report, parse_keys
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

_HASH: Final = "|1|"
_SCAN_SECONDS: Final = 5


def default() -> Path:
    """The user's own file, so that a plain `ssh` knows the server."""
    return Path.home() / ".ssh" / "known_hosts"


def named(text: str) -> Path:
    """A place that was named. Raises OutputError where nothing can be written, or ssh could not read it after that."""
    files.check(text)
    if files.is_stream(text) and not Path(text).is_char_device():
        raise files.OutputError(f"{text}: host keys go into a file that ssh reads, too", "give a file name")
    return Path(text)


def merge(text: str, addresses: Collection[str], keys: Iterable[HostKey], name: str) -> str:
    """The text with entries for these addresses, and without what it said about them before.

    AWS hands addresses on: an entry of somebody's former server would be a false alarm. Without keys, entries only go.
    """
    kept = [line for line in text.splitlines() if not _names(line, addresses)]
    new = [f"{address} {key.kind} {key.blob} er:{name}" for address in sorted(addresses) for key in sorted(keys)]
    return "".join(f"{line}\n" for line in (*kept, *new))


def _names(line: str, addresses: Collection[str]) -> bool:
    """Whether an entry is for one of the addresses alone; ssh may have hashed them."""
    host = line.split(maxsplit=1)[0] if line.strip() else ""
    if host.startswith(_HASH):
        return any(_hashed(host, address) for address in addresses)
    return host in addresses


def _hashed(host: str, address: str) -> bool:
    try:
        salt, found = (base64.b64decode(part, validate=True) for part in host.removeprefix(_HASH).split("|"))
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, address.encode(), hashlib.sha1), found)


def update(path: Path, addresses: Collection[str], keys: Collection[HostKey], name: str) -> bool:
    """Write the file when it would change; whether it did."""
    # A device has nothing to keep, and ssh reads it as well: a pipe is refused before.
    old = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else ""
    new = merge(old, addresses, keys, name)
    if new == old:
        return False
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
    mode = None if path.exists() else 0o600
    files.write(path, new.encode("utf-8", errors="surrogateescape"), mode)
    return True


def scan_argv(address: str) -> list[str]:
    """Asks a server for its host keys, which proves nothing yet."""
    return ["ssh-keyscan", "-T", str(_SCAN_SECONDS), "-t", "ed25519,ecdsa,rsa", address]


def vouched(report: Report, address: str) -> frozenset[HostKey]:
    """The server's keys: printed on the console, or asked for and compared with its fingerprints.

    Empty when SSH does not answer from here. Raises UserError when whoever answers is not this server.
    """
    if report.trusted or not report.fingerprints:
        return report.trusted
    done = process.run(scan_argv(address), check=False)
    answered = parse_keys(done.stdout)
    good = frozenset(key for key in answered if key.fingerprint in report.fingerprints)
    if answered and not good:
        raise UserError(
            f"what answers SSH at {address} is not this server: its host key is not the one on the console",
            "do not log in; something between here and the server answers in its place",
        )
    return good
