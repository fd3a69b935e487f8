"""What Packer says as events, and which step a build is in; the same for every builder and every Packer since 1.6.6.

Later Packers give a script's own output the tone of a headline. So a step begins with the headline that names its
script in our template, and ends with a mark that only this run knows (`execute_command` in variables.pkr.hcl prints it
on both streams, with the exit code); what is said in between is the step's own, whatever it looks like.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal

from builder.packer.work_directory import PAYLOAD, STEPS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Tone = Literal["say", "message", "error"]
_ROW: Final = re.compile(r"(\d+),([^,]*),([a-z][a-z-]*)(?:,(.*))?")
_COMMA: Final = "%!(PACKER_COMMA)"
# Every line that belongs to one builder carries its name: "==> qemu.host: " or, indented, "    qemu.host: ".
_OWNED: Final = re.compile(r"(?:==>|   ) ([\w.-]+): ?(.*)")


@dataclass(frozen=True, slots=True)
class UiLine:
    """One line for people. `say` is Packer's headline, `message` detail and a step's output, `error` an error."""

    tone: Tone
    builder: str
    text: str


@dataclass(frozen=True, slots=True)
class BuilderFailed:
    """Why a builder gave up, in Packer's last word on it."""

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
class RawLine:
    """A line that is no row of the format, such as one of a crash."""

    text: str


@dataclass(frozen=True, slots=True)
class OtherRow:
    """A row for programs, such as a count; of no use to people."""

    text: str


Event = UiLine | BuilderFailed | Artifact | RawLine | OtherRow


def parse(line: str) -> tuple[Event, ...]:
    """The events of one row: a headline of several lines is several."""
    row = _ROW.fullmatch(line.rstrip("\r\n"))
    if row is None:
        return (RawLine(line),) if line.strip() else ()
    target, kind = row[2], row[3]
    data = tuple(unescape(part) for part in (row[4] or "").split(","))
    match (kind, *data):
        case ("ui", "say" | "message" | "error" as tone, *texts):
            return tuple(_ui_line(tone, part) for part in "\n".join(texts).split("\n") if part.strip())
        case ("error", *texts) if target:
            return (BuilderFailed(target, "\n".join(texts)),)
        case ("artifact", index, key, *values) if index.isdigit():
            return (Artifact(target, int(index), key, tuple(values)),)
    return (OtherRow(line),)


def log_line(event: Event) -> str:
    """An event as a line of a log for people."""
    match event:
        case UiLine(tone, builder, text):
            return f"{builder}: {'' if tone == 'say' else '  '}{text}" if builder else text
        case BuilderFailed(builder, text):
            return f"{builder}: failed: {text}"
        case Artifact(builder, index, key, values):
            return f"{builder}: artifact {index}: {key} {' '.join(values)}".rstrip()
        case RawLine(text) | OtherRow(text):
            return text


def unescape(text: str) -> str:
    """One datum as it was. A backslash is not escaped by Packer, so one before an n reads as a line end."""
    return text.replace(_COMMA, ",").replace("\\r", "\r").replace("\\n", "\n")


def _ui_line(tone: Tone, line: str) -> UiLine:
    # What a program drew over with carriage returns, only its last state.
    text = line.rstrip("\r").rpartition("\r")[2]
    owned = _OWNED.fullmatch(text)
    return UiLine(tone, owned[1], owned[2]) if owned else UiLine(tone, "", text.strip())


START: Final = "start"
BOOT: Final = "boot"
UPLOAD: Final = "upload"
EXPORT: Final = "export"
_SCRIPT: Final = "Provisioning with shell script: "
_UPLOAD: Final = f"Uploading {PAYLOAD}/ => "
_CONNECT: Final = ("Waiting for SSH to become available", "Using SSH communicator to connect")
# What Packer says once a script has failed or was lost; anything after it is clean-up.
_GIVEN_UP: Final = "Provisioning step had errors"
_TAIL: Final = 2000
_STREAMS: Final = 2


