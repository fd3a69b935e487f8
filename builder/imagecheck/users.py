"""Users as /etc/passwd has them."""

from __future__ import annotations

from typing import Final, NamedTuple

_NO_LOGIN: Final = frozenset({"nologin", "false", "sync", "halt", "shutdown"})


class User(NamedTuple):
    """A row of passwd(5)."""

    name: str
    password: str
    uid: int
    gid: int
    home: str
    shell: str

    @property
    def may_login(self) -> bool:
        """Whether the shell lets anybody in; an empty one is /bin/sh."""
        return self.shell.rpartition("/")[2] not in _NO_LOGIN


def parse(passwd: str) -> tuple[User, ...]:
    """The users of a passwd file, in its order; lines that are none are left out."""
    rows = (line.split(":") for line in passwd.splitlines())
    return tuple(
        User(row[0], row[1], int(row[2]), int(row[3]), row[5], row[6])
        for row in rows
        if len(row) == 7 and row[2].isdigit() and row[3].isdigit()
    )
