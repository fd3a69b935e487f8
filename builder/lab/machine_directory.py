"""The directory of one machine below the cache, locked while the machine exists, and the machine's disk in it.

The kernel drops the lock of a process that dies, however it dies: so what a dead run left is known and taken away.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from builder import process
from builder.lab import namespaces, network, power
from builder.lab.network import Network
from builder.localhost import cache

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import TextIOWrapper
    from pathlib import Path


class MachineDirectory:
    """`path` is the machine's until `release` or the end of this process."""

    def __init__(self, machine: Network, lock: TextIOWrapper) -> None:
        self.path = _machines() / machine.id
        self._network = machine
        self._lock = lock

    @classmethod
    def take(cls) -> tuple[Self, network.Bridge]:
        """A new directory and the bridge of a free network, after taking away what dead runs left."""
        with cache.locked(_machines() / ".lock"):
            _sweep_all()
            bridge = network.Bridge.make()
            lock = _lock_file(bridge.network).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
            directory = cls(bridge.network, lock)
            directory.path.mkdir()
            return directory, bridge

    def release(self) -> None:
        """Remove every trace of the machine; what still runs in it is ended."""
        _empty(self._network)
        with cache.locked(_machines() / ".lock"):
            network.sweep(self._network)
            _lock_file(self._network).unlink(missing_ok=True)
            self._lock.close()


def sweep() -> tuple[str, ...]:
    """Take away machines whose owner is dead; returns their names."""
    with cache.locked(_machines() / ".lock"):
        return _sweep_all()


def _sweep_all() -> tuple[str, ...]:
    return tuple(path.stem for path in sorted(_machines().glob("er-*.lock")) if _sweep_one(path))


def _sweep_one(path: Path) -> bool:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        machine = Network(int(path.stem.removeprefix("er-")))
        _empty(machine)
        network.sweep(machine)
        path.unlink()
        return True


def _empty(machine: Network) -> None:
    """End what runs in it and remove its files. Its network goes last: from then on another machine may be this one."""
    namespaces.end_group(machine.id)
    for path in (_machines() / machine.id, *power.leftovers(machine.id)):
        if path.is_dir():
            shutil.rmtree(path)


def _machines() -> Path:
    return cache.root() / "machines"


def _lock_file(machine: Network) -> Path:
    return _machines() / f"{machine.id}.lock"


# Podman's overlay cannot lie on an overlay, so these are ordinary directories of this machine's.
REAL_DIRECTORIES: Final = ("/home", "/var/lib/containers", "/var/lib/easyrunner")


@dataclass(frozen=True, slots=True)
class Disk:
    """A machine's disk: a throw-away overlay on a shared tree, and real directories where containers are kept.

    Or a raw disk, which is written to and keeps what was written. `directory` is the machine's, on a real file system;
    `lower` is the tree below the overlay, or the raw disk.
    """

    directory: Path
    lower: Path

    @property
    def root(self) -> Path:
        """Where it is mounted, in the mount namespace of its machine."""
        return self.directory / "root"

    @property
    def real_directories(self) -> tuple[str, ...]:
        """The machine's paths that are ordinary directories here; a raw disk needs none, being one file system."""
        return () if self.lower.is_file() else REAL_DIRECTORIES

    def real_directory(self, path: str) -> Path:
        """Where one of them is on this machine."""
        return self.directory / "real" / path.lstrip("/").replace("/", "-")

    @property
    def binds(self) -> list[str]:
        """The options of systemd-nspawn for the real directories."""
        return [f"--bind={self.real_directory(path)}:{path}" for path in self.real_directories]

    def prepare(self) -> None:
        """Make the real directories, with what the tree has in them."""
        for path in self.real_directories:
            self.real_directory(path).mkdir(parents=True)
            original = self.lower / path.lstrip("/")
            if original.is_dir():
                process.run(["cp", "--archive", f"{original}/.", str(self.real_directory(path))])


