"""Certificates that hosts share: whether they are there, and what only the proxy's user may read of them."""

from __future__ import annotations

import ssl
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.server.remote.common import Value

_PROGRAM: Final = f"{facts.LIB}/storage"
# Seconds. What is away answers with an error after 15 of them, and a step of a path takes two such answers.
_PATIENCE: Final = 45
_CERTIFICATES: Final = f"{facts.CADDY_DATA}/caddy/certificates"
# Each file after a line with its path; what is no file is left, as the directory is the proxy's to fill.
_ALL: Final = 'cd "$0" && for file in */*/*.crt; do [ ! -f "$file" ] || { echo "er $file"; cat "$file"; }; done'


def source() -> str:
    """What is mounted, as mount(8) writes it; empty where certificates are this host's own."""
    try:
        return Path(facts.STORAGE).read_text().strip()
    except FileNotFoundError:
        return ""


def host_data() -> list[str]:
    """What of a host's data is no stack's: certificates, unless hosts share them, bans, the record of releases."""
    return [*([] if source() else [facts.CADDY_DATA]), facts.BANS, facts.RELEASES]


def state() -> Value | None:
    """The `source`, whether it is `mounted`, and what is wrong as `said`; None where they are its own."""
    where = source()
    if not where:
        return None
    if _is_mounted():
        return {"source": where, "mounted": True, "said": _trouble()}
    try:
        said = Path(facts.STORAGE_SAID).read_text()
    except OSError:
        said = ""
    return {"source": where, "mounted": False, "said": said or "it was unmounted, or not looked for yet"}


def _is_mounted() -> bool:
    """Asked of the kernel's table, which no server can keep waiting."""
    return any(line.split()[4] == facts.CADDY_DATA for line in Path("/proc/self/mountinfo").read_text().splitlines())


def _trouble() -> str:
    """What is wrong with what is mounted: it does not answer, or its clock is not this host's."""
    try:
        off = int(common.run([_PROGRAM, "look"], timeout=_PATIENCE).split()[-1])
    except (RemoteError, ValueError, IndexError) as error:
        return f"it does not answer, sites are served from memory and nothing is renewed: {error}"
    return f"this host's clock is {abs(off)} seconds off its clock" if abs(off) > facts.CLOCK_LIMIT else ""


def described() -> str:
    """What is wrong, in a sentence; empty where all is well."""
    found = state()
    if not found or not found["said"]:
        return ""
    way = found["source"] if found["mounted"] else f"{found['source']} is not mounted, and the proxy does not run"
    return f"{way}: {found['said']}"


def check_same(new: Mapping[str, bytes]) -> None:
    """Raises RemoteError where a spec has them elsewhere: certificates would stay behind, and be ordered once more."""
    has, wants = source(), new.get(facts.STORAGE, b"").decode().strip()
    if has != wants:
        raise RemoteError(
            f"this host was made with certificates at {has}" if has else "this host's certificates are its own",
            "leave `tls: {storage: …}` in the spec as it was; else make a new server: docs/shared-certificates.md",
        )


def certificates() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each certificate that Caddy keeps, by its domain, as Python's ssl describes one."""
    with tempfile.NamedTemporaryFile() as file:
        for domain, content in _shared() if source() else _own():
            Path(file.name).write_bytes(content)
            yield domain, ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]


def _own() -> Iterator[tuple[str, bytes]]:
    for path in Path(_CERTIFICATES).glob("*/*/*.crt"):
        if stat.S_ISREG(path.lstat().st_mode):  # the directory is the proxy's, which could make anything there
            yield path.stem, path.read_bytes()


def _shared() -> Iterator[tuple[str, bytes]]:
    """Read as the proxy's user: root is nobody on most servers of files."""
    if not _is_mounted():
        return
    words = ["setpriv", f"--reuid={facts.PROXY_UID}", f"--regid={facts.PROXY_UID}", "--clear-groups"]
    text = common.run([*words, "sh", "-c", _ALL, _CERTIFICATES], check=False, timeout=_PATIENCE)
    for part in text.split("er ")[1:]:
        name, _, content = part.partition("\n")
        yield Path(name).stem, content.encode()
