"""Going into a running machine: its commands and its live files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, process
from builder.lab import power
from builder.problems import UserError

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

    def user(self, name: str) -> User:
        """A user of the running machine."""
        return find_user(self.path("/etc/passwd").read_text(), name)

    def argv(
        self, command: Sequence[str] | str, *, user: str = "root", env: Mapping[str, str] | None = None
    ) -> list[str]:
        """How to run `command` inside; text is a line for the machine's shell."""
        who = ROOT if user == "root" else self.user(user)
        return self._kept.argv(argv(self.leader, command, who, env or {}), group=_VISITORS)

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


_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the machine's."""

    name: str
    uid: int
    gid: int
    home: str


ROOT: Final = User("root", 0, 0, "/root")


def find_user(passwd: str, name: str) -> User:
    """The user of this name in the text of the machine's /etc/passwd."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) >= 6:
            return User(name, int(fields[2]), int(fields[3]), fields[5])
    raise UserError(f"the machine has no user {name}")


def argv(leader: int, command: Sequence[str] | str, user: User, environment: Mapping[str, str]) -> list[str]:
    """How to run `command` in the machine whose first process is `leader`; text is a line for its shell."""
    variables = _environment(user) | dict(environment)
    enter = ["nsenter", "--target", str(leader), "--all", "--", "env", "--ignore-environment"]
    change = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--init-groups"] if user.uid else []
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    # The directory first: nsenter leaves the program in a directory that the machine does not have.
    there = ["sh", "-c", 'cd "$HOME" 2>/dev/null || cd /; exec "$@"', "sh"]
    return [*enter, *(f"{key}={value}" for key, value in variables.items()), *change, *there, *words]


def _environment(user: User) -> dict[str, str]:
    bus = f"/run/user/{user.uid}"
    own = {"XDG_RUNTIME_DIR": bus, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}/bus"} if user.uid else {}
    if user.uid > facts.UID_BASE:
        own["XDG_CONFIG_HOME"] = f"{facts.CONFIG}/{user.uid}"
    return {
        "PATH": _PATH,
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "LANG": "C.UTF-8",
    } | own
