"""A base tree with a few packages more: a copy, with what apt adds to it in a small part of a whole tree's time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from builder import process
from builder.localhost import cache

if TYPE_CHECKING:
    from pathlib import Path

# $1 is the tree, $2 the copy; the rest are packages. It leaves what mmdebstrap leaves: no lists and no logs.
_INSTALL: Final = """
cp --archive "$1" "$2"
cd "$2"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mkdir -p run/systemd/resolve
cp /etc/resolv.conf run/systemd/resolve/stub-resolv.conf
shift 2
chroot . apt-get -qq update
chroot . apt-get -qq -y install --no-install-recommends "$@"
chroot . apt-get clean
rm -rf var/lib/apt/lists/*_* var/log/apt/* var/log/dpkg.log var/log/alternatives.log
rm -rf var/cache/debconf/tmp.ci var/cache/ldconfig/aux-cache
"""


def with_packages(tree: Path, packages: tuple[str, ...]) -> Path:
    """The tree itself when there are none; made on first use."""
    if not packages:
        return tree
    target = tree.with_name("+".join((tree.name, *packages)))
    return cache.made(target, partial(_make, tree, packages))


def _make(tree: Path, packages: tuple[str, ...], aside: Path) -> None:
    argv = ["unshare", "--mount", "--propagation", "private", "env", "DEBIAN_FRONTEND=noninteractive"]
    process.run([*argv, "sh", "-ec", _INSTALL, "sh", str(tree), str(aside), *packages])
