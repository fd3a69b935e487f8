"""Keeps secrets out of what is written and shown: their values are replaced wherever they turn up."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Names that say that their value is one.
_TELLING: Final = r"token|secret|password|passphrase|api_?key|private_?key|access_?key|credential"
_NAME: Final = re.compile(_TELLING, re.IGNORECASE)
_ASSIGNED: Final = re.compile(rf'"?(\w*(?:{_TELLING})\w*)"?\s*[=:]\s*"((?:[^"\\]|\\.)+)"', re.IGNORECASE)
# Shorter ones are words of the language, and would blot out the text.
_SHORTEST: Final = 8
_HIDDEN: Final = "***"
# A name of a file with a secret is itself none, and worth seeing in an error.
_PATH: Final = re.compile(r"(?:/|~/|\.{1,2}/)[\w./ -]*")


def from_environment(environment: Mapping[str, str], named: Iterable[str] = ()) -> frozenset[str]:
    """The values that the environment's names give away as secrets, and those of the names given."""
    chosen = {*named, *(name for name in environment if _NAME.search(name))}
    return frozenset(filter(_worth, (environment.get(name, "") for name in chosen)))


def from_variables(text: str) -> frozenset[str]:
    """The same for a file of variables, HCL or JSON."""
    return frozenset(filter(_worth, (found[2] for found in _ASSIGNED.finditer(text))))


def hide(text: str, secrets: frozenset[str]) -> str:
    """The text without them; longest first, as one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _worth(value: str) -> bool:
    return len(value) >= _SHORTEST and not _PATH.fullmatch(value)
