"""The log of a build: a file with all that Packer says, without the build's secrets."""

from __future__ import annotations

import re
import time
from typing import IO, TYPE_CHECKING, Final, Self

from builder import files
from builder.problem_report import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType


class Log:
    """A context manager. The file has one line for each that is written, with the seconds since the start before it.

    `report` is told when the path is a pipe that has to wait for its reader. `whole` is false once the disk is full.
    """

    def __init__(self, path: Path, hidden: frozenset[str] = frozenset(), report: Callable[[str], object] = str) -> None:
        self.path = path
        self._report = report
        self.whole = True
        self._hidden = hidden
        self._since = time.monotonic()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        self._file = files.stream(self.path, 0o600, report=self._report)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                self.whole = False

    def hide(self, text: str) -> str:
        """The text without the secrets of this build."""
        return hide(text, self._hidden)

    def remove(self) -> None:
        """The log of a good build is not kept; what is no plain file is no log of ours alone."""
        if self.path.is_file() and not self.path.is_symlink():
            self.path.unlink()

    def write(self, text: str) -> None:
        """Add lines."""
        if self._file is None or not self.whole:
            return
        seconds = time.monotonic() - self._since
        try:
            shown = printable(self.hide(text), keep="\n\t").splitlines()
            lines = "".join(f"{seconds:8.1f}  {line}\n" for line in shown)
            self._file.write(lines.encode(errors="replace"))
            self._file.flush()
        except OSError:
            self.whole = False


# Names of variables whose value is a secret.
_SECRETIVE: Final = r"token|secret|password|passphrase|api_?key|private_?key|access_?key|credential"
_SECRET_NAME: Final = re.compile(_SECRETIVE, re.IGNORECASE)
_SECRET_ASSIGNMENT: Final = re.compile(rf'"?(\w*(?:{_SECRETIVE})\w*)"?\s*[=:]\s*"((?:[^"\\]|\\.)+)"', re.IGNORECASE)
# Shorter ones are words of the language, and would blot out the text.
_SHORTEST: Final = 8
_HIDDEN: Final = "***"
# The path of a file that holds a secret is no secret, and worth seeing in an error.
_PATH: Final = re.compile(r"(?:/|~/|\.{1,2}/)[\w./ -]*")


def environment_secrets(environment: Mapping[str, str], named: Iterable[str] = ()) -> frozenset[str]:
    """The values that the environment's names give away as secrets, and those of the names given."""
    chosen = {*named, *(name for name in environment if _SECRET_NAME.search(name))}
    return frozenset(filter(_is_secret, (environment.get(name, "") for name in chosen)))


def variable_secrets(text: str) -> frozenset[str]:
    """The same for a file of variables, HCL or JSON."""
    return frozenset(filter(_is_secret, (found[2] for found in _SECRET_ASSIGNMENT.finditer(text))))


def hide(text: str, secrets: frozenset[str]) -> str:
    """The text without them; longest first, as one may contain another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, _HIDDEN)
    return text


def _is_secret(value: str) -> bool:
    return len(value) >= _SHORTEST and not _PATH.fullmatch(value)
