"""Debian packages that a change needs and the host lacks, installed as first boot does it (`provision`)."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

LISTS: Final = (f"{facts.LIB}/packages", facts.PACKAGES)
"""The lists that a host may have: of every host, and of this one."""


def lists() -> list[str]:
    """The lists of this host, as they are now."""
    return [path.read_text() for path in map(Path, LISTS) if path.exists()]


def missing(lists: Iterable[str]) -> list[str]:
    """What these lists name and the host has not, in their order. A cloud that brings its own clock keeps it."""
    wanted = dict.fromkeys(word for text in lists for word in text.split())
    if os.access("/usr/sbin/chronyd", os.X_OK):
        wanted.pop("systemd-timesyncd", None)
    known = _apt("dpkg-query", "-Wf", "${Status} ${Package}\\n").stdout.splitlines()
    installed = {line.split()[-1] for line in known if " installed " in line}
    return [name for name in wanted if name not in installed]


# Seconds before each further attempt: a mirror may be away for a moment.
_PAUSES: Final = (5, 10, 0)


def install(names: Sequence[str]) -> None:
    """Install these, and finish first what a cut of power has left half installed. Raises RemoteError with apt's words.

    What was installed stays when the change is taken back: it starts nothing.
    """
    said = ""
    for pause in _PAUSES:
        _apt("dpkg", "--force-confold", "--configure", "-a")
        # An unreachable mirror is only a warning to apt, unless told otherwise.
        updated = _apt("apt-get", "-q", "-o", "APT::Update::Error-Mode=any", "update")
        done = updated
        if updated.returncode == 0:
            done = _apt("apt-get", "-qy", "--no-install-recommends", "install", "--", *names)
        if done.returncode == 0:
            os.sync()
            return
        said = done.stderr
        time.sleep(pause)
    lines = [line for line in said.splitlines() if line.startswith("E: ")] or said.splitlines()
    why = lines[0].removeprefix("E: ") if lines else "apt said nothing"
    raise RemoteError(f"not installed: {' '.join(names)}: {why}", "is the server's package mirror within its reach?")


# apt waits for the lock of another, as of the automatic updates: apt.conf.d says how long. Timeout in seconds.
_TIMEOUT: Final = 900


def _apt(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RemoteError(f"{argv[0]} did not end within {_TIMEOUT} s", "see er server doctor") from None
