"""Runs one `packer build` to its end, whatever that is, and tells its steps as they come and go."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.packer import failures, leftovers, log, program, steps, upload_files, work_directory
from builder.packer.failures import BakeError, hint, shown
from builder.packer.leftovers import Left, Leftovers
from builder.packer.steps import START, Phases
from builder.packer.work_directory import CONSOLE
from builder.problems import UserError
from builder.process import Session
from builder.qemu.access import PANIC, SilentError, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.packer.log import Log
    from builder.packer.program import Packer
    from builder.packer.targets import Target
    from builder.packer.upload_files import Payload
    from builder.packer.work_directory import Laid, Places


# Packer takes a machine of a provider away in a minute or two; its own limits for that are longer.
CLEAN_UP: Final = 300.0
# A snapshot of a large disk takes an hour, and some plugins cannot be stopped while one is made.
CLOSING: Final = 7200.0
_SECOND: Final = 15.0
# With less than this free a virtual machine's disk is about to stop in the middle of a write.
_LAST_WORDS: Final = 8
LEAST_FREE: Final = 48 * 1024 * 1024
_TAKES_AWAY: Final = "Packer takes everything away; Ctrl-C ends it at once, and leaves what is there"
_CLOSES: Final = (
    "the image is being made, and Packer ends when the provider lets it, which can take long; "
    "Ctrl-C ends it at once, and leaves what is there"
)


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


@dataclass(frozen=True, slots=True)
class Made:
    """What a build made, and what it may have left besides."""

    artifacts: tuple[steps.Artifact, ...]
    left: tuple[Left, ...] = ()


@dataclass
class Course:
    """What is known of one build: its steps, and what it makes at a provider."""

    phases: Phases = field(default_factory=Phases)
    left: Leftovers = field(default_factory=Leftovers)
    target: str = ""
    artifacts: list[steps.Artifact] = field(default_factory=list)

    def feed(self, event: steps.Event) -> str | None:
        """The step that begins with this event, if one does."""
        if isinstance(event, steps.Artifact):
            self.artifacts.append(event)
        quiet = self.phases.quiet
        begins = self.phases.feed(event)
        if quiet and isinstance(event, steps.Said) and event.builder:
            phases = self.phases
            self.left.feed(event, cleaning=phases.closing or phases.failed or phases.interrupted)
        return begins

    def may_have_stayed(self, *, done: bool, ended: bool) -> tuple[Left, ...]:
        """What to look for at the provider, when Packer is gone."""
        for event in self.phases.lost():
            if isinstance(event, steps.Said) and event.builder:
                self.left.feed(event, cleaning=True)
        reasons = {line.strip() for reason in self.phases.reasons for line in reason.splitlines()}
        return self.left.left(done=done, ended=ended, asked=self.phases.interrupted, reasons=reasons)


def run_build(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    log: Log,
    tell: Callable[[str], None],
    course: Course,
    speaks_within: float | None = None,
) -> Generator[Told, None, Made]:
    """Run it; the result is what it made. Raises BakeError, or SilentError where a machine has not spoken in time.

    Closed or interrupted, it lets Packer clean up first, for as long as that may take; `tell` says so, and what may
    have stayed.
    """
    phases = course.phases
    began = since = time.monotonic()
    yield Started(START)
    with Session(argv, env=environment, cwd=directory) as session, _cancelled(session, log, tell, course):
        for event in _noted(session.lines(tick=_Look(directory, log.path, speaks_within)), log):
            previous = phases.step
            if started := course.feed(event):
                yield Ended(previous, time.monotonic() - since)
                yield Started(started)
                since = time.monotonic()
            elif isinstance(event, steps.Said) and event.builder and event.text:
                yield Line(event.text)
        code = session.code or 0
    done = not (code or phases.reasons) and bool(course.artifacts)
    left = course.may_have_stayed(done=done, ended=code >= 0 and (done or bool(code)))
    if not done:
        raise failures.failed(phases, time.monotonic() - began, code, log.path, left=left, target=course.target)
    yield Ended(phases.step, time.monotonic() - since)
    return Made(tuple(course.artifacts), left)


def _noted(lines: Iterator[str], log: Log) -> Iterator[steps.Event]:
    """The events of these lines, without secrets, once they are in the log."""
    for line in lines:
        for event in steps.parse(log.hide(line)):
            log.write(steps.plain(event))
            yield event


@contextmanager
def _cancelled(session: Session, log: Log, tell: Callable[[str], None], course: Course) -> Iterator[None]:
    """Leaving early, for any reason, ends the build in order, and says what may be left of it."""
    try:
        yield
    except BaseException:
        if session.code is None:
            tell(_CLOSES if course.phases.closing else _TAKES_AWAY)
            course.phases.interrupt()
            ended = wind_up(session, log, (CLOSING if course.phases.closing else CLEAN_UP, _SECOND), course.feed)
            _tell_left(course.may_have_stayed(done=False, ended=ended), log, tell)
        raise


def _tell_left(left: Iterable[Left], log: Log, tell: Callable[[str], None]) -> None:
    for line in leftovers.lines(tuple(left)):
        log.write(line)
        tell(line)


def wind_up(
    session: Session,
    log: Log,
    waits: Sequence[float] = (CLEAN_UP, _SECOND),
    feed: Callable[[steps.Event], object] = lambda _: None,
) -> bool:
    """Ask Packer to end, after the first wait once more, then end it and all it started; whether it ended by itself.

    The wish goes to Packer alone: its plugins must live to clean up. An interrupt ends them all at once.
    """
    try:
        for wait in waits:
            session.signal(signal.SIGTERM)
            for event in _noted(session.lines(timeout=wait), log):
                feed(event)
            if session.code is not None:
                return session.code >= 0
    except KeyboardInterrupt:
        pass
    session.end()
    return False


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


# How long a plugin's download and a check of the template may take, in seconds.
_LONGEST: Final = {"init": 600.0, "validate": 180.0}
_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Job:
    """What to run. `files` are the template's, `variables` its values; `var_files` come from the user, and win."""

    packer: Packer
    files: tuple[Laid, ...]
    upload: Payload
    variables: Mapping[str, Any]
    var_files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    target: Target | None = None

    def commands(self) -> list[list[str]]:
        """Every call of Packer, in order, to be made in the work directory."""
        init = program.init(self.packer)
        calls = [program.validate(self.packer, self.var_files), program.build(self.packer, self.var_files)]
        return [init, *calls] if init else calls

    def steps(self) -> list[str]:
        """Names of the template's scripts, in their order."""
        return sorted(file.path.removeprefix("steps/") for file in self.files if file.path.startswith("steps/"))

    def hidden(self) -> frozenset[str]:
        """What must not be seen in the log or on the screen."""
        found = log.from_environment(self.environment)
        return found.union(*(log.from_variables(path.read_text(errors="replace")) for path in self.var_files))


