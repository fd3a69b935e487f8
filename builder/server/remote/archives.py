"""OCI archives of images that no registry has: which are missing here, and taking one."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from builder import facts, files
from builder.server.remote import act, common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from builder.server.remote.common import Value


def archives_missing() -> list[str]:
    """Of the JSON list of [stack, image, path] on stdin, the paths whose image is neither loaded nor lying here."""
    return [
        path for stack, image, path in json.load(sys.stdin.buffer) if not (Path(path).exists() or _has(stack, image))
    ]


def _has(stack: str, image: str) -> bool:
    user = f"{facts.STACK_USER_PREFIX}{stack}"
    if stack != "proxy" and not act.uids([stack]):
        return False
    listed = common.as_user(user, ["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"], check=False)
    return image in listed.split()


def archive_put(path: str) -> Value:
    """Take an archive from stdin to `path`, whole or not at all."""
    target = Path(path)
    if target.parent != Path(facts.IMAGES):
        raise RemoteError(f"{path} is not a place for archives")
    with files.aside(target, 0o644, name=f".{target.name}.part") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return {"bytes": target.stat().st_size}
