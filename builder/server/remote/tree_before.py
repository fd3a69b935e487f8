"""The tree of before the last apply: what `er server rollback` without a stack goes back to.

It is a plan, as a client of `apply` sends one, made of the files that are on the host before the first one changes:
whoever goes back applies it, and is as safe as with any other. One is kept, until an apply that changes something has
come to its end; a way back is such an apply, so that the next one leads forth again.
"""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import facts, files
from builder.server.remote import changed_files, common, release_record
from builder.server.remote.changed_files import APPLY
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from builder.server.remote.common import Value

_KEPT: Final = APPLY.directory / "tree-before.json"
_NEW: Final = APPLY.directory / "tree-before.new"


def save(new: Collection[str], admin: str) -> None:
    """Write down the tree as it is, and the keys of this admin. Files at the `new` paths belong to it, whose ever."""
    tree = {"when": int(time.time()), "stacks": common.uids(common.stacks()), **_tree(new, admin)}
    changed_files.write(_NEW, json.dumps(tree).encode())


def _tree(new: Collection[str], admin: str) -> Value:
    paths = {*changed_files.own_files(), *(path for path in new if Path(path).is_file())}
    keys = next(iter(changed_files.admin_key_files({"admin": {"name": admin}})), "")
    ssh_keys = Path(keys).read_text().splitlines() if keys and Path(keys).exists() else []
    return {"files": [_file(path) for path in sorted(paths)], "admin": {"name": admin, "ssh_keys": ssh_keys}}


def _file(path: str) -> Value:
    rights = changed_files.rights_of(os.lstat(path))
    content = base64.b64encode(Path(path).read_bytes()).decode()
    return {"path": path, "laid": rights.partition(" ")[0], "rights": rights, "content": content}


def keep(new: Collection[str]) -> None:
    """The tree that was saved is from now on the one to go back to, unless it is the same as what is there."""
    old = json.loads(_NEW.read_bytes())
    if _tree(new, old["admin"]["name"]).items() <= old.items():
        _NEW.unlink()
        return
    _NEW.replace(_KEPT)
    files.sync(APPLY.directory)


def apply_before() -> Value:
    """The plan that goes back; raises RemoteError where there is none, or what it runs is not here any more."""
    try:
        plan: Value = json.loads(_KEPT.read_bytes())
    except FileNotFoundError:
        raise RemoteError(
            "no tree of before is kept here: nothing has been applied yet",
            "of one stack: er server rollback HOST STACK",
        ) from None
    contents = {file["path"]: base64.b64decode(file["content"]) for file in plan["files"]}
    plan["files"] = [file for file in plan["files"] if _is_wanted(file["path"], contents)]
    if lacking := list(_lacking(plan["stacks"], contents)):
        raise RemoteError(
            f"the tree of before cannot be had: {'; '.join(lacking)}", "apply the spec of before: that sends its images"
        )
    return plan


def _is_wanted(path: str, contents: dict[str, bytes]) -> bool:
    """A release of before comes back only where the apply has taken it away; what was released since stays."""
    unit = release_record.unit_of(path)
    if unit is None:
        return True
    now = Path(unit)
    return unit in contents and now.exists() and _image(now.read_bytes()) != _image(contents[unit])


def _image(unit: bytes) -> str:
    return images.image_of_unit(unit.decode())


def _lacking(stacks: dict[str, int], contents: dict[str, bytes]) -> Iterator[str]:
    """Images without a registry that the stacks' users have no more."""
    for stack, uid in stacks.items():
        if stack not in common.uids([stack]):
            continue  # it was removed with its images; what came as an archive is loaded again
        names = {name for image in release_record.store(stack) for name in image.names}
        for path, content in contents.items():
            if path.startswith(f"{facts.QUADLETS}/{uid}/") and path.endswith(".container"):
                name = _image(content)
                if name.startswith("localhost/") and ":" in name and name not in names:
                    yield f"{stack} has no image {name}"
