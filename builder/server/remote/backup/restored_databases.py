"""Databases of a restore: the place of each beside the stack's data is emptied, and filled from its dump.

What lies there in the snapshot was copied while the database wrote it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common, service_container
from builder.server.remote.backup import dump_load, dumps
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.server.remote.backup.restored_data import Beside
    from builder.server.remote.common import Value
    from builder.server.remote.service_container import Container


class Place(NamedTuple):
    """What is restored of a stack, and where; no paths are all of them."""

    stack: str
    beside: Beside
    paths: Sequence[str]


# Where the well-known databases keep their data, as their images have it.
_DATABASE: Final = {"postgres": "/var/lib/postgresql", "mariadb": "/var/lib/mysql", "mysql": "/var/lib/mysql"}
# How long a dump may take to load, in seconds.
_LOAD: Final = 6 * 3600.0


def fill(place: Place, service: str, told: Value, tell: Callable[[str], None]) -> None:
    """Load the dump of a service, of which the snapshot says `told`, where its database is restored."""
    stack, beside = place.stack, place.beside
    dump = dumps.of_kind(told["kind"])
    if dump is None:
        return  # of a command of the spec's own: it is kept beside, and told at the end
    wanted = service_container.container(stack, service)
    own, mounts = _mounts(place, wanted, _DATABASE[dump.kind])
    if not own:
        return
    tell(f"loading {service}")
    for path in own:
        _make_empty(beside, path, stack)
    account = dump_load.of_stack(stack)
    dump_load.bring_image(stack, account, wanted.image)
    values = {**service_container.stored(beside.live / "secrets"), **service_container.stored(beside.tree / "secrets")}
    with (beside.dumps / told["file"]).open("rb") as stream:
        name = f"{stack}-{service}"
        dump_load.load(account, wanted, dump, stream, mounts=mounts, values=values, name=name, seconds=_LOAD)


def _mounts(place: Place, wanted: Container, database: str) -> tuple[list[str], list[str]]:
    """The paths below the data that the database fills, and the mounts of its container with those beside in place.

    Raises RemoteError for a part of a database.
    """
    own, mounts = [], []
    for mount in wanted.mounts:
        source, target, *options = mount.split(":")
        inside = path_of(place.stack, source)
        if inside is None:
            mounts.append(mount)
            continue
        if holds(target, database) and _is_asked(inside, place.paths):
            own.append(inside)
        if inside in own or (place.beside.tree / inside).is_dir():
            mounts.append(":".join([str(place.beside.tree / inside), target, *options]))
    return own, mounts


def path_of(stack: str, source: str) -> str | None:
    """Where the source of a mount is below a stack's data: a volume of Podman's, or a directory; None elsewhere."""
    if not source.startswith("/"):
        return f"volumes/{source}/_data"
    top = f"{facts.STACK_DATA}/{stack}/"
    return source.removeprefix(top) if source.startswith(top) else None


def holds(target: str, place: str) -> bool:
    """Whether what is mounted there in the container has the data of a database that keeps it in `place`."""
    return f"{target}/".startswith(f"{place}/") or f"{place}/".startswith(f"{target}/")


def _is_asked(inside: str, paths: Sequence[str]) -> bool:
    if any(path.startswith(f"{inside}/") for path in paths):
        raise RemoteError(f"{inside} is a database's, which is restored whole from its dump", f"--path {inside}")
    return not paths or any(f"{inside}/".startswith(f"{path}/") for path in paths)


def _make_empty(beside: Beside, inside: str, stack: str) -> None:
    """Root alone enters what is above."""
    path, uid = beside.tree / inside, common.uid(common.user_of(stack))
    common.run(["rm", "-rf", "--one-file-system", "--", str(path)])
    for directory in (path.parent, path):
        if not directory.exists():
            directory.mkdir(mode=0o755, parents=True)
            os.chown(directory, uid, common.gid(common.user_of(stack)))
