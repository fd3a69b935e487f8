"""Traces of the build: logs, histories, caches, temporary files, tools."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Final

from builder.imagecheck.model import CLEAN, Check, Hit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.image_tree import Tree

_LOGINS: Final = ("/var/lib/wtmpdb", "/var/lib/lastlog")
_HISTORIES: Final = (".*_history", ".*history", ".lesshst", ".viminfo", ".wget-hsts", ".histfile", ".rnd")
_HISTORY_PATHS: Final = (
    ".cache/mc/history",
    ".local/share/fish/fish_history",
    ".local/share/mc/history",
    ".local/share/nano/search_history",
    ".local/state/bash/history",
    ".local/state/less/history",
    ".local/state/psql/history",
    ".local/state/python_history",
    ".local/state/zsh/history",
    ".node_repl_history",
    ".vim/.netrwhist",
)
_PERSONAL_CACHES: Final = frozenset({".cache", ".sudo_as_admin_successful", ".selected_editor", ".gnupg", ".pki"})
# Homes of apps' users, where Podman keeps baked images; and what those hold.
_APP_HOMES: Final = "/var/lib/easyrunner/home/"
_TEMPORARY: Final = ("/tmp", "/var/tmp")  # noqa: S108
# systemd makes these for services that run, and removes them; the others it makes at every boot, as sockets' places.
_SERVICE_TMP: Final = "systemd-private-*"
_SOCKET_FOLDERS: Final = frozenset({".X11-unix", ".ICE-unix", ".XIM-unix", ".font-unix", "snap-private-tmp"})
_BUILD_TOOLS: Final = re.compile(
    r"packer[-_].+|script_\d+\.sh|er-bake.*|goss(-linux-.*)?|goss\.yaml|\.packer\.d|\.ansible"
)
_BUILD_FOLDERS: Final = ("/etc", "/home", "/opt", "/root", "/srv", "/usr/local", "/var/lib")
_CRASHES: Final = ("/var/crash", "/var/lib/systemd/coredump", "/var/lib/apport", "/var/lib/systemd/pstore")
_CORE: Final = re.compile(r"core(\.\d+)?|.+\.core")
_SWAP: Final = ("/swap.img", "/swapfile", "/mnt/resource/swapfile", "/zerofile")
_STATE: Final = (
    "/var/lib/easyrunner/data/fail2ban",
    "/var/lib/systemd/timers",
    "/var/lib/logrotate",
    "/var/lib/systemd/rfkill",
)


def logs(tree: Tree) -> Iterator[Hit]:
    """Anything that was logged, and every journal."""
    for entry in tree.files("/var/log", *_LOGINS):
        if entry.size:
            yield Hit(entry.path, f"holds {entry.size} bytes of the build's log")


def histories(tree: Tree) -> Iterator[Hit]:
    """What users typed: shells, editors, pagers, databases."""
    for home in tree.homes:
        for entry in tree.below(home):
            relative = entry.path.removeprefix(f"{home}/")
            named = "/" not in relative and any(fnmatch(relative, pattern) for pattern in _HISTORIES)
            if (named or relative in _HISTORY_PATHS) and not entry.directory and entry.size:
                yield Hit(entry.path, "remembers what was typed")


def user_caches(tree: Tree) -> Iterator[Hit]:
    """What programs left in users' homes beside what a fresh home has."""
    for home in tree.homes:
        if home.startswith(_APP_HOMES):
            continue
        for entry in tree.below(home):
            if entry.path.removeprefix(home).split("/")[1] in _PERSONAL_CACHES and not entry.directory:
                yield Hit(entry.path, "left by a program that a user ran")


def temporary(tree: Tree) -> Iterator[Hit]:
    """Temporary files."""
    for entry in tree.below(*_TEMPORARY):
        top = entry.path.removeprefix("/var").split("/")[2]
        running = tree.live and fnmatch(top, _SERVICE_TMP)
        if not running and not (entry.directory and entry.name in _SOCKET_FOLDERS):
            yield Hit(entry.path, "a temporary file")


