"""Unit files as values, and the one place that knows how systemd and Podman's generator read a line.

A value that the user chose passes through one of three encoders. All of them double `%`, which systemd would expand,
and `$`, since everything ends in the ExecStart= line that Podman writes; none lets a line break through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from builder.stack.model import UNENCODABLE

# Podman's generator stops reading at an empty word, and hands a lone semicolon to systemd, for which it begins
# another command. Both go through variables of the unit, which systemd puts in place after it has split the line.
_THROUGH_VARIABLE: Final = {"": "ER_EMPTY", ";": "ER_SEMICOLON"}
VARIABLES: Final = {variable: word for word, variable in _THROUGH_VARIABLE.items()}

_ESCAPES: Final = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_NEEDS_QUOTES: Final = re.compile(r"[\s\"'\\\x00-\x1f\x7f]")
_KEY: Final = re.compile(r"(?:X-EasyRunner-)?[A-Z][A-Za-z0-9]*")
_SECTION: Final = re.compile(r"[A-Z][A-Za-z]*")


class EncodingError(ValueError):
    """A value that no unit file can carry."""


def word(text: str) -> str:
    """One word of a key that is split like a command line: Exec=, Environment=, Label=, PodmanArgs=, Secret=."""
    if text in _THROUGH_VARIABLE:
        return f"${{{_THROUGH_VARIABLE[text]}}}"
    _refuse(text)
    doubled = _double(text)
    if not _NEEDS_QUOTES.search(doubled):
        return doubled
    return '"' + "".join(_escape(character) for character in doubled) + '"'


def words(*texts: str) -> str:
    """Several words, as in a command line."""
    return " ".join(word(text) for text in texts)


def fits_line(text: str) -> bool:
    """True when a key that is read as a whole line can carry this value unchanged."""
    return bool(text) and text == text.strip() and not re.search(r'^"|"$|\\$|[\x00-\x1f\x7f]', text)


def line(text: str) -> str:
    """The value of a key that is read as a whole line: Image=, Volume=, HealthCmd=, …"""
    if not fits_line(text):
        msg = f"not a value for one line: {text!r}"
        raise EncodingError(msg)
    _refuse(text)
    return _double(text)


def _double(text: str) -> str:
    return text.replace("%", "%%").replace("$", "$$")


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return character if character.isprintable() or ord(character) > 0x80 else f"\\x{ord(character):02x}"


def _refuse(text: str) -> None:
    if UNENCODABLE.search(text):
        msg = f"a character that no unit can carry in {text!r}"
        raise EncodingError(msg)


Entry = tuple[str, str]
"""A key of a section and its encoded value."""


@dataclass(frozen=True)
class Section:
    """A section of a unit: keys and their encoded values, in file order."""

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Unit:
    """A unit file."""

    filename: str
    sections: tuple[Section, ...]

    def __str__(self) -> str:
        return "\n".join(_section(section) for section in self.sections if section.entries)


def _section(section: Section) -> str:
    if not _SECTION.fullmatch(section.name):
        msg = f"not a section: {section.name!r}"
        raise EncodingError(msg)
    return f"[{section.name}]\n" + "".join(_entry(key, value) for key, value in section.entries)


def _entry(key: str, value: str) -> str:
    """One line. The last gate: whatever an encoder let through, a value stays on its line."""
    if not _KEY.fullmatch(key) or re.search(r"[\x00-\x1f\x7f]|\\$", value):
        msg = f"not an entry of a unit: {key}={value!r}"
        raise EncodingError(msg)
    return f"{key}={value}\n"
