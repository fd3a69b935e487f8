"""Going into a running machine: its commands and its live files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.lab import inside, power

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from builder.lab.namespaces import Keeper

# Commands from outside run in a group of their own inside the machine, as a service's would.
_VISITORS: Final = f"{power.GROUP}/payload/system.slice/lab.service"


class Visits(ABC):
    """What can be done in a machine that is on."""

    @property
    @abstractmethod
    def leader(self) -> int:
        """Its first process, as this machine numbers it."""

    @property
    @abstractmethod
    def _kept(self) -> Keeper: ...

    def path(self, path: str) -> Path:
        """A file of the running machine as its own processes see it, /run and /proc too."""
        return Path(f"/proc/{self.leader}/root") / path.lstrip("/")

    def user(self, name: str) -> inside.User:
        """A user of the running machine."""
        return inside.find_user(self.path("/etc/passwd").read_text(), name)

    def argv(
        self, command: Sequence[str] | str, *, user: str = "root", env: Mapping[str, str] | None = None
    ) -> list[str]:
        """How to run `command` inside; text is a line for the machine's shell."""
        who = inside.ROOT if user == "root" else self.user(user)
        return self._kept.argv(inside.argv(self.leader, command, who, env or {}), group=_VISITORS)

    def run(
        self,
        command: Sequence[str] | str,
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run inside, to the end; a failure raises when `check`."""
        return process.run(self.argv(command, user=user, env=env), stdin=stdin, timeout=timeout, check=check)

    def start(
        self, command: Sequence[str] | str, *, user: str = "root", stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start something inside that goes on; it ends with the machine."""
        return process.start(self.argv(command, user=user), stdout=stdout)

    def shell(self) -> str:
        """The command line that opens a shell inside, for a person."""
        return f"nsenter --target {self.leader} --all --wd=/ bash --login"
