"""Whose key it is that asks: the one by which sshd has let in the connection that the asking process is part of.

All deploy keys log in as one user, so the user says nothing, and what a process of that user says of itself could be a
lie. The kernel says which process has connected. Its nearest ancestor that is root's is the sshd of its connection, and
that has written to the journal which key it has accepted. No process of the login can change any of this.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator


class DeployKey(NamedTuple):
    """A key of the file of keys: the stack that it may deploy, its fingerprint, and its comment."""

    stack: str
    fingerprint: str
    comment: str


_UNKNOWN: Final = "this connection cannot be told to be one of a deploy key"


def of_peer(connection: socket.socket) -> DeployKey:
    """The key of who is at the other end of a unix socket. Raises RemoteError."""
    try:
        process = connection.getsockopt(_SOCKET, _SO_PEERPIDFD)
        try:
            fingerprint = _accepted(_root_above(_number(process)))
            # While it lives, none of the numbers that were looked at can have become another process's.
            signal.pidfd_send_signal(process, 0)
        finally:
            os.close(process)
    except (OSError, ValueError, LookupError):
        raise RemoteError(_UNKNOWN, "try again; the server's admin sees in its journal what it makes of it") from None
    found = next((key for key in keys() if key.fingerprint == fingerprint), None)
    if found is None:
        raise RemoteError(f"the key {fingerprint} may deploy nothing here any more")
    return found


# Of Linux; Python has no name for the second: since 6.5, a descriptor of the process that has connected.
_SOCKET, _SO_PEERPIDFD = 1, 77


def _number(process: int) -> int:
    """The number of a process by its descriptor."""
    text = Path(f"/proc/self/fdinfo/{process}").read_text()
    return int(re.search(r"^Pid:\s+(\d+)$", text, re.MULTILINE)[1])  # type: ignore[index]


# From the asking process up to its sshd there are two: the forced command, and the sshd that runs it.
_GENERATIONS: Final = 8


def _root_above(pid: int) -> int:
    """The nearest ancestor that is root's. Raises LookupError where there is none, as for what has been left behind."""
    started = _started(pid)
    for _ in range(_GENERATIONS):
        status = Path(f"/proc/{pid}/status").read_text()
        if re.search(r"^Uid:\t0\t0\t0\t0$", status, re.MULTILINE):
            break
        pid = int(re.search(r"^PPid:\t(\d+)$", status, re.MULTILINE)[1])  # type: ignore[index]
        # One that is younger than its child has the number of a parent that is gone.
        before, started = started, _started(pid)
        if started > before:
            raise LookupError
    else:
        raise LookupError
    if pid <= 1:
        raise LookupError
    return pid


def _started(pid: int) -> int:
    """When a process started, in ticks since the boot; the name before that may contain anything."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


# Before Debian 13 one program was all of sshd.
_PROGRAMS: Final = ("/usr/lib/openssh/sshd-session", "/usr/sbin/sshd")
_ACCEPTED: Final = re.compile(
    rf"Accepted publickey for {facts.DEPLOY_LOGIN} from \S+ port \d+ ssh2: \S+ (SHA256:[A-Za-z0-9+/]{{43}})"
)
# Seconds that the journal may be behind.
_PATIENCE: Final = 5.0


def _accepted(sshd: int) -> str:
    """The fingerprint of the key that this process of sshd has accepted. Raises LookupError.

    It also repeats what its helper without rights says before that; such messages have more at their end.
    """
    since = f"--since=@{_boot_time() + _started(sshd) / os.sysconf('SC_CLK_TCK') - 2:.0f}"
    argv = ["journalctl", "-q", "-b", "--no-pager", "-o", "json", "--output-fields=MESSAGE", since]
    argv += [f"_PID={sshd}", "_UID=0", *(f"_EXE={program}" for program in _PROGRAMS)]
    deadline = time.monotonic() + _PATIENCE
    while not (found := accepted(common.run(argv, check=False, timeout=20))):
        if time.monotonic() > deadline:
            raise LookupError
        time.sleep(0.2)
    (fingerprint,) = found
    return fingerprint


def accepted(journal: str) -> set[str]:
    """The fingerprints in messages that say that a key was accepted, and nothing else; each line is one in JSON."""
    messages = (json.loads(line).get("MESSAGE") for line in journal.splitlines())
    return {match[1] for text in messages if isinstance(text, str) and (match := _ACCEPTED.fullmatch(text))}


def _boot_time() -> int:
    """In seconds since 1970."""
    return int(re.search(r"^btime (\d+)$", Path("/proc/stat").read_text(), re.MULTILINE)[1])  # type: ignore[index]


_LINE: Final = re.compile(rf'restrict,command="{facts.DEPLOY_SHELL} (\S+)" (\S+) (\S+) ?(.*)')


def keys() -> Iterator[DeployKey]:
    """The keys that may deploy, by the file that sshd reads."""
    for line in Path(facts.DEPLOY_KEYS).read_text().splitlines():
        if match := _LINE.fullmatch(line):
            yield DeployKey(match[1], fingerprint(match[3]), match[4])


def fingerprint(blob: str) -> str:
    """As sshd shows it, of a key in base64; empty where that is damaged."""
    try:
        digest = hashlib.sha256(base64.b64decode(blob, validate=True)).digest()
    except binascii.Error:
        return ""
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