def build_files(tree: Tree) -> Iterator[Hit]:
    """Files of tools that build images."""
    for entry in tree.below(*_BUILD_FOLDERS):
        if _BUILD_TOOLS.fullmatch(entry.name) and entry.path not in tree.owners and not _is_app_storage(entry.path):
            yield Hit(entry.path, "left by a build")
    if tree.exists("/usr/sbin/policy-rc.d") and "/usr/sbin/policy-rc.d" not in tree.owners:
        yield Hit("/usr/sbin/policy-rc.d", "keeps packages from starting their services")


def _is_app_storage(path: str) -> bool:
    return path.startswith(("/var/lib/containers/", _APP_HOMES))


def crashes(tree: Tree) -> Iterator[Hit]:
    """Memory of programs that crashed."""
    for entry in tree.files(*_CRASHES):
        yield Hit(entry.path, "a crash report")
    for entry in tree.entries:
        folder = entry.path.rpartition("/")[0]
        if entry.regular and folder in {"", *tree.homes} and _CORE.fullmatch(entry.name):
            yield Hit(entry.path, "a core dump")


def ballast(tree: Tree) -> Iterator[Hit]:
    """Swap files, whose pages are the build's memory, and files that fill the disk."""
    for path in _SWAP:
        if tree.exists(path):
            yield Hit(path, "the build's memory, or filling")


def service_state(tree: Tree) -> Iterator[Hit]:
    """What services remember of the time of the build."""
    for entry in tree.files(*_STATE):
        if entry.path not in tree.owners:
            yield Hit(entry.path, "state of a service that ran in the build")


def run_files(tree: Tree) -> Iterator[Hit]:
    """Files of /run on the disk: hidden from a running system, but shipped."""
    for entry in tree.below("/run"):
        if not entry.directory:
            due = "says that a reboot is due, " if entry.name.startswith("reboot-required") else ""
            yield Hit(entry.path, f"{due}on the disk, below what a running system mounts there")


CHECKS: Final = (
    Check(
        "logs",
        "Logs, journals, records of logins",
        "they tell of the build's users and addresses, and hide what happens first on the new machine",
        "DO: checkLogs; goss: size of /var/log",
        CLEAN,
        logs,
    ),
    Check(
        "histories",
        "Histories of shells, editors, databases",
        "people type secrets",
        "DO: checkRoot, checkUsers",
        CLEAN,
        histories,
    ),
    Check(
        "user-caches",
        "Caches of programs that users ran",
        "they are the build's, not the machine's",
        "none",
        CLEAN,
        user_caches,
    ),
    Check(
        "temporary-files",
        "Files in /tmp and /var/tmp",
        "scripts and uploads of the build, with its variables",
        "DO: checkTMP; image-builder: sysprep",
        CLEAN,
        temporary,
    ),
    Check(
        "build-files",
        "Files of tools that build images",
        "uploads, scripts and policy-rc.d, which would keep services from starting",
        "none",
        CLEAN,
        build_files,
    ),
    Check(
        "crash-dumps",
        "Core dumps and crash reports",
        "memory holds secrets",
        "goss: core dumps; CIS 1.5",
        CLEAN,
        crashes,
    ),
    Check(
        "ballast",
        "Swap files and files that fill the disk",
        "pages of the build's memory, and size",
        "image-builder: sysprep",
        CLEAN,
        ballast,
    ),
    Check(
        "service-state",
        "What services remember",
        "bans, times and rotations of the build",
        "none",
        CLEAN,
        service_state,
    ),
    Check(
        "run-files",
        "Files below /run on the disk, markers of a due reboot too",
        "hidden from a running system, but shipped with the image",
        "none",
        CLEAN,
        run_files,
        "offline",
    ),
)
