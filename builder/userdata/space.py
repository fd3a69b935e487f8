"""What takes the space in user-data, and what to say when there is too little of it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.userdata.cloudconfig import PARTS, around, block

if TYPE_CHECKING:
    from builder.host import File, Host
    from builder.spec import Spec
    from builder.userdata.cloudconfig import On

SETTINGS: Final = "admin, keys, settings"
_REST: Final = "system settings"
# The first row whose words are in the path says which group a file of the host itself belongs to.
_GROUPS: Final = (
    ("firewall", ("firewall",)),
    ("Caddy", ("/caddy/", f"/{facts.PROXY_UID}", f"@{facts.PROXY_UID}")),
    ("Fail2Ban", ("/fail2ban/",)),
    ("SSH", ("/ssh/",)),
    ("provisioning and first boot", (facts.LIB, "er-first-boot", "server.env")),
)


@dataclass(frozen=True, slots=True)
class Group:
    """Something that takes space: its name, how many bytes of the limit, about, and what it is in files."""

    name: str
    used: int
    files: int
    raw: int


def group(file: File) -> str:
    """The group of a file."""
    if file.stack:
        return f"stack {file.stack}"
    return next((name for name, words in _GROUPS if any(word in file.path for word in words)), _REST)


def groups(spec: Spec, host: Host, on: On, used: int, *, compressed: bool) -> tuple[Group, ...]:
    """The groups of a delivery that takes `used`, largest first; the sizes add up to it.

    Compressed, a group counts what it adds to the groups before it, so that text it shares with them is theirs.
    """
    texts: dict[str, list[str]] = {SETTINGS: ["".join(around(spec, ascii_only=compressed))]}
    for file in sorted(host.only(*PARTS[on]), key=lambda file: bool(file.stack)):
        texts.setdefault(group(file), []).append(block(file, ascii_only=compressed))
    raw = {name: "".join(blocks).encode() for name, blocks in texts.items()}
    sizes = _added(raw) if compressed else {name: len(content) for name, content in raw.items()}
    scale = used / sum(sizes.values())
    found = (
        Group(name, round(size * scale), len(texts[name]) - (name == SETTINGS), len(raw[name]))
        for name, size in sizes.items()
    )
    return tuple(sorted(found, key=lambda one: -one.used))


def _added(raw: dict[str, bytes]) -> dict[str, int]:
    stream = zlib.compressobj(9)
    return {name: len(stream.compress(content) + stream.flush(zlib.Z_SYNC_FLUSH)) for name, content in raw.items()}
