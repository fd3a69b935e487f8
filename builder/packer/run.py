"""Runs Packer in a work directory: `packer init`, `validate` and `build`, as a stream of the steps that begin and end.

A build that is left early is ended in order: Packer takes away what it has made before this returns.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from builder.lab.events import Ended, Line, Started
from builder.manifest import Step
from builder.packer import build_log, failures, leftovers, program, steps, upload_files, work_directory
from builder.packer.failures import BakeError, hint, useful_lines
from builder.packer.leftovers import Tracker
from builder.packer.steps import START, StepTracker
from builder.packer.work_directory import CONSOLE
from builder.problems import UserError
from builder.process import Session
from builder.qemu.power import PANIC, SilentError, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from builder.lab.events import Progress
    from builder.packer.build_log import Log
    from builder.packer.leftovers import Leftover
    from builder.packer.program import Packer
    from builder.packer.request import Request
    from builder.packer.targets import Target
    from builder.packer.upload_files import Upload
    from builder.packer.work_directory import TemplateFile, WorkDirectory

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Job:
    """What to run. `files` are the template's, `variables` its values; `var_files` come from the user, and win."""

    packer: Packer
    files: tuple[TemplateFile, ...]
    upload: Upload
    variables: Mapping[str, Any]
    var_files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    target: Target | None = None

    def commands(self) -> list[list[str]]:
        """Every call of Packer, in order, to be made in the work directory."""
        init = program.init_argv(self.packer)
        calls = [program.validate_argv(self.packer, self.var_files), program.build_argv(self.packer, self.var_files)]
        return [init, *calls] if init else calls

    def steps(self) -> list[str]:
        """Names of the template's scripts, in their order."""
        return sorted(file.path.removeprefix("steps/") for file in self.files if file.path.startswith("steps/"))

    def hidden(self) -> frozenset[str]:
        """The secrets that must not be seen in the log or on the screen."""
        secrets = build_log.environment_secrets(self.environment)
        return secrets.union(*(build_log.variable_secrets(path.read_text(errors="replace")) for path in self.var_files))


@dataclass(frozen=True, slots=True)
class Bake:
    """One bake under way. `report` is for what must be said while it is being given up."""

    request: Request
    job: Job
    work: WorkDirectory
    log: Log
    clock: Clock
    report: Callable[[str], None]


class Clock:
    """Times the steps of a bake. `steps` are those that are over, in order."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def step(self, name: str, work: Callable[[], T]) -> Generator[Progress, None, T]:
        """Do work that reports nothing of its own, as one step."""
        yield Started(name)
        since = time.monotonic()
        result = work()
        yield self._end(Ended(name, time.monotonic() - since))
        return result

    def follow(self, events: Generator[Progress, None, T]) -> Generator[Progress, None, T]:
        """Pass on the events of work that reports its own steps; it is closed when this is."""
        with closing(events):
            while True:
                try:
                    event = next(events)
                except StopIteration as end:
                    result: T = end.value
                    return result
                yield self._end(event) if isinstance(event, Ended) else event

    def _end(self, ended: Ended) -> Ended:
        self.steps.append(Step(ended.step, ended.seconds))
        return ended


def write_files(job: Job, work: WorkDirectory, **variables: object) -> None:
    """Write the template, the upload and the values, among them `variables`, which only this run has."""
    values = {**job.variables, **variables, "mark": work.mark}
    work_directory.write(work.root / work_directory.TEMPLATE, [*job.files, work_directory.values_file(values)])
    upload_files.write(job.upload, work.root / work_directory.PAYLOAD)


def init(job: Job, work: WorkDirectory, log: Log) -> Generator[Progress, None, None]:
    """Fetch the plugin of the template, before anything that takes long. Raises BakeError."""
    if argv := program.init_argv(job.packer):
        work_directory.write(work.root / work_directory.TEMPLATE, job.files)
        yield from _call(job, argv, work, log)


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made, and what it may have left besides."""

    artifacts: tuple[steps.Artifact, ...]
    left: tuple[Leftover, ...] = ()


