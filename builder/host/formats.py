"""What stands in a file of the host: text that every format takes as it is, or what the encoder of one has made.

Units and Quadlets are written by builder.quadlet.unit, user-data by YAML. Templates pass each value through `plain`, so
that one which needs an encoder and has none ends the build instead of becoming a line of its own.
"""

from __future__ import annotations

import re
from typing import Final

from builder.quadlet.unit_file import EncodingError

# Nothing that units, tmpfiles.d, sysusers.d, Caddyfiles, env files, iptables-restore or a shell take for their own.
_PLAIN: Final = re.compile(r"[A-Za-z0-9_/.:@,+=-]+")


class Encoded(str):
    """Text in the spelling of a format."""

    __slots__ = ()


def plain(value: object) -> str:
    """The text of a value that needs no encoder, or has had one. Raises EncodingError."""
    text = str(value)
    if isinstance(value, Encoded) or _PLAIN.fullmatch(text):
        return text
    raise EncodingError(f"this needs an encoder of its file's format: {text!r}")


def fail2ban(text: str) -> Encoded:
    """A line of a value in Fail2Ban's configuration, where a percent sign begins another value's name.

    Raises EncodingError.
    """
    if re.search(r"[\x00-\x1f\x7f]", text):
        raise EncodingError(f"no line of a value of Fail2Ban's: {text!r}")
    return Encoded(text.replace("%", "%%"))


def caddy(text: str) -> Encoded:
    """One token of a Caddyfile: quoted where `#` or a quote would begin something else.

    Braces are Caddy's own in every spelling; between double quotes a backslash escapes nothing but a quote, between
    backticks nothing is escaped. Raises EncodingError.
    """
    if re.search(r"[\x00-\x1f\x7f{}]", text):
        raise EncodingError(f"no token of a Caddyfile: {text!r}")
    if _PLAIN.fullmatch(text):
        return Encoded(text)
    if "\\" not in text:
        return Encoded('"' + text.replace('"', '\\"') + '"')
    if "`" not in text:
        return Encoded(f"`{text}`")
    raise EncodingError(f"no token of a Caddyfile: {text!r}")
