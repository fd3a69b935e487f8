"""Hosts that `egress:` names: what the resolver said of each, and when. /usr/lib/easyrunner/names asks it."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.server.remote.common import Value

_LIST: Final = re.compile(rf"{facts.FIREWALL}/30-(?P<stack>[^/.]+)\.names")
MADE: Final = re.compile(r"\.names\.filter\.v[46](\.new)?$")
_NAME: Final = re.compile(r" -d (\S+) ")
_REFUSED: Final = tuple(map(ipaddress.ip_network, (*facts.METADATA, "127.0.0.0/8", "::1/128")))


def resolve() -> list[Value]:
    """Ask for every name anew and bring the rules in line; returns how each stands. None where no spec has names."""
    if not Path(facts.NAMES).exists():
        return []
    common.run([facts.NAMES], check=False)
    found = every()
    if any(one["failing_since"] for one in found):
        common.run(["systemctl", "--no-block", "restart", "er-names.service"], check=False)  # it goes on asking
    return found


def every() -> list[Value]:
    """Each name of each stack: its addresses, when they were found (seconds since 1970), since when there is no answer.

    `refused` are those of the addresses that no stack may reach under any name.
    """
    lists = sorted(Path(facts.FIREWALL).glob("30-*.names"))
    pairs = ((path, name) for path in lists for name in dict.fromkeys(_NAME.findall(path.read_text())))
    return [_name(match["stack"], name) for path, name in pairs if (match := _LIST.fullmatch(str(path)))]


def _name(stack: str, name: str) -> Value:
    answer = Path(facts.ANSWERS, name)
    addresses = answer.read_text().split() if answer.exists() else []
    return {
        "stack": stack,
        "name": name,
        "addresses": addresses,
        "refused": [text for text in addresses if _inside(text)],
        "resolved": _changed(answer),
        "failing_since": _changed(Path(facts.ANSWERS, f"{name}~")),
    }


def _changed(path: Path) -> int | None:
    return int(path.stat().st_mtime) if path.exists() else None


def _inside(text: str) -> bool:
    address = ipaddress.ip_address(text)
    return any(address in network for network in _REFUSED)


def made_from(paths: Iterable[str]) -> list[str]:
    """The files of rules that the host makes from those of these paths that are lists of names."""
    return [f"{path}.filter.v{family}" for path in paths if _LIST.fullmatch(path) for family in (4, 6)]