def build(
    job: Job,
    work: WorkDirectory,
    log: Log,
    report: Callable[[str], None],
    tracker: Tracker | None = None,
    *,
    speaks_within: float | None = None,
) -> Generator[Progress, None, BuildResult]:
    """Validate and build in a work directory that is written; what comes back is what was made. Raises BakeError.

    `tracker` follows what the builder makes at a provider. A virtual machine whose console says nothing for the first
    `speaks_within` seconds raises SilentError.
    """
    name = job.target.name if job.target else ""
    state = BuildState(StepTracker(work.mark, job.steps()), tracker or Tracker(), name)
    environment = program.environment(job.environment, work)
    *_, validate, argv = job.commands()
    yield from _call(job, validate, work, log)
    return (
        yield from run_build(
            argv, environment, work.root, log=log, report=report, state=state, speaks_within=speaks_within
        )
    )


# How long a plugin's download and a check of the template may take, in seconds.
_CALL_SECONDS: Final = {"init": 600.0, "validate": 180.0}
_SHOWN_LINES: Final = 40


def _call(job: Job, argv: list[str], work: WorkDirectory, log: Log) -> Generator[Progress, None, None]:
    """A call that has something to say only when it fails; its whole process group ends with it."""
    step, since = argv[1], time.monotonic()
    yield Started(step)
    lines: list[str] = []
    environment = program.environment(job.environment, work)
    with Session(argv, env=environment, cwd=work.root) as session:
        for line in session.lines(timeout=_CALL_SECONDS[step]):
            lines.append(log.hide(line))
            log.write(lines[-1])
        code = session.code
    if code != 0:
        raise _call_failed(job, step, code, lines, log)
    yield Ended(step, time.monotonic() - since)


def _call_failed(job: Job, step: str, code: int | None, lines: list[str], log: Log) -> BakeError:
    target = job.target
    missing = program.missing_plugin(target, job.packer, job.environment) if target and step == "init" else None
    if missing:
        what, way = missing
        return BakeError(f"packer init failed: {what}{_indented(lines[-1:])}", step, hint([], log.path, more=way))
    what = f"took longer than {_CALL_SECONDS[step]:.0f} s" if code is None else "failed"
    way = hint(lines, log.path, target.name if target else "")
    return BakeError(f"packer {step} {what}:{_indented(lines)}", step, way)


def _indented(lines: list[str]) -> str:
    return "".join(f"\n  | {line}" for line in useful_lines(lines)[:_SHOWN_LINES])


def run_build(
    argv: Sequence[str],
    environment: Mapping[str, str],
    directory: Path,
    *,
    log: Log,
    report: Callable[[str], None],
    state: BuildState,
    speaks_within: float | None = None,
) -> Generator[Progress, None, BuildResult]:
    """Run `packer build` in `directory` to its end.

    Raises BakeError, or SilentError where a machine has not spoken in time. Closed or interrupted, it lets Packer clean
    up first, for as long as that may take; `report` is told so, and what may have stayed.
    """
    tracker = state.step_tracker
    began = since = time.monotonic()
    yield Started(START)
    with Session(argv, env=environment, cwd=directory) as session, _cancelled(session, log, report, state):
        watchdog = _Watchdog(directory, log.path, speaks_within)
        for event in _logged_events(session.lines(tick=watchdog), log):
            previous = tracker.step
            if started := state.feed(event):
                yield Ended(previous, time.monotonic() - since)
                yield Started(started)
                since = time.monotonic()
            elif isinstance(event, steps.UiLine) and event.builder and event.text:
                yield Line(event.text)
        code = session.code or 0
    done = not (code or tracker.reasons) and bool(state.artifacts)
    left = state.may_have_stayed(done=done, ended=code >= 0 and (done or bool(code)))
    if not done:
        seconds = time.monotonic() - began
        raise failures.build_failed(tracker, seconds, code, log.path, left=left, target=state.target)
    yield Ended(tracker.step, time.monotonic() - since)
    return BuildResult(tuple(state.artifacts), left)


