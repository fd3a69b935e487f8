"""A machine's disk: a throw-away layer over a shared tree, and real directories where containers are kept.

Or a raw disk, which is written to and keeps what was written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import process

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Podman's overlay cannot lie on an overlay, so these are ordinary directories of this machine's.
REAL: Final = ("/home", "/var/lib/containers", "/var/lib/easyrunner")
# A line each: cloud-init's own ds-identify is a shell script and reads by line.
_DATASOURCE: Final = b"datasource_list: [NoCloud]\nnetwork: {config: disabled}\n"
_NOT_HERE: Final = b"[Unit]\nConditionVirtualization=!container\n"
# There is one audit for all that share a kernel.
_NEVER: Final = ("auditd.service", "audit-rules.service")
# What a whole disk starts for its root and its network; a container has both from the first moment on.
_OF_A_DISK: Final = ("systemd-remount-fs.service", "systemd-networkd-wait-online.service")
_SEED: Final = "/var/lib/cloud/seed/nocloud"


@dataclass(frozen=True, slots=True)
class Disk:
    """`directory` is on a real file system; `lower` is the tree below, or the raw disk that it is."""

    directory: Path
    lower: Path

    @property
    def root(self) -> Path:
        """Where it is mounted, in the namespace of its machine."""
        return self.directory / "root"

    def top(self, path: str) -> Path:
        """Where one of the real directories is on this machine."""
        return self.directory / "real" / path.lstrip("/").replace("/", "-")

    @property
    def real(self) -> tuple[str, ...]:
        """The real directories; an image needs none, as its file system is one."""
        return () if self.lower.is_file() else REAL

    @property
    def binds(self) -> list[str]:
        """The real directories, as systemd-nspawn is told of them."""
        return [f"--bind={self.top(path)}:{path}" for path in self.real]

    def prepare(self) -> None:
        """Make the directories, with what the tree has in them."""
        for path in self.real:
            self.top(path).mkdir(parents=True)
            original = self.lower / path.lstrip("/")
            if original.is_dir():
                process.run(["cp", "--archive", f"{original}/.", str(self.top(path))])


@dataclass(frozen=True, slots=True)
class Files:
    """The machine's files, running or not. `tree` is its root directory, without the real directories."""

    tree: Path
    disk: Disk

    def path(self, path: str) -> Path:
        """Where a file of the machine is for this machine.

        A symbolic link on the way is refused: it would lead out of the machine.
        """
        top = next((top for top in self.disk.real if path == top or path.startswith(f"{top}/")), None)
        here = self.disk.top(top) if top else self.tree
        for part in path.removeprefix(top or "").strip("/").split("/"):
            if here.is_symlink():
                raise ValueError(f"{path}: a symbolic link on the way")
            here = here / part if part else here
        return here

    def write(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file, with the directories on the way."""
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(mode)


def seed(user_data: bytes, *, instance: str, name: str) -> dict[str, tuple[bytes, int]]:
    """What a provider would pass: user-data and a name; the network is there already. Path -> content and mode."""
    meta = {"instance-id": instance, "local-hostname": name}
    return {
        f"{_SEED}/user-data": (user_data, 0o600),
        f"{_SEED}/meta-data": (_json(meta), 0o644),
        "/etc/cloud/cloud.cfg.d/99-lab.cfg": (_DATASOURCE, 0o644),
    }


def lab_files(resolver: str | None, *, pids: bool, disk: bool = False) -> dict[str, bytes]:
    """What only the lab needs, by path.

    Its resolver; no units that a container cannot or need not have, of which a whole `disk` has more; and no limit of
    processes where this machine cannot count them.
    """
    dns = f"[Resolve]\n{f'DNS={resolver}' if resolver else ''}\nLLMNR=no\nMulticastDNS=no\n"
    unlimited = {"/etc/containers/containers.conf.d/00-lab.conf": b"[containers]\npids_limit = 0\n"}
    units = (*_NEVER, *(_OF_A_DISK if disk else ()))
    files = {"/etc/systemd/resolved.conf.d/50-lab.conf": dns.encode()} | ({} if pids else unlimited)
    return files | {f"/etc/systemd/system/{unit}.d/00-lab.conf": _NOT_HERE for unit in units}


def _json(value: Mapping[str, object]) -> bytes:
    """JSON is YAML to cloud-init."""
    return json.dumps(value).encode() + b"\n"
