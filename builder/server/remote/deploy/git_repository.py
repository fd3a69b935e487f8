"""The repository of a stack that deploy keys push to, and the unit in which `git receive-pack` works on it.

The repository is the builds' user's. The hook that it runs is root's, and is written here from git_hook.py.
"""

from __future__ import annotations

import os
import pkgutil
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common
from builder.server.remote.images import build_run, image_builds

if TYPE_CHECKING:
    from builder.server.remote.images.image_builds import Build

# What one push may send, in bytes, and of the room that there is: it is unpacked, archived, and unpacked again.
_LARGEST: Final = 1 << 30
_SHARE: Final = 4
# A repository that has grown beyond this is begun anew: the next push brings what it needs.
_LARGEST_REPOSITORY: Final = 4 << 30


def prepare(build: Build) -> Path:
    """The repository of a stack, in a directory of root's, given to the builds' user."""
    build.directory.mkdir(mode=0o711, exist_ok=True)
    uid, repository = common.uid(build.user), build.directory / "git"
    if repository.exists() and (repository.stat().st_uid != uid or _is_too_large(repository)):
        shutil.rmtree(repository)
    repository.mkdir(mode=0o700, exist_ok=True)
    os.chown(repository, uid, common.gid(build.user))
    hook, content = Path(facts.GIT_HOOKS, "pre-receive"), _hook()
    if not hook.exists() or hook.read_bytes() != content:
        hook.parent.mkdir(mode=0o755, exist_ok=True)
        files.replace(hook, content, 0o755)
    return repository


def _is_too_large(repository: Path) -> bool:
    return build_run.size_of(repository) > _LARGEST_REPOSITORY


def _hook() -> bytes:
    return b"#!/usr/bin/python3 -I\n" + (pkgutil.get_data("builder.server.remote.deploy", "git_hook.py") or b"")


# $1 is the repository, $2 the branch. All files are built from as they are in the commit, whatever its attributes say:
# no filter, no line ends, nothing left out or filled in. The descriptor for the hook is what came as standard error.
_SCRIPT: Final = """set -e
git init --quiet --bare --template= --initial-branch="$2" "$1"
cd "$1"
mkdir -p info tmp
echo '* -text !eol !filter !ident !working-tree-encoding !export-ignore !export-subst' >info/attributes
exec 3>&2
exec git receive-pack "$1"
"""


def _config(largest: int) -> dict[str, str]:
    """What Git is told: nothing of the repository's own settings is of a client's making."""
    return {
        "core.hooksPath": facts.GIT_HOOKS,
        "core.bigFileThreshold": "16m",
        "core.packedGitLimit": "64m",
        "pack.threads": "1",
        "receive.maxInputSize": str(largest),
        "receive.fsckObjects": "true",
        # Old repositories have these, and nobody can mend them.
        "receive.fsck.zeroPaddedFilemode": "ignore",
        "receive.fsck.missingSpaceBeforeDate": "ignore",
        "receive.fsck.badTimezone": "ignore",
        # A forced push is the way back to an older commit; a client that does not say so is refused by its own Git.
        "receive.denyNonFastForwards": "false",
        # What CI has is often the newest commit alone.
        "receive.shallowUpdate": "true",
        "gc.autoDetach": "false",
        "maintenance.autoDetach": "false",
    }


def receive_pack(build: Build, repository: Path, branch: str) -> list[str]:
    """The unit of `git receive-pack`: who it is, what it may see and write, and what it may take."""
    largest = min(_LARGEST, max(image_builds.room() // _SHARE, 0))
    properties = [
        f"User={build.user}",
        "PrivateNetwork=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "ProtectKernelTunables=yes",
        "ProtectControlGroups=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "NoNewPrivileges=yes",
        "RestrictNamespaces=yes",
        "RestrictSUIDSGID=yes",
        "RestrictAddressFamilies=AF_UNIX",
        "CapabilityBoundingSet=",
        "SystemCallFilter=@system-service",
        f"ReadWritePaths={repository}",
        f"InaccessiblePaths={' '.join(f'-{path}' for path in (*build_run.HIDDEN, build.home))}",
        "UMask=0077",
        "MemoryMax=25%",
        "OOMPolicy=kill",
        "OOMScoreAdjust=1000",
        "TasksMax=64",
        f"LimitFSIZE={2 * image_builds.LARGEST_CONTEXT}",
        "LimitCORE=0",
        "TimeoutStopSec=5",
        "Nice=10",
        "IOSchedulingClass=idle",
    ]
    config = _config(largest)
    env = {
        "HOME": str(repository),
        "PATH": "/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": str(len(config)),
        **{f"GIT_CONFIG_KEY_{number}": key for number, key in enumerate(config)},
        **{f"GIT_CONFIG_VALUE_{number}": value for number, value in enumerate(config.values())},
    }
    return [
        *("systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--expand-environment=no", "--slice=builds.slice"),
        f"--description=EasyRunner: a push to {build.stack}",
        *(f"--property={one}" for one in properties),
        *(f"--setenv={name}={value}" for name, value in env.items()),
        *("sh", "-c", _SCRIPT, "sh", str(repository), branch),
    ]
