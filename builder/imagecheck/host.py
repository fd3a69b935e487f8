"""The host itself: its files with their modes, its units, its packages, and nothing of a first boot."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import CLEAN, Check, Hit, NotKnowableError
from builder.imagecheck.services import enabled

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Entry, Expected, Tree

_LIB: Final = "/usr/lib/easyrunner"
_ETC: Final = "/etc/easyrunner"
_STATE: Final = "/var/lib/easyrunner"
_IN_LIB: Final = ("firewall", "first-boot", "provision", "packages", "subids", "firewall.d")
_UNITS: Final = ("er-firewall.service", "er-first-boot.service", "fail2ban.service")
_SSH: Final = ("ssh.service", "ssh.socket", "sshd.service")
_FIRST_BOOT: Final = (f"{_STATE}/complete", f"{_ETC}/server.env")


def files(tree: Tree) -> Iterator[Hit]:
    """Every file of the host is there, root's, with its mode and content."""
    _refuse_other_images(tree)
    for name in _IN_LIB:
        if not tree.exists(f"{_LIB}/{name}"):
            yield Hit(f"{_LIB}/{name}", "is missing")
    for file in tree.expected:
        if what := _difference(tree, file):
            yield Hit(file.path, what)
    known = {file.path for file in tree.expected}
    for entry in tree.below(_LIB, _ETC):
        if entry.path not in known and (what := _fault(tree, entry)):
            yield Hit(entry.path, what)


def _refuse_other_images(tree: Tree) -> None:
    """Raise NotKnowableError for an image that is no host of ours. A bake, and expected files, say that it is one."""
    if not tree.live and not tree.expected and not tree.exists(_LIB):
        raise NotKnowableError(f"no host of ours: there is no {_LIB}")


def _difference(tree: Tree, file: Expected) -> str | None:
    path = tree.where(file.path)
    if not path.is_file():
        return "is missing"
    status = path.stat()
    mode = f"0{stat.S_IMODE(status.st_mode):03o}"
    if mode != file.mode:
        return f"has mode {mode}, not {file.mode}"
    if (status.st_uid, status.st_gid) != (_id(tree, "passwd", file.owner), _id(tree, "group", file.group)):
        return f"is not {file.owner}:{file.group}'s"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return None if digest == file.sha256 else "has other content than was baked"


def _id(tree: Tree, table: str, name: str) -> int | None:
    rows = (line.split(":") for line in tree.lines(f"/etc/{table}"))
    return next((int(row[2]) for row in rows if row[0] == name), None)


def _fault(tree: Tree, entry: Entry) -> str | None:
    """The fault of a file below our directories that is not expected: all are root's, and only scripts may be run."""
    if (entry.stat.st_uid, entry.stat.st_gid) != (_id(tree, "passwd", "root"), _id(tree, "group", "root")):
        return "is not root's"
    mode = stat.S_IMODE(entry.stat.st_mode)
    if not entry.regular:
        return None if entry.directory and not mode & 0o022 else f"has mode {mode:04o}"
    right = 0o755 if tree.content(entry.path, 2) == b"#!" else 0o644
    return None if mode == right else f"has mode {mode:04o}, not {right:04o}"


def units(tree: Tree) -> Iterator[Hit]:
    """The firewall, first boot, Fail2Ban and sshd start by themselves."""
    _refuse_other_images(tree)
    on = {unit for _, unit in enabled(tree)}
    for unit in _UNITS:
        if unit not in on:
            yield Hit(f"/etc/systemd/system/{unit}", "is not enabled")
    if not on.intersection(_SSH):
        yield Hit("/etc/systemd/system/ssh.service", "is not enabled: nobody could log in")


def packages(tree: Tree) -> Iterator[Hit]:
    """Every package of the host is installed."""
    _refuse_other_images(tree)
    installed = {name.partition(":")[0] for name, state in tree.packages.items() if state.endswith("ok installed")}
    for name in tree.lines(f"{_LIB}/packages"):
        if name not in installed:
            yield Hit(f"{_LIB}/packages", f"{name} is not installed")


def first_boot(tree: Tree) -> Iterator[Hit]:
    """Nothing that a first boot makes: its mark, a name, stacks, certificates."""
    for path in (*_FIRST_BOOT, *tree.children(f"{_ETC}/stacks"), *tree.children(f"{_ETC}/caddy/sites")):
        if tree.exists(path):
            yield Hit(path, "belongs to one machine")
    for entry in tree.files(f"{_STATE}/data", "/var/lib/systemd/linger"):
        yield Hit(entry.path, "belongs to one machine")


CHECKS: Final = (
    Check(
        "host-files",
        "The host's own files, modes and owners",
        "what an app could change, it would",
        "none",
        "bake again",
        files,
    ),
    Check(
        "host-units",
        "Firewall, first boot, Fail2Ban and sshd are enabled",
        "the machine would come up open, or shut",
        "DO: checkFirewall; CIS 4",
        "systemctl enable",
        units,
    ),
    Check(
        "host-packages",
        "The host's packages",
        "first boot would have to fetch them",
        "none",
        "/usr/lib/easyrunner/provision bake",
        packages,
    ),
    Check(
        "first-boot-state",
        "Nothing of a first boot",
        "a machine would take itself for another one, with its certificates",
        "none",
        CLEAN,
        first_boot,
    ),
)
