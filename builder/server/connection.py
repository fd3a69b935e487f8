"""One connection to a host for all that a command asks there, by OpenSSH's own sharing of connections.

A login costs more than most questions: key exchange, PAM and a session of the user, a tenth of a second of a processor
in all. The first question leaves its connection to a process in the background; the others find that by a socket.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Final, TypeVar

from builder import process
from builder.server.ssh import Remote, config, quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.deploy_login import DeployLogin

    L = TypeVar("L", bound=Remote | DeployLogin)

# In seconds: how long the process in the background outlives the last question, where er was killed.
_PERSISTS: Final = 30
# A path of macOS has up to 103 bytes, of Linux 107; ssh makes its socket under a name of 17 more first.
_LONGEST_PATH: Final = 103 - 17


@contextmanager
def shared(server: L) -> Iterator[L]:
    """In the block the host's questions share a connection, but for those that are `fresh` and for long transfers.

    It is the same `server` where ssh's own configuration shares connections already.
    """
    with tempfile.TemporaryDirectory(prefix="er-", ignore_cleanup_errors=True) as private:
        path = Path(private, "ssh")
        if len(os.fsencode(path)) > _LONGEST_PATH or _shares_already(server):
            yield server
            return
        try:
            yield replace(server, shared=options(path))
        finally:
            _end(server, path)


def options(path: Path) -> tuple[str, ...]:
    """Options of ssh: share the connection that has its socket at this path, or make it.

    A connection that has died is given up after a minute, and the next question makes another.
    """
    words = ("ControlMaster=auto", f"ControlPath={quoted(path)}", f"ControlPersist={_PERSISTS}")
    alive = ("ServerAliveInterval=15", "ServerAliveCountMax=4")
    return tuple(word for option in (*words, *alive) for word in ("-o", option))


def _shares_already(server: Remote | DeployLogin) -> bool:
    """Whether the user's configuration has a socket of its own for this host; that connection may have cost a touch."""
    with suppress(OSError, process.CommandError):
        return config(server.host, server.options).get("controlpath", "none") != "none"
    return True


def _end(server: Remote | DeployLogin, path: Path) -> None:
    """End the process in the background; by itself it would do so a little later."""
    if path.exists():
        argv = ["ssh", "-O", "exit", "-o", f"ControlPath={quoted(path)}", *server.options, "--", server.host]
        with suppress(OSError, TimeoutExpired):
            process.run(argv, timeout=10, check=False)