def lay(job: Job, places: Places, **variables: object) -> None:
    """Write the template, the upload and the values, among them what only this run has."""
    values = {**job.variables, **variables, "mark": places.mark}
    work_directory.lay(places.root / work_directory.TEMPLATE, [*job.files, work_directory.values(values)])
    upload_files.write(job.upload, places.root / work_directory.PAYLOAD)


def init(job: Job, places: Places, log: Log) -> Generator[Told, None, None]:
    """Fetch the plugin of the template, before anything that takes long. Raises BakeError."""
    if call := program.init(job.packer):
        work_directory.lay(places.root / work_directory.TEMPLATE, job.files)
        yield from _checked(job, call, places, log)


def run(
    job: Job,
    places: Places,
    log: Log,
    tell: Callable[[str], None],
    left: Leftovers | None = None,
    *,
    speaks_within: float | None = None,
) -> Generator[Told, None, Made]:
    """Validate and build in a laid work directory; what comes back is what was made. Raises BakeError.

    `left` follows what the builder makes at a provider. A virtual machine whose console says nothing for the first
    `speaks_within` seconds raises SilentError.
    """
    name = job.target.name if job.target else ""
    course = Course(Phases(places.mark, job.steps()), left or Leftovers(), name)
    environment = program.environment(job.environment, places)
    *_, validate, build = job.commands()
    yield from _checked(job, validate, places, log)
    return (
        yield from run_build(
            build, environment, places.root, log=log, tell=tell, course=course, speaks_within=speaks_within
        )
    )


def _checked(job: Job, call: list[str], places: Places, log: Log) -> Generator[Told, None, None]:
    """A call that has something to say only when it fails; its whole process group ends with it."""
    step, since = call[1], time.monotonic()
    yield Started(step)
    lines: list[str] = []
    environment = program.environment(job.environment, places)
    with Session(call, env=environment, cwd=places.root) as session:
        for line in session.lines(timeout=_LONGEST[step]):
            lines.append(log.hide(line))
            log.write(lines[-1])
        code = session.code
    if code != 0:
        raise _refused(job, step, code, lines, log)
    yield Ended(step, time.monotonic() - since)


def _refused(job: Job, step: str, code: int | None, lines: list[str], log: Log) -> BakeError:
    target = job.target
    lacking = program.lacking(target, job.packer, job.environment) if target and step == "init" else None
    if lacking:
        what, way = lacking
        return BakeError(f"packer init failed: {what}{_text(lines[-1:])}", step, hint([], log.path, more=way))
    what = f"took longer than {_LONGEST[step]:.0f} s" if code is None else "failed"
    return BakeError(f"packer {step} {what}:{_text(lines)}", step, hint(lines, log.path, target.name if target else ""))


def _text(lines: list[str]) -> str:
    return "".join(f"\n  | {line}" for line in shown(lines)[:_SHOWN])
