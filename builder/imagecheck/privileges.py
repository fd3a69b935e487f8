"""Files that give more rights than they should."""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import Check, Hit, NotKnowableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Entry, Tree

# What packages of Debian 13 and Ubuntu 24.04 install with setuid or setgid, below /usr.
SETUID: Final = {
    "at": {"bin/at"},
    "bsdutils": {"bin/wall"},
    "bsdextrautils": {"bin/write"},
    "cron": {"bin/crontab"},
    "dbus": {"lib/dbus-1.0/dbus-daemon-launch-helper"},
    "dbus-system-bus-common": {"lib/dbus-1.0/dbus-daemon-launch-helper"},
    "fuse3": {"bin/fusermount3"},
    "login": {"bin/newgrp"},
    "libpam-modules": {"sbin/pam_extrausers_chkpwd", "sbin/unix_chkpwd"},
    "libpam-modules-bin": {"sbin/pam_extrausers_chkpwd", "sbin/unix_chkpwd"},
    "libutempter0": {"lib/x86_64-linux-gnu/utempter/utempter", "lib/aarch64-linux-gnu/utempter/utempter"},
    "mount": {"bin/mount", "bin/umount"},
    "openssh-client": {"bin/ssh-agent", "lib/openssh/ssh-keysign"},
    "passwd": {"bin/chage", "bin/chfn", "bin/chsh", "bin/expiry", "bin/gpasswd", "bin/newgrp", "bin/passwd"},
    "plocate": {"bin/plocate"},
    "polkitd": {"lib/polkit-1/polkit-agent-helper-1"},
    "pkexec": {"bin/pkexec"},
    "snapd": {"lib/snapd/snap-confine"},
    "ssh-agent": {"bin/ssh-agent"},
    "sudo": {"bin/sudo"},
    "tmux": set(),
    "uidmap": {"bin/newgidmap", "bin/newuidmap"},
    "util-linux": {"bin/su"},
    "util-linux-extra": {"bin/newgrp"},
}
CAPABLE: Final = {
    "iputils-ping": {"bin/ping"},
    "mtr-tiny": {"bin/mtr-packet"},
    "snapd": {"lib/snapd/snap-confine"},
    "uidmap": {"bin/newgidmap", "bin/newuidmap"},
}
_NOT_DISK: Final = "/run"


def setuid(tree: Tree) -> Iterator[Hit]:
    """Programs that run with other rights than their caller's, beyond what known packages install."""
    for entry in tree.entries:
        if entry.regular and entry.stat.st_mode & (stat.S_ISUID | stat.S_ISGID):
            package = tree.owners.get(entry.path, "")
            if entry.path.removeprefix("/usr/") not in SETUID.get(package, ()):
                yield Hit(entry.path, f"is {_bits(entry)}" + (f", of {package}" if package else ", of no package"))
            elif not _as_packaged(tree, entry, package):
                yield Hit(entry.path, f"is {_bits(entry)} and not what {package} installed")


def _bits(entry: Entry) -> str:
    names = [name for bit, name in ((stat.S_ISUID, "setuid"), (stat.S_ISGID, "setgid")) if entry.stat.st_mode & bit]
    return " and ".join(names)


def _as_packaged(tree: Tree, entry: Entry, package: str) -> bool:
    """Whether a file has the sum that its package wrote down; true where the package wrote none."""
    sums: set[str] = set()
    for path in tree.children("/var/lib/dpkg/info", f"{package}*.md5sums"):
        for line in tree.text(path).splitlines():
            digest, _, name = line.partition("  ")
            if name in {entry.path[1:], entry.path.removeprefix("/usr/")}:
                sums.add(digest)
    # dpkg's own sums are MD5: they tell a changed file, not a forged one.
    found = hashlib.md5(tree.content(entry.path, 1 << 26), usedforsecurity=False).hexdigest()
    return not sums or found in sums


def capabilities(tree: Tree) -> Iterator[Hit]:
    """Programs with capabilities of their own, beyond what known packages give."""
    for entry in tree.entries:
        if entry.regular and entry.stat.st_mode & 0o111 and _capable(tree, entry):
            package = tree.owners.get(entry.path, "")
            if entry.path.removeprefix("/usr/") not in CAPABLE.get(package, ()):
                yield Hit(entry.path, "has capabilities" + (f", of {package}" if package else ", of no package"))


def _capable(tree: Tree, entry: Entry) -> bool:
    if not hasattr(os, "getxattr"):
        raise NotKnowableError("this system cannot read capabilities of files")
    try:
        return bool(os.getxattr(f"{tree.root}{entry.path}", "security.capability", follow_symlinks=False))
    except OSError:
        return False  # None set, or a file system that has none.


def world_writable(tree: Tree) -> Iterator[Hit]:
    """What anybody may write to; directories with the sticky bit are made for that."""
    for entry in tree.entries:
        mode = entry.stat.st_mode
        if not mode & stat.S_IWOTH or entry.path.startswith(_NOT_DISK):
            continue
        if entry.regular or (entry.directory and not mode & stat.S_ISVTX):
            yield Hit(entry.path, f"may be written by anybody ({stat.S_IMODE(mode):04o})")


def unowned(tree: Tree) -> Iterator[Hit]:
    """Files of users or groups that are not there; the next user with that number would own them."""
    users = {user.uid for user in tree.users}
    rows = (line.split(":") for line in tree.lines("/etc/group"))
    groups = {int(row[2]) for row in rows if len(row) > 2 and row[2].isdigit()}
    for entry in tree.entries:
        if entry.path.startswith(_NOT_DISK):
            continue
        if entry.stat.st_uid not in users:
            yield Hit(entry.path, f"belongs to uid {entry.stat.st_uid}, who is nobody here")
        elif entry.stat.st_gid not in groups:
            yield Hit(entry.path, f"belongs to gid {entry.stat.st_gid}, which is no group here")


CHECKS: Final = (
    Check(
        "setuid",
        "Programs with setuid or setgid",
        "each one not known is a way to root",
        "CIS 7.1",
        "chmod ug-s, or remove the package",
        setuid,
    ),
    Check(
        "capabilities",
        "Programs with capabilities",
        "as setuid, and less seen",
        "CIS 7.1",
        "setcap -r",
        capabilities,
    ),
    Check(
        "world-writable",
        "Files that anybody may write",
        "an app could change what root runs",
        "CIS 7.1",
        "chmod o-w, or the sticky bit on a directory",
        world_writable,
    ),
    Check(
        "unowned",
        "Files of nobody",
        "the next user or group with that number owns them",
        "CIS 7.1",
        "chown, or remove",
        unowned,
    ),
)
