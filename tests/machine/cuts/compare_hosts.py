"""Whether two hosts came out the same: all files of both disks, users, packages, units, rules, images."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Final

from builder import facts
from builder.lab import trial
from builder.polling import NotInTimeError, until
from tests.packer import host_contents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.machine.hosts import Host
    from tests.packer.host_contents import Facts

# Their state says what this boot had to do, which is not the same after a cut; a failed one is looked for instead.
_NOT_COMPARED: Final = "units"
_STORAGE: Final = ".local/share/containers/storage"


@dataclass(frozen=True)
class Own:
    """Files that each host has of its own: their content may differ, their kind, mode and owner not.

    With `existence` one host may lack them, with `mode` only the owner has to be the same.
    """

    names: str
    why: str
    existence: bool = False
    mode: bool = False


OWN: Final = (
    Own("/etc/machine-id", "each host's own"),
    Own("/etc/ssh/ssh_host_ed25519_key*", "each host's own"),
    Own("/etc/sudoers.d/90-cloud-init-users", "the time is in it"),
    Own("/etc/systemd/resolved.conf.d/50-lab.conf", "where the lab's machine finds a resolver"),
    Own("/etc/*-", "a copy of the state before the last change, made by the user tools"),
    Own("/etc/.updated", "a time"),
    Own("/var/.updated", "a time"),
    Own("/etc/ld.so.cache", "made anew while the power was cut"),
    Own("/var/cache/ldconfig/aux-cache", "numbers of inodes"),
    Own("/var/lib/systemd/random-seed", "random"),
    Own("/var/lib/systemd/catalog/database", "times"),
    Own("/var/lib/easyrunner/data/fail2ban/fail2ban.sqlite3", "times"),
    Own(
        "/var/lib/easyrunner/data/caddy/caddy/*", "the host's own authority, its keys and certificates", existence=True
    ),
    Own("/var/lib/easyrunner/room/*", "how much of the disk a stack takes, measured now and then", existence=True),
    Own("/var/lib/cloud/*", "cloud-init's record of its runs", existence=True),
    Own("/var/log/*", "logs", existence=True),
    Own("/var/tmp/*", "for the moment", existence=True),
)
# Where the cut came while packages were being installed: what their own scripts had written and not waited for.
UNFINISHED: Final = (
    Own("*/__pycache__/*", "compiled Python: who finds an empty one writes another", existence=True, mode=True),
    Own("/etc/apparmor.d/tunables/*", "has nothing but comments in it"),
    Own("/etc/audit/audit.rules", "joined from audit/rules.d whenever audit starts"),
    Own("/var/cache/apt/*", "apt's index of what it knows, made anew when it does not fit", existence=True),
    Own("/var/lib/apt/lists/*", "package lists, fetched when packages were still missing and daily", existence=True),
    Own("/var/lib/cni*", "made by a boot with Podman on the disk", existence=True),
    Own("/var/lib/containers*", "made by a boot with Podman on the disk", existence=True),
    Own("/var/lib/dpkg/diversions", "the same entries in another order"),
    Own("/var/lib/dpkg/*-old", "the state before the last change"),
    Own("/var/lib/systemd/deb-systemd-*-enabled/*", "Debian's record of units for their removal", existence=True),
)


@dataclass(frozen=True)
class Likeness:
    """What is compared of a host, list by list, and what is wrong with it without comparing."""

    lists: dict[str, Facts]
    faults: tuple[str, ...]


def likeness(host: Host) -> Likeness:
    """Look at a host that has said it is ready, power it off in order, and read its disk."""
    machine = host.machine
    machine.wait(machine.cloud_init_done, timeout=120, what="cloud-init")
    users = ("er-proxy", *(f"er-{stack.name}" for stack in host.spec.stacks))
    faults = (*_silent(host), *_failed(host, users))
    lists = host_contents.running(machine, users)
    lists = {name: lists[name] for name in lists if not name.startswith(_NOT_COMPARED) or name == "unit files"}
    machine.poweroff()
    images = dict(_layers(host))
    return Likeness({**lists, "files": host_contents.at_rest(machine), "image layers": images}, faults)


def differences(wanted: Likeness, found: Likeness, own: tuple[Own, ...] = OWN) -> list[str]:
    """What is wrong with `found`, in words; nothing when it is as it should be."""
    unlike = (line for name in wanted.lists for line in _unlike(name, wanted.lists[name], found.lists[name], own))
    return [*found.faults, *unlike]


def _unlike(name: str, mine: Facts, other: Facts, own: tuple[Own, ...]) -> Iterator[str]:
    for key in sorted(mine.keys() | other.keys()):
        one, two = mine.get(key), other.get(key)
        if one != two and not (name == "files" and _own(own, key, one, two)):
            yield f"{name}: {key}: {two or 'nothing'}, not {one or 'nothing'}"


def _own(own: tuple[Own, ...], path: str, mine: str | None, other: str | None) -> bool:
    row = next((row for row in own if fnmatchcase(path, row.names)), None)
    if row is None or mine is None or other is None:
        return row is not None and row.existence
    return mine.split()[row.mode : 2] == other.split()[row.mode : 2]


def _silent(host: Host) -> Iterator[str]:
    """Domains that do not answer, and SSH. The first request to a site may come before its certificate."""
    for site in trial.sites(host.spec):
        for family in (4, 6):
            try:
                until(partial(_answers, host, site.domain, family), timeout=60, what=site.domain)
            except NotInTimeError as error:
                yield f"{error} over IPv{family}"
    for family in (4, 6):
        if (done := host.ssh("sudo true", family=family)).returncode:
            yield f"no SSH over IPv{family}: {done.stderr}"


def _answers(host: Host, domain: str, family: int) -> bool:
    return host.curl(f"https://{domain}/", family=family).stdout.startswith("HTTP/2 200")


def _failed(host: Host, users: tuple[str, ...]) -> Iterator[str]:
    """Units that failed, of the host and of every user."""
    for user in ("root", *users):
        own = [] if user == "root" else ["--user"]
        argv = ["systemctl", *own, "--failed", "--quiet", "--no-legend", "--plain"]
        yield from (f"failed for {user}: {line}" for line in host.machine.run(argv, user=user).stdout.splitlines())


def _layers(host: Host) -> Iterator[tuple[str, str]]:
    """Every user's image layers, file by file: an image that is there by name may have lost its contents."""
    for home in sorted(host.machine.files.path(facts.HOMES).iterdir()):
        storage = home / _STORAGE
        known = storage / "overlay-layers/layers.json"
        for layer in sorted(one["id"] for one in (json.loads(known.read_text()) if known.exists() else [])):
            yield f"{home.name}: {layer}", _digest(storage / "overlay" / layer / "diff")


def _digest(top: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(top.rglob("*")):
        status = path.lstat()
        found.update(f"{path.relative_to(top)} {status.st_mode} {status.st_uid} {status.st_gid}\0".encode())
        if path.is_file() and not path.is_symlink():
            found.update(path.read_bytes())
    return found.hexdigest()[:16]
