"""OCI archives of images that no registry has: which are missing here, and taking one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import common, services
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from builder.server.remote.common import Value

# How long Podman has to answer, in seconds; a stack may hold its lock.
_ANSWER: Final = 30


def archives_missing() -> list[str]:
    """Of the JSON list of [stack, image, path] on stdin, the paths whose image is neither loaded nor lying here."""
    wanted = [(stack, image, path) for stack, image, path in json.load(sys.stdin.buffer) if not Path(path).exists()]
    loaded = {stack: _loaded(stack) for stack in {stack for stack, _, _ in wanted}}
    return [path for stack, image, path in wanted if (there := loaded[stack]) is not None and image not in there]


def _loaded(stack: str) -> list[str] | None:
    """The images of a stack; None where its Podman does not answer, and an archive would not help."""
    if stack != "proxy" and not services.uids([stack]):
        return []
    argv = ["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        return common.as_user(f"{facts.STACK_USER_PREFIX}{stack}", argv, limit=_ANSWER).split()
    except RemoteError:
        return None


def archive_put(path: str) -> Value:
    """Take an archive from stdin to `path`, whole or not at all."""
    target = Path(path)
    if target.parent != Path(facts.IMAGES):
        raise RemoteError(f"{path} is not a place for archives")
    with files.aside(target, 0o644, name=f".{target.name}.part") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return {"bytes": target.stat().st_size}
