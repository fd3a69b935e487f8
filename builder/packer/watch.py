"""Runs one `packer build` to its end, whatever that is, and tells its steps as they come and go."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder.packer import events, failure
from builder.packer.phases import START, Phases
from builder.packer.workdir import CONSOLE
from builder.problems import UserError
from builder.qemu.console import PANIC, SilentError, silent
from builder.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.packer.log import Log

# Packer takes a machine of a provider away in a minute or two; its own limits for that are longer.
_CLEAN_UP: Final = 300.0
_SECOND: Final = 15.0
# With less than this free a virtual machine's disk is about to stop in the middle of a write.
_LAST_WORDS: Final = 8
LEAST_FREE: Final = 48 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Started:
    """A step has begun."""

    step: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step is over, after so many seconds."""

    step: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Line:
    """What a step says while it goes on."""

    text: str


@dataclass(frozen=True, slots=True)
class Note:
    """What has to be read, whatever shows it."""

    text: str


Told = Started | Ended | Line | Note


def build(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    log: Log,
    tell: Callable[[str], None],
    *,
    speaks_within: float | None = None,
) -> Generator[Told, None, tuple[events.Artifact, ...]]:
    """Run it; the result is what it made. Raises BakeError, or SilentError where a machine has not spoken in time.

    Closed or interrupted, it lets Packer clean up first, for as long as that may take; `tell` says so.
    """
    phases, artifacts = Phases(), list[events.Artifact]()
    began = since = time.monotonic()
    yield Started(START)
    with Session(argv, env=environment, cwd=directory) as session, _cancelled(session, log, tell):
        for event in _noted(session.lines(tick=_Look(directory, log.path, speaks_within)), log):
            if isinstance(event, events.Artifact):
                artifacts.append(event)
            previous = phases.step
            if started := phases.feed(event):
                yield Ended(previous, time.monotonic() - since)
                yield Started(started)
                since = time.monotonic()
            elif isinstance(event, events.Said) and event.builder and event.text:
                yield Line(event.text)
        code = session.code or 0
    if code or phases.reasons or not artifacts:
        raise failure.failed(phases, time.monotonic() - began, code, log.path)
    yield Ended(phases.step, time.monotonic() - since)
    return tuple(artifacts)


def _noted(lines: Iterator[str], log: Log) -> Iterator[events.Event]:
    """The events of these lines, without secrets, once they are in the log."""
    for line in lines:
        for event in events.parse(log.hide(line)):
            log.write(events.plain(event))
            yield event


@contextmanager
def _cancelled(session: Session, log: Log, tell: Callable[[str], None]) -> Iterator[None]:
    """Leaving early, for any reason, ends the build in order."""
    try:
        yield
    except BaseException:
        if session.code is None:
            tell("Packer takes everything away; Ctrl-C ends it at once")
            wind_up(session, log)
        raise


def wind_up(session: Session, log: Log, waits: Sequence[float] = (_CLEAN_UP, _SECOND)) -> None:
    """Pass the wish to end on to Packer once, then once more, then end it and all it started.

    The wish goes to Packer alone: its plugins must live to clean up. An interrupt while waiting cuts the wait short.
    """
    for wait in waits:
        session.signal(signal.SIGTERM)
        try:
            for _ in _noted(session.lines(timeout=wait), log):
                pass
        except KeyboardInterrupt:
            continue
        if session.code is not None:
            return
    session.end()


class _Look:
    """What Packer itself would never notice: a full disk, a kernel that crashed, a machine that never begins."""

    def __init__(self, directory: Path, log: Path, speaks_within: float | None) -> None:
        self._directory = directory
        self._console = directory / CONSOLE
        self._log = log
        self._speaks_within = speaks_within
        self._powered_on: float | None = None

    def __call__(self) -> None:
        _check_space(self._directory, self._log)
        if not self._console.exists():
            return
        said = self._console.read_text(errors="replace")
        if PANIC in said:
            raise _crashed(said, self._log)
        if self._speaks_within is not None and silent(said):
            self._powered_on = self._powered_on or time.monotonic()
            if time.monotonic() - self._powered_on > self._speaks_within:
                raise SilentError.after(self._speaks_within)


def _crashed(said: str, log: Path) -> UserError:
    lines = [line.strip() for line in said[: said.index(PANIC)].splitlines()[-_LAST_WORDS:]]
    text = "\n".join(f"  | {line}" for line in lines)
    return UserError(f"the kernel of the machine being baked crashed:\n{text}", f"try again; the whole log: {log}")


def _check_space(directory: Path, log: Path) -> None:
    """A disk that fills up stops the virtual machine without a word, and Packer would wait for ever."""
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize < LEAST_FREE:
        way = "free some space there, or name another place with -o"
        raise UserError(f"the disk is full: {directory.parent}", f"{way}; the whole log: {log}")
