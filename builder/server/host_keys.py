"""Host keys as ssh takes them: one that is known by its fingerprint, a file of them, and the lines for such a file."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from builder.server.ssh import SEEN_KEY, config, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FINGERPRINT: Final = r"SHA256:[A-Za-z0-9+/]{43}"
# ssh asks it for the keys of a host that it connects to, and tells it the one that it sees there: KnownHostsCommand in
# ssh_config(5). What it says of that is read from stderr when ssh refuses the key.
_COMMAND: Final = (
    f'/bin/sh -c \'[ $1 = NONE ] || echo "{SEEN_KEY}$1" >&2; [ $1 != {{fingerprint}} ] || echo "$2 $3 $4"\''
    " sh %f %H %t %K"
)
_NO_FILES: Final = ("-o", "GlobalKnownHostsFile=none", "-o", "StrictHostKeyChecking=yes")


def by_fingerprint(fingerprint: str) -> tuple[str, ...]:
    """Options of ssh: the host key has this fingerprint. Raises ValueError for what is none."""
    if not re.fullmatch(FINGERPRINT, fingerprint):
        raise ValueError(fingerprint)
    command = _COMMAND.format(fingerprint=fingerprint)
    return ("-o", f"KnownHostsCommand={command}", "-o", "UserKnownHostsFile=none", *_NO_FILES)


def by_file(path: str) -> tuple[str, ...]:
    """Options of ssh: the host key is in this file, and no other file counts."""
    return ("-o", f"UserKnownHostsFile={quoted(path)}", *_NO_FILES)


def known_hosts(host: str, options: Sequence[str], keys: Iterable[dict[str, Any]]) -> str:
    """The lines for known_hosts under the name by which ssh looks HOST up: its own configuration may say another."""
    found = config(host, options)
    name = found.get("hostkeyalias") or found.get("hostname", host)
    if "hostkeyalias" not in found and (port := found.get("port", "22")) != "22":
        name = f"[{name}]:{port}"
    return "".join(f"{name} {key['type']} {key['key']}\n" for key in keys)
