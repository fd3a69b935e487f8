"""What the verbs share: errors, processes, units, and the stacks of this host."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts, files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

# What a verb returns as JSON, or a part of it.
Value = dict[str, Any]
# Timeouts in seconds: of any command, and of one as a stack's user, who may hold a lock or have stopped its manager.
_TIMEOUT: Final = 1800
_USER_TIMEOUT: Final = 60
# How long Podman has to answer, in seconds; a stack may hold its lock.
PODMAN_TIMEOUT: Final = 30
_SETPRIV: Final = "setpriv"
# The firewall's unit makes it once all rules are loaded.
FIREWALL_LOADED: Final = Path("/run/er-firewall.loaded")


class RemoteError(Exception):
    """A failure to explain in one line, with a way out."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.hint = hint
        super().__init__(message)


def run(argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, timeout: float = _TIMEOUT) -> str:
    """Run to the end, or for `timeout` seconds; returns stdout.

    A failure raises RemoteError with the last line of stderr. Without `check` the output is returned all the same, and
    that of a program that took too long is empty.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        if not check:
            return ""
        raise RemoteError(f"{argv[0]} did not end within {timeout:.0f} s") from None
    if check and done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise RemoteError(f"{argv[0]} failed: {lines[-1] if lines else f'exit code {done.returncode}'}")
    return done.stdout.decode(errors="replace")


def as_user(
    user: str, argv: Sequence[str], *, stdin: bytes | None = None, check: bool = True, timeout: float = _USER_TIMEOUT
) -> str:
    """Run as a stack's user, in the session that linger keeps, which begins where it rests. An error names the user."""
    words = [*in_session(user), *argv]
    try:
        return run(words, stdin=stdin, check=check, timeout=timeout)
    except RemoteError as error:
        if not Path(_runtime(pwd.getpwnam(user))).exists():
            raise RemoteError(f"{user} has no session", _STARTING) from None
        raise RemoteError(f"{user}: {str(error).replace(_SETPRIV, argv[0], 1)}", error.hint) from None


