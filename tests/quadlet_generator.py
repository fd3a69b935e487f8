"""Podman's own generator and systemd's own check, run on units in a tree that has both."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from builder import process

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

_SERVICE = re.compile(r"^---(.+\.service)---\n", re.MULTILINE)


class GeneratorError(AssertionError):
    """The generator or the check said no."""


def generate(root: Path, units: Path) -> dict[str, str]:
    """The systemd units that the Podman in `root` makes of the Quadlets in `units`, by name."""
    script = "env QUADLET_UNIT_DIRS=/mnt /usr/libexec/podman/quadlet -dryrun -user"
    done = _inside(root, units, script)
    complaints = [line for line in done.stderr.splitlines() if "Loading source unit" not in line]
    if done.returncode or complaints:
        raise GeneratorError("\n".join(complaints) or f"exit code {done.returncode}")
    _, *parts = _SERVICE.split(done.stdout)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def verify(root: Path, units: Path) -> None:
    """Let systemd load what the generator makes; any word it has to say about it is a failure."""
    script = (
        "mkdir -p /tmp/out && cd /tmp/out && "
        "QUADLET_UNIT_DIRS=/mnt /usr/libexec/podman/quadlet -no-kmsg-log -user /tmp/out /tmp/out /tmp/out && "
        # They are the host's own, not the tree's.
        "sed -E -i 's@=/usr/lib/easyrunner/(address|data|secret) @=/bin/true @' /tmp/out/*.service && "
        "HOME=/root XDG_RUNTIME_DIR=/tmp SYSTEMD_LOG_LEVEL=warning systemd-analyze --user --man=no "
        "--generators=no --recursive-errors=no verify /tmp/out/*.service"
    )
    done = _inside(root, units, script)
    if done.returncode or done.stderr.strip():
        raise GeneratorError(done.stderr or f"exit code {done.returncode}")


def _inside(root: Path, units: Path, script: str) -> CompletedProcess[str]:
    """Run a shell in the tree, with the units on /mnt and a /tmp of its own; the tree itself is not changed."""
    place = shlex.quote(str(root))
    prepare = f"mount --bind {shlex.quote(str(units))} {place}/mnt && mount -t tmpfs tmpfs {place}/tmp"
    entered = f"{prepare} && exec chroot {place} /bin/sh -c {shlex.quote(script)}"
    return process.run(["unshare", "--mount", "/bin/sh", "-c", entered], check=False)
