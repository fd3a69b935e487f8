"""What `packer build -machine-readable` says, as typed events.

A row is `time,target,type,data…`, see https://developer.hashicorp.com/packer/docs/commands#format; commas in the data
are `%!(PACKER_COMMA)`, and line ends `\\n` and `\\r`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal

Tone = Literal["say", "message", "error"]
_ROW: Final = re.compile(r"(\d+),([^,]*),([a-z][a-z-]*)(?:,(.*))?")
_COMMA: Final = "%!(PACKER_COMMA)"
# Every line that belongs to one builder carries its name: "==> qemu.host: " or, indented, "    qemu.host: ".
_OWNED: Final = re.compile(r"(?:==>|   ) ([\w.-]+): ?(.*)")


@dataclass(frozen=True, slots=True)
class Said:
    """One line of talk. `say` is Packer's headline, `message` detail and a step's output, `error` its complaints."""

    tone: Tone
    builder: str
    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a builder gave up, in Packer's final word."""

    builder: str
    text: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """One property of what was built, such as its id, or one of its files."""

    builder: str
    index: int
    key: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Raw:
    """A line that is no row of the format, such as one of a crash."""

    text: str


@dataclass(frozen=True, slots=True)
class Other:
    """A row for programs, such as a count; of no use to people."""

    text: str


Event = Said | Failed | Artifact | Raw | Other


def parse(line: str) -> tuple[Event, ...]:
    """The events of one row: a headline of several lines is several."""
    row = _ROW.fullmatch(line.rstrip("\r\n"))
    if row is None:
        return (Raw(line),) if line.strip() else ()
    target, kind = row[2], row[3]
    data = tuple(unescape(part) for part in (row[4] or "").split(","))
    match (kind, *data):
        case ("ui", "say" | "message" | "error" as tone, *texts):
            return tuple(_said(tone, part) for part in "\n".join(texts).split("\n") if part.strip())
        case ("error", *texts) if target:
            return (Failed(target, "\n".join(texts)),)
        case ("artifact", index, key, *values) if index.isdigit():
            return (Artifact(target, int(index), key, tuple(values)),)
    return (Other(line),)


def plain(event: Event) -> str:
    """An event as a line of a log for people."""
    match event:
        case Said(tone, builder, text):
            return f"{builder}: {'' if tone == 'say' else '  '}{text}" if builder else text
        case Failed(builder, text):
            return f"{builder}: failed: {text}"
        case Artifact(builder, index, key, values):
            return f"{builder}: artifact {index}: {key} {' '.join(values)}".rstrip()
        case Raw(text) | Other(text):
            return text


def unescape(text: str) -> str:
    """One datum as it was. A backslash is not escaped by Packer, so one before an n cannot be told from a line end."""
    return text.replace(_COMMA, ",").replace("\\r", "\r").replace("\\n", "\n")


def _said(tone: Tone, line: str) -> Said:
    # What a program drew over with carriage returns, only its last state.
    text = line.rstrip("\r").rpartition("\r")[2]
    owned = _OWNED.fullmatch(text)
    return Said(tone, owned[1], owned[2]) if owned else Said(tone, "", text.strip())
