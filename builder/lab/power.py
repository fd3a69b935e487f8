"""A machine switched on by systemd-nspawn, shut down in order, or cut off."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.polling import until
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.lab.namespaces import MountNamespace
    from builder.lab.network import Bridge


# Seconds that a shutdown may take: systemd itself waits for 90 for what does not end.
SHUTDOWN: Final = 180
_POWEROFF: Final = signal.SIGRTMIN + 4  # systemd(1): starts poweroff.target
GROUP: Final = "machine"


class Power:
    """Starts and ends the processes of one machine; its console goes to a file, all boots in one."""

    def __init__(
        self,
        mounts: MountNamespace,
        bridge: Bridge,
        directory: Path,
        binds: Sequence[str],
        *,
        internet: bool,
        init: Sequence[str] = ("--boot",),
    ) -> None:
        self.console: Path = directory / "console"
        self._mounts = mounts
        self._bridge = bridge
        self._directory = directory
        self._binds = binds
        self._internet = internet
        self._init = init
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self.console.touch()

    @property
    def id(self) -> str:
        """The machine's name."""
        return self._bridge.network.id

    @property
    def leader(self) -> int:
        """The process id of the machine's first process on this machine. Raises UserError when it is off."""
        if self._leader is None:
            raise UserError(f"{self.id} is off")
        return self._leader

    @property
    def on(self) -> bool:
        """Whether it was switched on and has not ended by itself."""
        return self._nspawn is not None and self._nspawn.poll() is None

    def boot(self) -> None:
        """Switch on; returns when the first process lives."""
        if self._nspawn is not None:
            raise UserError(f"{self.id} is on already")
        self._mounts.remove_group(GROUP)
        self._bridge.plug_in(self._mounts, internet=self._internet)
        argv = nspawn_argv(self.id, self._directory / "root", self.id, self._binds, self._init)
        env = os.environ | ENVIRONMENT
        with self.console.open("ab") as console:
            out = console.fileno()
            self._nspawn = self._mounts.start(argv, group=GROUP, stdout=out, stderr=subprocess.STDOUT, env=env)
        self._leader = until(self._first_process, timeout=20, what=f"{self.id} to power on")

    def _first_process(self) -> int | None:
        if not self.on:
            raise UserError(f"{self.id} did not start", self._last_words())
        return leader(self._running.pid)

    def _last_words(self) -> str:
        return self.console.read_text(errors="replace")[-800:].strip()

    def off(self, timeout: float) -> None:
        """Shut down in order."""
        os.kill(self.leader, _POWEROFF)
        try:
            self._running.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"{self.id} did not shut down in {timeout:.0f} s", self._last_words()) from None
        self._after()

    def cut(self) -> None:
        """Every process is gone at once."""
        os.kill(self.leader, signal.SIGKILL)
        self._running.kill()
        self._running.wait()
        self._after()

    def reap(self) -> None:
        """Note that the machine is off, when its control group was killed."""
        if self._nspawn is not None:
            self._nspawn.wait()
        self._nspawn = self._leader = None

    def _after(self) -> None:
        self.reap()
        self._bridge.unplug()

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._nspawn is None:
            raise UserError(f"{self.id} is off")
        return self._nspawn


# crun sets net.ipv4.ping_group_range, so the network's part of /proc/sys must be writable; the lab has its own locks.
ENVIRONMENT: Final = {
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",
    "SYSTEMD_NSPAWN_LOCK": "0",
}
_DEVICES: Final = ("/dev/net/tun", "/dev/fuse")
_LEFTOVERS: Final = ("propagate", "unix-export")


def nspawn_argv(
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