def in_session(user: str) -> list[str]:
    """The words before a command that run it in a user's session.

    Without --no-new-privs: where nothing of the stack runs, Podman has to make its user namespace, with newuidmap.
    """
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise RemoteError(f"there is no user {user}", _STARTING) from None
    begin(user.removeprefix(facts.STACK_USER_PREFIX))
    runtime = _runtime(account)
    settings = f"{facts.CONFIG}/{account.pw_uid}"
    env = [
        f"USER={user}",
        f"LOGNAME={user}",
        f"HOME={account.pw_dir}",
        "PATH=/usr/local/bin:/usr/bin:/bin",
        f"XDG_RUNTIME_DIR={runtime}",
        f"XDG_CONFIG_HOME={settings}",
        f"REGISTRY_AUTH_FILE={settings}/{facts.AUTH_FILE}",
        f"DBUS_SESSION_BUS_ADDRESS=unix:path={runtime}/bus",
    ]
    ids = [f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"]
    return [_SETPRIV, *ids, "env", "--ignore-environment", "--chdir=/", *env]


def rests(stack: str) -> bool:
    """Whether a stack sleeps as a whole, its manager not started since the boot: its first visitor will, or `begin`.

    Its sockets are root's until then.
    """
    return any(path.lstat().st_uid == 0 for path in Path(facts.PROXY_SOCKETS, stack).glob("*.sock"))


def begin(stack: str) -> None:
    """Start the manager of a stack that rests; it stays until the next boot."""
    if rests(stack):
        user = user_of(stack)
        run(["loginctl", "enable-linger", user], check=False)
        run(["systemctl", "start", f"user@{uid(user)}.service"], check=False)


_STARTING: Final = "a server that has just been made needs a minute: try again; if it stays so: er server doctor"


def _runtime(account: pwd.struct_passwd) -> str:
    return f"/run/user/{account.pw_uid}"


def show(unit: str, *properties: str, user: str | None = None) -> dict[str, str]:
    """Properties of a unit, as `systemctl show` has them, of the system's manager or of a user's."""
    argv = ["systemctl", *(["--user"] if user else []), "show", unit, "-p", ",".join(properties)]
    text = as_user(user, argv, check=False) if user else run(argv, check=False)
    return assignments(text)


# Of systemd, as systemctl show has them.
_PROPERTIES: Final = (
    "ActiveState",
    "SubState",
    "Result",
    "NRestarts",
    "MemoryCurrent",
    "MemoryMax",
    "ActiveEnterTimestampMonotonic",
)


# Of a service whose stack rests.
RESTING: Final = {"ActiveState": "inactive", "SubState": "dead", "Result": "success", "StopWhenUnneeded": "yes"}


def unit(unit: str, user: str, uptime: float) -> Value:
    """How a unit of a user is; `uptime` is the host's. Sizes are in bytes, times in seconds."""
    found = RESTING if rests(user.removeprefix(facts.STACK_USER_PREFIX)) else show(unit, *_PROPERTIES, user=user)
    since = int(found.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    return {
        "state": found.get("ActiveState", "unknown"),
        "detail": found.get("SubState", ""),
        "result": found.get("Result", ""),
        "restarts": int(found.get("NRestarts") or 0),
        "seconds": int(uptime - since) if since else 0,
        "memory": _bytes(found.get("MemoryCurrent", "")),
        "limit": _bytes(found.get("MemoryMax", "")),
    }


def _bytes(text: str) -> int | None:
    """None for what systemd has no number for: `[not set]`, `infinity`, or the largest number there is."""
    return int(text) if text.isdigit() and int(text) < 1 << 60 else None


def waits_for_data() -> bool:
    """Whether this is a new machine whose data has not come from the backup yet: nothing starts before."""
    return Path(facts.FIRST_RESTORE).exists() and not Path(facts.RESTORED).exists()


def look_again() -> None:
    """First boot that has given up on a stack waits for it once more, and reports; for when what it lacked has come."""
    unit = "er-first-boot.service"
    if show(unit, "ActiveState").get("ActiveState") == "failed" or waits_for_data():
        run(["systemctl", "--no-block", "restart", unit], check=False)


def data_disk() -> Value | None:
    """The disk for data: its `device` once it is mounted, else what is `said` of it; None where the host has none."""
    if not Path(facts.DATA_MOUNT).exists():
        return None
    if os.path.ismount(facts.DATA):
        return {"device": os.path.realpath(facts.DATA_DISK), "said": ""}
    try:
        said = Path(facts.DATA_SAID).read_text()
    except OSError:
        said = ""
    return {"device": "", "said": said or "it was taken away, or not looked for yet"}


def check_data() -> None:
    """Raises RemoteError where the disk for data is not mounted: what was written now would not be on it."""
    disk = data_disk()
    if disk and not disk["device"]:
        raise RemoteError(f"the disk for data is not mounted: {disk['said']}", "see docs/data.md; it goes on by itself")


def assignments(text: str) -> dict[str, str]:
    """The NAME=VALUE lines of a text."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def stacks() -> list[str]:
    """The names of the stacks on this host, sorted."""
    return sorted(path.parent.name for path in Path(facts.STACKS).glob("*/services"))


def stack_user(stack: str) -> str:
    """The user of a stack. Raises RemoteError when there is no such stack."""
    if stack not in stacks():
        raise RemoteError(f"there is no stack {stack}", f"there are: {', '.join(stacks()) or 'none'}")
    return user_of(stack)


def user_of(stack: str) -> str:
    """The name of a stack's user, whether it exists or not; `proxy` is a stack here."""
    return f"{facts.STACK_USER_PREFIX}{stack}"


def uid(user: str) -> int:
    """The number of a user."""
    return pwd.getpwnam(user).pw_uid


def gid(user: str) -> int:
    """The number of a user's own group."""
    return pwd.getpwnam(user).pw_gid


def uids(stacks: Iterable[str]) -> dict[str, int]:
    """The users' numbers of those stacks that have a user."""
    found = {}
    for stack in stacks:
        try:
            found[stack] = uid(user_of(stack))
        except KeyError:
            continue
    return found


# The kinds of public services: by HTTP/1.1, or by HTTP/2 without TLS.
PUBLIC = ("web", "h2c")
# The kind of services that sleep, see `sleepers`: public ones, and what sleeps along with them.
SLEEPS = "sleep"


def services(stack: str) -> Iterator[tuple[str, str, str]]:
    """Kind (web, h2c, sleep or unit), service, and systemd unit, of each service of a stack."""
    for line in Path(facts.STACKS, stack, "services").read_text().splitlines():
        kind, name = line.split()
        service = name.removesuffix(".service").removeprefix(f"{stack}-") if kind == "unit" else name
        yield kind, service, f"{stack}-{service}.service"


def ingress_sockets(user: str, services: Iterable[str]) -> list[str]:
    """The socket units of those services that have one: none is there where the app makes its socket itself."""
    units = [f"er-ingress-{name}.socket" for name in services]
    return [unit for unit in units if show(unit, "LoadState", user=user).get("LoadState") == "loaded"]


def triples(path: str) -> Iterator[tuple[str, str, str]]:
    """The lines of three words in a file; none where there is no file."""
    try:
        lines = Path(path).read_text().splitlines()
    except FileNotFoundError:
        return
    for words in map(str.split, lines):
        if len(words) == 3:
            yield words[0], words[1], words[2]


def server_env() -> dict[str, str]:
    """The settings of this server in server.env, by name. Raises RemoteError where there are none."""
    try:
        return assignments(Path(facts.ETC, "server.env").read_text())
    except FileNotFoundError:
        raise RemoteError("this is no host of er", "make one with er user-data, or er launch") from None


# er-room begins to stop stacks at 5 %.
_LEAST_SHARE: Final = 0.07
_ENOUGH: Final = 16 * 1024**3


def wanted_free(total: int, share: float = facts.LEAST_FREE) -> float:
    """Bytes that are to be free of a disk with so many: a share of it; of a large disk a smaller one."""
    return min(share * total, max(_LEAST_SHARE * total, _ENOUGH))


def read_number(path: str) -> int | None:
    """The integer in a file, None where there is none."""
    try:
        return int(Path(path).read_text())
    except (OSError, ValueError):
        return None


def firewall_loaded() -> bool:
    """Whether the firewall's own rules are in force, and not its lockdown."""
    return FIREWALL_LOADED.exists()


ARCHIVE: Final = "er.zip"
"""Beside what it has, where this remote part was left for the next call."""


def archive() -> Path:
    """This remote part as the admin has sent it along."""
    place = Path(sys.path[0])
    return place / ARCHIVE if place.is_dir() else place


def keep_code() -> bool:
    """Keep this remote part, which the admin has sent along, for what runs here by itself; False if it was there."""
    content, kept = archive().read_bytes(), Path(facts.REMOTE_CODE)
    if kept.exists() and kept.read_bytes() == content:
        return False
    files.replace(kept, content, 0o600)
    return True
