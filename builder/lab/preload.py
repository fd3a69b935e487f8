"""Puts images into a user's own container storage before the first power-on, as baking an image does.

The tree's own Podman does it, as that user, in a throw-away root; the storage is kept and copied to each machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.facts import SUBID_SIZE
from builder.localhost import cache
from builder.oci import image_archive

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.lab.machine_directory import Files

_RECIPE: Final = 1
_STORAGE: Final = ".local/share/containers/storage"
# $1 scratch directory, $2 tree, $3 home on the machine, $4 home here, $5 directory of archives,
# $6 uid, $7 first subordinate id, $8 how many of them; then file and image name in turn.
# The user's namespace may not be made from a chroot, so the root is changed by pivot_root.
_SCRATCH: Final = r"""set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount --rbind /dev dev
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs tmpfs tmp
mkdir -p ".$3" run/archives "run/user/$6" run/old
chmod 1777 tmp
chown "$6:$6" "run/user/$6"
mount --bind "$4" ".$3"
mount --rbind "$5" run/archives
echo "preload:x:$6:$6::$3:/bin/sh" >> etc/passwd
echo "preload:x:$6:" >> etc/group
echo "preload:$7:$8" >> etc/subuid
echo "preload:$7:$8" >> etc/subgid
pivot_root . run/old
umount --lazy /run/old
uid=$6 home=$3
shift 8
cd /
exec env --ignore-environment PATH=/usr/local/bin:/usr/bin:/bin HOME="$home" \
  XDG_RUNTIME_DIR="/run/user/$uid" \
  setpriv --reuid "$uid" --regid "$uid" --clear-groups sh -e -c '
    while [ $# -gt 0 ]; do
      id=$(podman --cgroup-manager=cgroupfs pull --quiet "oci-archive:/run/archives/$1")
      podman --cgroup-manager=cgroupfs tag "$id" "$2"
      shift 2
    done' sh "$@"
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """A user as the machine will have it: its uid, its first subordinate id, its home."""

    uid: int
    subid: int
    home: str


@dataclass(frozen=True, slots=True)
class Image:
    """An OCI archive, and the name its image has on the host."""

    archive: Path
    name: str


@dataclass(frozen=True, slots=True)
class Preload:
    """A finished storage directory, and whose it is."""

    owner: Owner
    storage: Path

    def copy_to(self, files: Files) -> None:
        """Put it into the home on a machine's disk; the home and the way there are made when missing."""
        home = files.path(self.owner.home)
        home.parent.mkdir(parents=True, exist_ok=True)
        storage = home / _STORAGE
        for directory in (*reversed(storage.parents[: len(Path(_STORAGE).parts)]), storage):
            if not directory.is_dir():
                directory.mkdir(mode=0o700)
                os.chown(directory, self.owner.uid, self.owner.uid)
        process.run(["cp", "--archive", f"{self.storage}/.", str(storage)])


def prepare(tree: Path, owner: Owner, images: Iterable[Image]) -> Preload:
    """The storage of `owner` with these images in it; made on first use."""
    archives = tuple(images)
    target = cache.root() / "storage" / key(tree, owner, archives)
    cache.made(target, lambda aside: _make(aside, tree, owner, archives))
    return Preload(owner, target / _STORAGE)


def key(tree: Path, owner: Owner, images: tuple[Image, ...]) -> str:
    """A hash of what a storage is made of, for its name; the tree stands for the version of Podman."""
    contents = [[_digest(image.archive), image.name] for image in images]
    made_of = json.dumps([_RECIPE, str(tree), owner.uid, owner.subid, owner.home, contents]).encode()
    return hashlib.sha256(made_of).hexdigest()[:16]


def _digest(path: Path) -> str:
    return image_archive.digest(path, path.stat().st_mtime_ns)


def _make(home: Path, tree: Path, owner: Owner, images: tuple[Image, ...]) -> None:
    home.mkdir(parents=True)
    os.chown(home, owner.uid, owner.uid)
    with tempfile.TemporaryDirectory(dir=home.parent) as name:
        scratch, archives = Path(name, "scratch"), Path(name, "archives")
        scratch.mkdir()
        archives.mkdir()
        Path(name).chmod(0o755)
        names = _copy_archives(images, archives)
        paths = (scratch, tree, owner.home, home, archives)
        process.run(argv(paths, owner, names))


def _copy_archives(images: tuple[Image, ...], archives: Path) -> list[str]:
    """Copy them to where the user can read them. Returns file name and image name in turn."""
    names = []
    for number, image in enumerate(images):
        process.run(["cp", "--reflink=auto", str(image.archive), str(archives / f"{number}.tar")])
        (archives / f"{number}.tar").chmod(0o644)
        names += [f"{number}.tar", image.name]
    return names


def argv(paths: Iterable[Path | str], owner: Owner, names: list[str]) -> list[str]:
    """Enter the throw-away root and import the images; `paths` are the first five arguments of the script."""
    start = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        _SCRATCH,
        "sh",
    ]
    return [*start, *(str(path) for path in paths), str(owner.uid), str(owner.subid), str(SUBID_SIZE), *names]
