"""What the verbs share: errors, processes, the stacks of this host."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class RemoteError(Exception):
    """A failure to tell in one line, with a way out."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


# Seconds. What a stack's user runs may wait for a lock that the stack holds, or for a manager that it has stopped.
_LIMIT: Final = 1800
_USER_LIMIT: Final = 60


def run(argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, limit: float = _LIMIT) -> str:
    """Run to the end, or to the limit in seconds; returns stdout. A failure is an error with the last line of stderr.

    Without `check` a failure is nothing said.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        if not check:
            return ""
        raise RemoteError(f"{argv[0]} did not end within {limit:.0f} s") from None
    if check and done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise RemoteError(f"{argv[0]} failed: {said[-1] if said else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def show(unit: str, *names: str, user: str | None = None) -> dict[str, str]:
    """Properties of a unit, of the system's manager or of a user's."""
    argv = ["systemctl", *(["--user"] if user else []), "show", unit, "-p", ",".join(names)]
    text = as_user(user, argv, check=False) if user else run(argv, check=False)
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def as_user(
    user: str, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, limit: float = _USER_LIMIT
) -> str:
    """Run as a stack's user, in the session that linger keeps. An error names the user."""
    try:
        return run([*entry(user), *argv], stdin=stdin, check=check, limit=limit)
    except RemoteError as error:
        raise RemoteError(f"{user}: {str(error).replace(_ENTRY, argv[0], 1)}", error.hint) from None


_ENTRY: Final = "setpriv"


def entry(user: str) -> list[str]:
    """The words that lead into a user's session."""
    who = pwd.getpwnam(user)
    runtime = f"/run/user/{who.pw_uid}"
    env = [
        f"USER={user}",
        f"LOGNAME={user}",
        f"HOME={who.pw_dir}",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        f"XDG_RUNTIME_DIR={runtime}",
        f"XDG_CONFIG_HOME={facts.CONFIG}/{who.pw_uid}",
        f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus",
    ]
    ids = [f"--reuid={who.pw_uid}", f"--regid={who.pw_gid}", "--init-groups", "--no-new-privs"]
    return [_ENTRY, *ids, "env", "--ignore-environment", "--chdir=/", *env]


def uid(user: str) -> int:
    """The number of a user."""
    return pwd.getpwnam(user).pw_uid


def stacks() -> list[str]:
    """The names of the registered stacks, sorted."""
    return sorted(path.parent.name for path in Path(facts.STACKS).glob("*/services"))


def stack_user(stack: str) -> str:
    """The user of a stack; an error names those there are."""
    if stack not in stacks():
        raise RemoteError(f"there is no stack {stack}", f"there are: {', '.join(stacks()) or 'none'}")
    return f"{facts.STACK_USER_PREFIX}{stack}"


def services(stack: str) -> Iterator[tuple[str, str, str]]:
    """Kind (web or unit), service, and systemd unit, of each service of a stack."""
    for line in Path(facts.STACKS, stack, "services").read_text().splitlines():
        kind, name = line.split()
        service = name.removesuffix(".service").removeprefix(f"{stack}-") if kind == "unit" else name
        yield kind, service, f"{stack}-{service}.service"


def server() -> dict[str, str]:
    """What first boot was told of this server."""
    try:
        text = Path(facts.ETC, "server.env").read_text()
    except FileNotFoundError:
        raise RemoteError("this is no host of er", "make one with er user-data, or er launch") from None
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def number(path: str) -> int | None:
    """An integer in a file of the kernel's, None when there is none."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def loaded() -> bool:
    """Whether the firewall's own rules are in force, not its lockdown."""
    return os.path.exists("/run/er-firewall.loaded")  # noqa: PTH110


Value = dict[str, Any]
