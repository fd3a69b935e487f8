"""A host as values: its packages, units, rules, users and every file, so that two of them can be compared."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.lab.machine import Machine

Facts = dict[str, str]
# Made anew by every boot, or not of the disk.
_NOT_OF_THE_DISK: Final = frozenset({"/proc", "/sys", "/dev", "/run", "/tmp"})
_STORAGE: Final = "/.local/share/containers"
# Who was made first differs; who there is must not.
_ORDERLESS: Final = frozenset({"/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow"})
# shadow(5): on which day a user was made; two hosts may be made before and after midnight.
_DAY: Final = re.compile(rb"^([a-z0-9_-]+:[!*]+):\d+:", re.MULTILINE)
# Units that Podman makes for one process, with random names: that there are such is compared, not how many or how far.
_MOMENTARY: Final = re.compile(r"(podman-pause-|rootless-netns-|run-p\d+-i|[0-9a-f]{64}-)[0-9a-f]+")
# A manager sees those of the services that were up when its own view of the mounts began.
_CREDENTIALS: Final = "run-credentials-"
_SYSCTL: Final = r"""
sed -n 's/^-\{0,1\}\([a-z][^ =]*\).*/\1/p' /etc/sysctl.d/60-easyrunner.conf | xargs sysctl --ignore
"""


def running(machine: Machine, users: tuple[str, ...]) -> dict[str, Facts]:
    """What a running host says of itself; `users` are those with a systemd of their own."""
    facts = {
        "packages": _packages(machine),
        "unit files": _unit_files(machine),
        "units": _units(machine, "root"),
        "rules, IPv4": _rules(machine, "iptables-save"),
        "rules, IPv6": _rules(machine, "ip6tables-save"),
        "jails": _numbered(machine.run("fail2ban-client -d | sort").stdout),
        "sshd": _numbered(machine.run("sshd -T | sort").stdout),
        "kernel": _numbered(machine.run(_SYSCTL).stdout),
    }
    for user in users:
        facts[f"units of {user}"] = _units(machine, user)
        facts[f"images of {user}"] = _images(machine, user)
    return facts


def _packages(machine: Machine) -> Facts:
    lines = machine.run(["dpkg-query", "-W", "-f", "${Package}:${Architecture}\t${Version} ${Status}\n"]).stdout
    manual = machine.run(["apt-mark", "showmanual"]).stdout.split()
    return _pairs(lines) | {f"by hand: {name}": "yes" for name in manual}


def _unit_files(machine: Machine) -> Facts:
    lines = machine.run(["systemctl", "list-unit-files", "--no-legend", "--no-pager"]).stdout
    return {words[0]: " ".join(words[1:]) for words in map(str.split, lines.splitlines())}


def _units(machine: Machine, user: str) -> Facts:
    own = [] if user == "root" else ["--user"]
    argv = ["systemctl", *own, "list-units", "--all", "--no-legend", "--no-pager", "--plain"]
    lines = machine.run(argv, user=user).stdout
    return dict(_unit(*line.split()[:4]) for line in lines.splitlines() if not line.startswith(_CREDENTIALS))


def _unit(name: str, *state: str) -> tuple[str, str]:
    general = _MOMENTARY.sub(lambda found: f"{re.sub('[0-9a-f]{64}|[0-9]+', '*', found[1])}*", name)
    return general, "there" if general != name else " ".join(state)


def _images(machine: Machine, user: str) -> Facts:
    lines = machine.run(["podman", "images", "--format", "{{.Repository}}:{{.Tag}}\t{{.ID}} {{.Digest}}"], user=user)
    return _pairs(lines.stdout)


def _rules(machine: Machine, program: str) -> Facts:
    """The rules in order, without their counters."""
    lines = machine.run([program]).stdout.splitlines()
    return _numbered("\n".join(re.sub(r" \[\d+:\d+\]$", "", line) for line in lines if not line.startswith("#")))


def _numbered(text: str) -> Facts:
    return {f"{number:04}": line for number, line in enumerate(text.splitlines())}


def _pairs(text: str) -> Facts:
    return dict(line.split("\t", 1) for line in text.splitlines())


def at_rest(machine: Machine) -> Facts:
    """Every file of a host that is off: kind, mode, owner, group, and content or target. Images are told by Podman."""
    return of_trees(
        {"/": machine.files.tree} | {path: machine.disk.real_directory(path) for path in machine.disk.real_directories}
    )


def of_trees(tops: Mapping[str, Path]) -> Facts:
    """The same of a host whose directories, by their paths there, are here."""
    users, groups = (_names(tops["/"] / "etc" / name) for name in ("passwd", "group"))
    found = {}
    for path, file in _walk(tops):
        status = file.lstat()
        owner = f"{users.get(status.st_uid, status.st_uid)}:{groups.get(status.st_gid, status.st_gid)}"
        found[path] = f"{stat.filemode(status.st_mode)} {owner} {_content(path, file, status)}{_capability(file)}"
    return found


def _capability(file: Path) -> str:
    """What a program may do beyond its user, as setcap(8) writes it down."""
    try:
        return f" {os.getxattr(file, 'security.capability', follow_symlinks=False).hex()}"
    except OSError:
        return ""


def _names(file: Path) -> Mapping[int, str]:
    return {int(line.split(":")[2]): line.split(":")[0] for line in file.read_text().splitlines()}


def _walk(tops: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    """The path on the machine, and where that is here."""
    for top, here in tops.items():
        for folder, folders, files in os.walk(here):
            inside = f"{top.rstrip('/')}/{os.path.relpath(folder, here)}".removesuffix("/.") or "/"
            folders[:] = [name for name in folders if _wanted(f"{inside.rstrip('/')}/{name}", tops)]
            for name in (*folders, *files):
                yield f"{inside.rstrip('/')}/{name}", Path(folder, name)


def _wanted(path: str, tops: Mapping[str, Path]) -> bool:
    return path not in _NOT_OF_THE_DISK and path not in tops and not path.endswith(_STORAGE)


def _content(path: str, file: Path, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return f"-> {file.readlink()}"
    if not stat.S_ISREG(status.st_mode):
        return ""
    if path in _ORDERLESS:
        lines = _DAY.sub(rb"\1:day:", file.read_bytes()).splitlines()
        return hashlib.sha256(b"\n".join(sorted(lines))).hexdigest()[:16]
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]
