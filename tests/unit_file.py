"""A small reader of unit files, after systemd's own rules: what a written unit means, for tests."""

from __future__ import annotations

import re

_ESCAPED = dict(zip("\\\"'sabfnrtv", "\\\"' \a\b\f\n\r\t\v", strict=True))


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """The sections of a unit, each with its keys and raw values in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    current: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.startswith(("#", ";")):
            continue
        if line.startswith("["):
            assert line.endswith("]"), number
            current = found.setdefault(line[1:-1], [])
            continue
        key, equals, value = line.partition("=")
        assert equals, f"line {number} is no entry: {line}"
        current.append((key, value))
    return found


def split(value: str) -> list[str]:
    """The words of a command line, unquoted and unescaped."""
    words: list[str] = []
    word: str | None = None
    quote, position = "", 0
    while position < len(value):
        character = value[position]
        if character == "\\":
            taken, position = _escape(value, position + 1)
            word = (word or "") + taken
            continue
        if quote:
            quote, word = ("", word or "") if character == quote else (quote, (word or "") + character)
        elif character in "'\"":
            quote, word = character, word or ""
        elif character in " \t":
            words, word = (words, None) if word is None else ([*words, word], None)
        else:
            word = (word or "") + character
        position += 1
    assert not quote, value
    return words if word is None else [*words, word]


def _escape(value: str, position: int) -> tuple[str, int]:
    if value[position] == "x":
        return chr(int(value[position + 1 : position + 3], 16)), position + 3
    return _ESCAPED[value[position]], position + 1


def expand(word: str, variables: dict[str, str] | None = None) -> str:
    """Specifiers and variables put in, as systemd does when it runs a command. Unknown ones are an error.

    Those that the host sets when a service starts, for new directories (ER_OWN0, …) and for addresses, are nothing.
    """

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return "" if re.fullmatch(r"ER_(OWN|ADDRESS)\d+", found[1]) else (variables or {})[found[1]]

    assert not re.search(r"(?<!%)(%%)*%(?!%)", word), word
    return re.sub(r"\$\$|\$\{(\w+)\}", replace, word).replace("%%", "%")
