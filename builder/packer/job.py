"""One run of Packer: its values, what is laid for it, and its three calls in their order."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder import process
from builder.packer import argv, events, payload, secrets, watch, workdir
from builder.packer.failure import BakeError, hint

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from builder.packer.find import Packer
    from builder.packer.log import Log
    from builder.packer.payload import Payload
    from builder.packer.workdir import Laid, Places


@dataclass(frozen=True, slots=True)
class Job:
    """What to run. `files` are the template's, `variables` its values; `var_files` come from the user, and win."""

    packer: Packer
    files: tuple[Laid, ...]
    upload: Payload
    variables: Mapping[str, Any]
    var_files: tuple[Path, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)

    def commands(self) -> list[list[str]]:
        """Every call of Packer, in order, to be made in the work directory."""
        init = argv.init(self.packer)
        calls = [argv.validate(self.packer, self.var_files), argv.build(self.packer, self.var_files)]
        return [init, *calls] if init else calls

    def hidden(self) -> frozenset[str]:
        """What must not be seen in the log or on the screen."""
        found = secrets.from_environment(self.environment)
        return found.union(*(secrets.from_variables(path.read_text(errors="replace")) for path in self.var_files))


def lay(job: Job, places: Places, **variables: object) -> None:
    """Write the template, the upload and the values, among them what only this run has."""
    workdir.lay(places.root / workdir.TEMPLATE, [*job.files, workdir.values({**job.variables, **variables})])
    payload.write(job.upload, places.root / workdir.PAYLOAD)


def run(
    job: Job, places: Places, log: Log, tell: Callable[[str], None], *, speaks_within: float | None = None
) -> Generator[watch.Told, None, tuple[events.Artifact, ...]]:
    """Validate and build in a laid work directory; what comes back is what was made. Raises BakeError.

    A virtual machine whose console says nothing for the first `speaks_within` seconds raises SilentError.
    """
    environment = argv.environment(job.environment, places)
    *before, build = job.commands()
    for call in before:
        _checked(call, environment, places, log)
    return (yield from watch.build(build, environment, places.root, log, tell, speaks_within=speaks_within))


def _checked(call: list[str], environment: Mapping[str, str], places: Places, log: Log) -> None:
    """A call that is over in a moment, and has something to say only when it fails."""
    step = call[1]
    done = process.run(call, env=environment, cwd=places.root, check=False)
    lines = [log.hide(line) for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    log.write("\n".join(lines))
    if done.returncode:
        text = "\n".join(f"  | {line}" for line in lines[:40])
        raise BakeError(f"packer {step} failed:\n{text}", step, hint(lines, log.path))