@dataclass
class BuildState:
    """What is known of one build: its steps, and what it makes at a provider."""

    step_tracker: StepTracker = field(default_factory=StepTracker)
    resource_tracker: Tracker = field(default_factory=Tracker)
    target: str = ""
    artifacts: list[steps.Artifact] = field(default_factory=list)

    def feed(self, event: steps.Event) -> str | None:
        """The step that begins with this event, if one does."""
        if isinstance(event, steps.Artifact):
            self.artifacts.append(event)
        between_steps = self.step_tracker.between_steps
        begins = self.step_tracker.feed(event)
        if between_steps and isinstance(event, steps.UiLine) and event.builder:
            over = self.step_tracker.closing or self.step_tracker.failed or self.step_tracker.interrupted
            self.resource_tracker.feed(event, cleaning=over)
        return begins

    def may_have_stayed(self, *, done: bool, ended: bool) -> tuple[Leftover, ...]:
        """What to look for at the provider, when Packer is gone."""
        for event in self.step_tracker.lost():
            if isinstance(event, steps.UiLine) and event.builder:
                self.resource_tracker.feed(event, cleaning=True)
        reasons = {line.strip() for reason in self.step_tracker.reasons for line in reason.splitlines()}
        return self.resource_tracker.left(done=done, ended=ended, asked=self.step_tracker.interrupted, reasons=reasons)


def _logged_events(lines: Iterator[str], log: Log) -> Iterator[steps.Event]:
    """The events of these lines, without secrets, once they are in the log."""
    for line in lines:
        for event in steps.parse(log.hide(line)):
            log.write(steps.log_line(event))
            yield event


# Packer takes a machine of a provider away in a minute or two; its own limits for that are longer.
CLEAN_UP: Final = 300.0
# A snapshot of a large disk takes an hour, and some plugins cannot be stopped while one is made.
CLOSING: Final = 7200.0
_SECOND_WAIT: Final = 15.0
_CLEANING_UP: Final = "Packer takes everything away; Ctrl-C ends it at once, and leaves what is there"
_MAKING_IMAGE: Final = (
    "the image is being made, and Packer ends when the provider lets it, which can take long; "
    "Ctrl-C ends it at once, and leaves what is there"
)


@contextmanager
def _cancelled(session: Session, log: Log, report: Callable[[str], None], state: BuildState) -> Iterator[None]:
    """Leaving early, for any reason, ends the build in order, and says what may be left of it."""
    try:
        yield
    except BaseException:
        if session.code is None:
            report(_MAKING_IMAGE if state.step_tracker.closing else _CLEANING_UP)
            state.step_tracker.interrupt()
            first_wait = CLOSING if state.step_tracker.closing else CLEAN_UP
            ended = end_build(session, log, (first_wait, _SECOND_WAIT), state.feed)
            _report_left(state.may_have_stayed(done=False, ended=ended), log, report)
        raise


def _report_left(left: Iterable[Leftover], log: Log, report: Callable[[str], None]) -> None:
    for line in leftovers.lines(tuple(left)):
        log.write(line)
        report(line)


def end_build(
    session: Session,
    log: Log,
    waits: Sequence[float] = (CLEAN_UP, _SECOND_WAIT),
    feed: Callable[[steps.Event], object] = lambda _: None,
) -> bool:
    """Ask Packer to end, after the first wait once more, then end it and all it started; whether it ended by itself.

    SIGTERM goes to Packer alone: its plugins must live to clean up. An interrupt ends them all at once.
    """
    try:
        for wait in waits:
            session.signal(signal.SIGTERM)
            for event in _logged_events(session.lines(timeout=wait), log):
                feed(event)
            if session.code is not None:
                return session.code >= 0
    except KeyboardInterrupt:
        pass
    session.end()
    return False


# With less than this free, in bytes, a virtual machine's disk is about to stop in the middle of a write.
LEAST_FREE: Final = 48 * 1024 * 1024
_LAST_LINES: Final = 8


class _Watchdog:
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
        text = self._console.read_text(errors="replace")
        if PANIC in text:
            raise _crashed(text, self._log)
        if self._speaks_within is not None and silent(text):
            self._powered_on = self._powered_on or time.monotonic()
            if time.monotonic() - self._powered_on > self._speaks_within:
                raise SilentError.after(self._speaks_within)


def _check_space(directory: Path, log: Path) -> None:
    """A disk that fills up stops the virtual machine without a word, and Packer would wait for ever."""
    found = os.statvfs(directory)
    if found.f_bavail * found.f_frsize < LEAST_FREE:
        way = "free some space there, or name another place with -o"
        raise UserError(f"the disk is full: {directory.parent}", f"{way}; the whole log: {log}")


def _crashed(console: str, log: Path) -> UserError:
    lines = [line.strip() for line in console[: console.index(PANIC)].splitlines()[-_LAST_LINES:]]
    text = "\n".join(f"  | {line}" for line in lines)
    return UserError(f"the kernel of the machine being baked crashed:\n{text}", f"try again; the whole log: {log}")
