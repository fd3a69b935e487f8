"""The one door to other programs. Unit tests lock it."""

from __future__ import annotations

import codecs
import os
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, Final, cast

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

_CHUNK: Final = 65_536


class CommandError(UserError):
    """A program ended with a failure; keeps the argv, the exit code and the end of what it said."""

    def __init__(self, argv: Sequence[str], code: int, output: str) -> None:
        self.argv = tuple(argv)
        self.code = code
        self.output = output
        tail = "\n".join(output.strip().splitlines()[-15:])
        super().__init__(f"{argv[0]} failed with exit code {code}" + (f":\n{tail}" if tail else ""))


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run to the end; output is text. Raises CommandError on a non-zero exit when `check`.

    `env` replaces the environment; `timeout` is in seconds.
    """
    done = subprocess.run(
        list(argv),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        timeout=timeout,
        check=False,
    )
    stdout, stderr = (stream.decode(errors="replace") for stream in (done.stdout, done.stderr))
    if check and done.returncode != 0:
        raise CommandError(argv, done.returncode, stderr or stdout)
    return subprocess.CompletedProcess(done.args, done.returncode, stdout, stderr)


def show(argv: Sequence[str], write: Callable[[str], object]) -> tuple[int, str]:
    """Run with stdout handed to `write` as it comes; returns the exit code and stderr."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said) as running,
    ):
        try:
            while chunk := os.read(cast("IO[bytes]", running.stdout).fileno(), _CHUNK):
                write(decoder.decode(chunk))
            write(decoder.decode(b"", final=True))
            code = running.wait()
        except BaseException:
            running.kill()
            raise
        said.seek(0)
        return code, said.read().decode(errors="replace")


def start(
    argv: Sequence[str],
    *,
    stdout: int | None = subprocess.DEVNULL,
    stderr: int | None = subprocess.DEVNULL,
    stdin: int | None = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program that goes on; the caller ends it.

    It gets a session of its own, so Ctrl-C is the caller's to pass on.
    """
    return subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=dict(env) if env is not None else None,
        cwd=cwd,
        pass_fds=tuple(pass_fds),
        start_new_session=True,
    )