class StepTracker:
    """Is fed with events in order; knows the current step, its output, and Packer's reasons for giving up.

    `mark` is what this run's steps print at their end; `steps` are the names of the template's scripts, in order.
    """

    def __init__(self, mark: str = "", steps: Sequence[str] = ()) -> None:
        self.step = START
        self.reasons: list[str] = []
        self.failed = self.interrupted = False
        self._mark = mark
        self._last = steps[-1] if steps else ""
        self._scripts = {f"{STEPS}/{name}": name for name in steps}
        self._marks = 0
        self._running = False
        self._lines: deque[UiLine | RawLine] = deque(maxlen=_TAIL)

    def feed(self, event: Event) -> str | None:
        """The step that begins with this event, if one does."""
        if isinstance(event, BuilderFailed):
            self.reasons.append(event.text)
        if not isinstance(event, UiLine | RawLine) or self._is_mark(event):
            return None
        begins = self._begins(event)
        if begins is None or begins == self.step:
            if self._is_of_step(event):
                self._lines.append(event)
            return None
        self.step = begins
        self._lines.clear()
        return begins

    def _is_mark(self, event: UiLine | RawLine) -> bool:
        """A step ends when its mark has come on stdout and on stderr: text that is still buffered belongs to it."""
        if not self._mark or not self._running or not event.text.startswith(f"{self._mark} "):
            return False
        self._marks += 1
        if self._marks == _STREAMS:
            self._running = False
            self.failed = event.text.split()[-1] != "0"
        return True

    def _begins(self, event: UiLine | RawLine) -> str | None:
        silent = self._running or self.failed or self.interrupted
        if silent or not isinstance(event, UiLine) or event.tone != "say" or not event.builder:
            return None
        return self._named(event.text)

    def _named(self, headline: str) -> str | None:
        if headline.startswith(_SCRIPT):
            return self._script(PurePosixPath(headline.removeprefix(_SCRIPT).strip()))
        if headline.startswith(_UPLOAD):
            return UPLOAD
        if headline.lower().startswith(tuple(map(str.lower, _CONNECT))):
            return BOOT if self.step == START else None
        # The first word of the builder after the last step: it stops its machine, makes its image.
        return EXPORT if self.step == self._last else None

    def _script(self, path: PurePosixPath) -> str | None:
        name = self._scripts.get("/".join(path.parts[-3:]))
        if name:
            self._running, self._marks = True, 0
        return name

    def _is_of_step(self, event: UiLine | RawLine) -> bool:
        """Whether it belongs to the step: not Packer's lines about all builds, nor its clean-up."""
        if self.failed or self.interrupted:
            return False
        return self._running or isinstance(event, RawLine) or bool(event.builder)

    @property
    def between_steps(self) -> bool:
        """Whether what is said now is the builder's own and no step's."""
        return not self._running

    @property
    def output(self) -> list[str]:
        """What the current step said, without what Packer said after it; of the builder, up to its first error."""
        lines = self._split()[0] if self._running else list(self._lines)
        if self.step in (START, BOOT, EXPORT):
            first = next((number for number, it in enumerate(lines) if _is_error(it)), len(lines))
            lines = [*lines[: first + 1], *(it for it in lines[first + 1 :] if isinstance(it, RawLine))]
        return [event.text for event in lines]

    @property
    def builder_error(self) -> str:
        """The builder's own first error: what follows is often only its consequence."""
        errors = [event.text.strip() for event in self._lines if _is_error(event)]
        return errors[0] if errors and not self._running else ""

    @property
    def closing(self) -> bool:
        """Whether all steps are over, and the builder makes its image."""
        return self.step == EXPORT

    def interrupt(self) -> None:
        """From now on nothing is the step's: Packer has been asked to end."""
        self.interrupted, self._running = True, False

    def lost(self) -> Iterable[UiLine | RawLine]:
        """What was said after a step that never ended, such as that of a machine that vanished: Packer's clean-up."""
        return self._split()[1] if self._running else ()

    def _split(self) -> tuple[list[UiLine | RawLine], list[UiLine | RawLine]]:
        """What the step said, and what came after it; Packer's own word for that is the last of its kind."""
        lines = list(self._lines)
        ends = [number for number, event in enumerate(lines) if event.text.startswith(_GIVEN_UP)]
        return (lines[: ends[-1]], lines[ends[-1] + 1 :]) if ends else (lines, [])


def _is_error(event: Event) -> bool:
    return isinstance(event, UiLine) and event.tone == "error"
