"""One run of Packer: its values, what is laid for it, and its three calls in their order."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from builder.packer import argv, build_files, plugins, secrets, watch, work_directory
from builder.packer.failures import BakeError, hint, shown
from builder.packer.leftovers import Leftovers
from builder.packer.steps import Phases
from builder.packer.watch import Course, Made
from builder.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from builder.packer.build_files import Payload
    from builder.packer.log import Log
    from builder.packer.program import Packer
    from builder.packer.target import Target
    from builder.packer.work_directory import Laid, Places


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
        init = argv.init(self.packer)
        calls = [argv.validate(self.packer, self.var_files), argv.build(self.packer, self.var_files)]
        return [init, *calls] if init else calls

    def steps(self) -> list[str]:
        """Names of the template's scripts, in their order."""
        return sorted(file.path.removeprefix("steps/") for file in self.files if file.path.startswith("steps/"))

    def hidden(self) -> frozenset[str]:
        """What must not be seen in the log or on the screen."""
        found = secrets.from_environment(self.environment)
        return found.union(*(secrets.from_variables(path.read_text(errors="replace")) for path in self.var_files))


def lay(job: Job, places: Places, **variables: object) -> None:
    """Write the template, the upload and the values, among them what only this run has."""
    values = {**job.variables, **variables, "mark": places.mark}
    work_directory.lay(places.root / work_directory.TEMPLATE, [*job.files, work_directory.values(values)])
    build_files.write(job.upload, places.root / work_directory.PAYLOAD)


def init(job: Job, places: Places, log: Log) -> Generator[watch.Told, None, None]:
    """Fetch the plugin of the template, before anything that takes long. Raises BakeError."""
    if call := argv.init(job.packer):
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
) -> Generator[watch.Told, None, Made]:
    """Validate and build in a laid work directory; what comes back is what was made. Raises BakeError.

    `left` follows what the builder makes at a provider. A virtual machine whose console says nothing for the first
    `speaks_within` seconds raises SilentError.
    """
    name = job.target.name if job.target else ""
    course = Course(Phases(places.mark, job.steps()), left or Leftovers(), name)
    environment = argv.environment(job.environment, places)
    *_, validate, build = job.commands()
    yield from _checked(job, validate, places, log)
    return (
        yield from watch.build(
            build, environment, places.root, log=log, tell=tell, course=course, speaks_within=speaks_within
        )
    )


def _checked(job: Job, call: list[str], places: Places, log: Log) -> Generator[watch.Told, None, None]:
    """A call that has something to say only when it fails; its whole process group ends with it."""
    step, since = call[1], time.monotonic()
    yield watch.Started(step)
    lines: list[str] = []
    environment = argv.environment(job.environment, places)
    with Session(call, env=environment, cwd=places.root) as session:
        for line in session.lines(timeout=_LONGEST[step]):
            lines.append(log.hide(line))
            log.write(lines[-1])
        code = session.code
    if code != 0:
        raise _refused(job, step, code, lines, log)
    yield watch.Ended(step, time.monotonic() - since)


def _refused(job: Job, step: str, code: int | None, lines: list[str], log: Log) -> BakeError:
    target = job.target
    lacking = plugins.lacking(target, job.packer, job.environment) if target and step == "init" else None
    if lacking:
        what, way = lacking
        return BakeError(f"packer init failed: {what}{_text(lines[-1:])}", step, hint([], log.path, more=way))
    what = f"took longer than {_LONGEST[step]:.0f} s" if code is None else "failed"
    return BakeError(f"packer {step} {what}:{_text(lines)}", step, hint(lines, log.path, target.name if target else ""))


def _text(lines: list[str]) -> str:
    return "".join(f"\n  | {line}" for line in shown(lines)[:_SHOWN])
