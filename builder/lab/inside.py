"""Commands in a running machine, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
