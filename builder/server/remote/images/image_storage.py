"""The images that Podman stores for a user: which layers are there, taking them out, taking an image in.

All that is in a layer is read and written by that user alone, and never the last of the disk.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import tempfile
from typing import IO, TYPE_CHECKING, Final

from builder import facts
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

# How long Podman may take to take an image in, or out, in seconds.
_TIMEOUT: Final = 1800
# How much of the disk stays free, in percent: with less than 5, `room` stops a stack.
_KEPT_FREE: Final = 6


def free(place: str | Path = facts.STATE) -> int:
    """How many bytes may be written without touching what has to stay free; negative where that is touched."""
    found = os.statvfs(place)
    return (found.f_bavail - found.f_blocks * _KEPT_FREE // 100) * found.f_frsize


def layers_of(user: str) -> frozenset[str]:
    """The layers of all images of a user, as digests of their tars. Podman has compared each with the digest."""
    return frozenset(diff_id for layers in images_of(user).values() for diff_id in layers)


def images_of(user: str) -> dict[str, list[str]]:
    """The images of a user by their ids, and the layers of each. Raises RemoteError."""
    every = common.as_user(user, ["podman", "images", "--all", "--quiet", "--no-trunc"], timeout=common.PODMAN_TIMEOUT)
    # One that is removed between the two questions is left out of the answer.
    argv = ["podman", "image", "inspect", "--format", "{{.Id}} {{json .RootFS.Layers}}", *sorted({*every.split()})]
    lines = common.as_user(user, argv, check=False, timeout=common.PODMAN_TIMEOUT).splitlines() if every else []
    return {image: json.loads(layers) or [] for image, _, layers in (line.partition(" ") for line in lines)}


# $1 where to, $2 the image, then the names of blobs: Podman writes none that is there, so empty ones stand for the
# layers that nobody wants.
_EXPORT: Final = """
mkdir -p "$1/blobs/sha256"
cd "$1/blobs/sha256"
to=$1 image=$2
shift 2
[ $# = 0 ] || touch "$@"
exec podman save --quiet --format oci-dir --uncompressed --output "$to" "$image"
"""


def export(user: str, image: str, unwanted: Collection[str], directory: Path) -> None:
    """Have a user write an image's layers as tars into an OCI layout, all but the unwanted. Raises RemoteError."""
    names = [diff_id.partition(":")[2] for diff_id in unwanted]
    argv = ["sh", "-ec", _EXPORT, "sh", str(directory), image, *names]
    common.as_user(user, argv, timeout=_TIMEOUT)


def read(user: str, path: Path) -> Iterator[bytes]:
    """The content of a user's file, which the user itself opens: root follows no link of his. Ends with the room."""
    argv = [*common.in_session(user), "cat", "--", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as giver:
        try:
            while (chunk := giver.stdout.read(1 << 18) if giver.stdout else b"") and free() > 0:
                yield chunk
        finally:
            giver.kill()


def pull(user: str, layout: Path, scratch: Path, unit: str) -> str:
    """Have a user's Podman take the image of an OCI layout; returns its id.

    `scratch` is where it keeps the layers meanwhile, a new directory of the user's; `unit` is the name of what it runs
    in. A small layer may be a large tree: it is ended before that fills the disk, with OSError (ENOSPC). Raises
    RemoteError when Podman does not take it.
    """
    scratch.mkdir(mode=0o700)
    os.chown(scratch, common.uid(user), common.gid(user))
    options = [f"--unit={unit}", f"--property=RuntimeMaxSec={_TIMEOUT}", f"--setenv=TMPDIR={scratch}"]
    argv = ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", *options]
    argv = [*common.in_session(user), *argv, "podman", "--log-level=error", "pull", "--quiet", f"oci:{layout}"]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as errors:
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=errors) as running:
            if _ended_for_room(running, user, unit):
                raise OSError(errno.ENOSPC, "the disk is nearly full")
        if running.returncode != 0:
            raise RemoteError(f"Podman does not take the image: {_reason(errors)}", "is it whole? build it anew")
        return _text(said, 200).strip()


def _ended_for_room(running: subprocess.Popen[bytes], user: str, unit: str) -> bool:
    """Wait for the end of a pull; whether it was ended."""
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(0.2)
            return False
        if free() < 0:
            common.as_user(user, ["systemctl", "--user", "stop", f"{unit}.service"], check=False)
            running.wait()
            return True


def _reason(errors: IO[bytes]) -> str:
    """What Podman said last, which may be words of who made the image."""
    said = _text(errors, 1 << 16).strip().rpartition("Error: ")[2] or "it did not say why"
    return "".join(one for one in said if one.isprintable())[:500]


def _text(stream: IO[bytes], limit: int) -> str:
    stream.seek(0)
    return stream.read(limit).decode(errors="replace")
