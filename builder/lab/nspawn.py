"""How systemd-nspawn is called so that cloud-init, rootless Podman, iptables and Fail2Ban are all real."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

# crun sets net.ipv4.ping_group_range, so the network's part of /proc/sys must be writable; the lab has own locks.
ENVIRONMENT: Final = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    "SYSTEMD_NSPAWN_LOCK": "0",
}
_DEVICES: Final = ("/dev/net/tun", "/dev/fuse")
_LEFTOVERS: Final = ("propagate", "unix-export")


def argv(
    name: str, directory: Path, namespace: str, binds: Sequence[str], init: Sequence[str] = ("--boot",)
) -> list[str]:
    """Boot `directory`; nothing is registered with this machine's own systemd. `init` is another first process."""
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={directory}",
        f"--machine={name}",
        "--register=no",
        "--keep-unit",
        "--capability=all",
        "--system-call-filter=@keyring bpf add_key keyctl",
        *(f"--bind={device}" for device in _DEVICES),
        *binds,
        "--resolv-conf=off",
        "--link-journal=no",
        "--timezone=off",
        f"--network-namespace-path=/run/netns/{namespace}",
        "--console=read-only",
        *init,
    ]


def leader(nspawn: int) -> int | None:
    """The machine's first process: the child that is number 1 in a namespace of its own."""
    try:
        children = Path(f"/proc/{nspawn}/task/{nspawn}/children").read_text().split()
        return next((int(child) for child in children if _is_first(child)), None)
    except (FileNotFoundError, ProcessLookupError):
        # Children come and go while nspawn sets up; one may end between its name and its status.
        return None


def _is_first(pid: str) -> bool:
    status = Path("/proc", pid, "status").read_text()
    numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
    return len(numbers) > 1 and numbers[-1] == "1"


def leftovers(name: str) -> list[Path]:
    """Directories that nspawn makes in /run and leaves there."""
    return [path for kind in _LEFTOVERS if (path := Path("/run/systemd/nspawn", kind, name)).is_dir()]
