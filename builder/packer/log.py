"""The whole talk of a build, in a file; a full disk does not lose the end of it."""

from __future__ import annotations

import time
from typing import IO, TYPE_CHECKING, Self

from builder.packer import secrets

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class Log:
    """A context manager. The file has one line for each that it is given, with seconds since the start before it."""

    def __init__(self, path: Path, hidden: frozenset[str] = frozenset()) -> None:
        self.path = path
        self.whole = True
        self._hidden = hidden
        self._since = time.monotonic()
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8", errors="replace", buffering=1)
        self.path.chmod(0o600)
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
        return secrets.hide(text, self._hidden)

    def write(self, text: str) -> None:
        """Add lines."""
        if self._file is None or not self.whole:
            return
        seconds = time.monotonic() - self._since
        try:
            self._file.writelines(f"{seconds:8.1f}  {line}\n" for line in self.hide(text).splitlines())
        except OSError:
            self.whole = False