class SecondDisk:
    """A raw file as a block device that a machine has beside its own disk. The file outlives the machine.

    The kernel takes the device away once nobody has it open or mounted, also when this process was killed.
    """

    def __init__(self, raw: Path) -> None:
        self.device = process.run(["losetup", "--find", "--show", str(raw)]).stdout.strip()
        self._open = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        process.run(["losetup", "--detach", self.device])

    def detach(self) -> None:
        """Take it away, once the machine has it no more."""
        os.close(self._open)

    @property
    def binds(self) -> list[str]:
        """The options of systemd-nspawn."""
        return [f"--bind={self.device}"]

    @property
    def lab_files(self) -> dict[str, bytes]:
        """What names it in a machine without udev."""
        return {"/etc/tmpfiles.d/lab-disk.conf": f"L+ {SECOND_DISK} - - - - {self.device}\n".encode()}


# Where a machine finds its second disk.
SECOND_DISK: Final = "/dev/disk/by-id/lab-data"


@dataclass(frozen=True, slots=True)
class Files:
    """The machine's files, running or not. `tree` is its root directory, without the real directories."""

    tree: Path
    disk: Disk

    def path(self, path: str) -> Path:
        """Where a file of the machine is on this machine.

        Raises ValueError for a symbolic link on the way: it would lead out of the machine.
        """
        real = next((real for real in self.disk.real_directories if path == real or path.startswith(f"{real}/")), None)
        found = self.disk.real_directory(real) if real else self.tree
        for name in path.removeprefix(real or "").strip("/").split("/"):
            if found.is_symlink():
                raise ValueError(f"{path}: a symbolic link on the way")
            found = found / name if name else found
        return found

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file, with the directories on the way."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)


# A line each: cloud-init's own ds-identify is a shell script and reads by line.
_DATASOURCE: Final = b"datasource_list: [NoCloud]\nnetwork: {config: disabled}\n"
_SEED: Final = "/var/lib/cloud/seed/nocloud"


def seed(user_data: bytes, *, instance: str, name: str) -> dict[str, tuple[bytes, int]]:
    """What a provider would pass: user-data and a name; the network is there already. Path -> content and mode."""
    meta = {"instance-id": instance, "local-hostname": name}
    return {
        f"{_SEED}/user-data": (user_data, 0o600),
        f"{_SEED}/meta-data": (_json(meta), 0o644),
        "/etc/cloud/cloud.cfg.d/99-lab.cfg": (_DATASOURCE, 0o644),
    }


def _json(value: Mapping[str, object]) -> bytes:
    """JSON is YAML to cloud-init."""
    return json.dumps(value).encode() + b"\n"


_NOT_IN_CONTAINERS: Final = b"[Unit]\nConditionVirtualization=!container\n"
# There is one audit for the whole kernel: its units cannot run in a container.
_AUDIT: Final = ("auditd.service", "audit-rules.service")
# What a whole disk starts for its root and its network; a container has both from the first moment on.
_ROOT_AND_NETWORK: Final = ("systemd-remount-fs.service", "systemd-networkd-wait-online.service")


def lab_files(resolver: str | None, *, pids: bool, disk: bool = False) -> dict[str, bytes]:
    """The files that only the lab needs, by path.

    Its resolver; drop-ins for units that a container cannot or need not have, of which a whole `disk` has more; and no
    limit of processes where this machine has no controller `pids` to count them.
    """
    dns = f"[Resolve]\n{f'DNS={resolver}' if resolver else ''}\nLLMNR=no\nMulticastDNS=no\n"
    unlimited = {"/etc/containers/containers.conf.d/00-lab.conf": b"[containers]\npids_limit = 0\n"}
    units = (*_AUDIT, *(_ROOT_AND_NETWORK if disk else ()))
    files = {"/etc/systemd/resolved.conf.d/50-lab.conf": dns.encode()} | ({} if pids else unlimited)
    return files | {f"/etc/systemd/system/{unit}.d/00-lab.conf": _NOT_IN_CONTAINERS for unit in units}
