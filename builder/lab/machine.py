"""A real host: powered on from user-data, used, attacked, cut off, powered on again; nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from builder import process
from builder.lab import inside, nspawn
from builder.lab.disk import Disk, Files
from builder.lab.keeper import Keeper
from builder.lab.polling import until
from builder.lab.slots import Slot
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from builder.lab.net import Namespace
    from builder.lab.preload import Preload

T = TypeVar("T")
_POWER_BUTTON: Final = signal.SIGRTMIN + 4  # what systemd as first process takes it for
_GROUP: Final = "machine"
# Commands from outside run in a group of their own inside the machine, as a service's would.
_VISITORS: Final = f"{_GROUP}/payload/system.slice/lab.service"


class Machine:
    """A machine on a shared tree. A context manager: entered, it is laid out but off; the end takes everything away.

    `extra_files` are lab-only files by their path on the machine; `preloads` are images its users have before power-on.
    """

    def __init__(
        self,
        tree: Path,
        user_data: bytes = b"#cloud-config\n{}\n",
        *,
        name: str = "er-lab",
        extra_files: Mapping[str, bytes] | None = None,
        preloads: Iterable[Preload] = (),
        internet: bool = True,
    ) -> None:
        self.tree = tree
        self.user_data = user_data
        self.name = name
        self._extra_files = dict(extra_files or {})
        self._preloads = tuple(preloads)
        self._internet = internet
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader: int | None = None
        self._keeper: Keeper | None = None

    def __enter__(self) -> Self:
        self._slot, self._world = Slot.take()
        try:
            self._lay_out()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _lay_out(self) -> None:
        self.disk = Disk(self._slot.directory, self.tree)
        self.disk.prepare()
        self._keeper = Keeper(self.id, self.tree, self.disk.directory)
        for preload in self._preloads:
            preload.copy_to(self.disk)
        self.files.seed(self.user_data, instance=f"i-{uuid.uuid4().hex[:16]}", name=self.name)
        for path, content in (self._lab_files(self._keeper) | self._extra_files).items():
            self.files.write(path, content)

    def _lab_files(self, keeper: Keeper) -> dict[str, bytes]:
        resolver = f"[Resolve]\nDNS={self._world.plan.resolver}\nLLMNR=no\nMulticastDNS=no\n"
        files = {"/etc/systemd/resolved.conf.d/50-lab.conf": resolver.encode()}
        if "pids" not in keeper.controllers:
            files["/etc/containers/containers.conf.d/00-lab.conf"] = b"[containers]\npids_limit = 0\n"
        return files

    # What it is called and where it is.

    @property
    def id(self) -> str:
        """The name that its namespaces, group and directory carry on this machine."""
        return self._world.plan.id

    @property
    def place(self) -> Namespace:
        """The machine's own namespace, with its addresses."""
        return self._world.plan.machine

    @property
    def ipv4(self) -> str:
        """Where this machine and the attackers reach it."""
        return self.place.ipv4

    @property
    def ipv6(self) -> str:
        """Where this machine and the attackers reach it."""
        return self.place.ipv6

    @property
    def gateway(self) -> Namespace:
        """This machine's own end of the bridge: the source address of what is run here without an attacker."""
        return self._world.plan.root

    def attacker(self, number: int = 0) -> Namespace:
        """Another host on the machine's network, made on first use."""
        return self._world.attacker(number)

    @property
    def files(self) -> Files:
        """Its files, whether it is on or off; not what is mounted inside it, such as /run."""
        return Files(self._kept.tree, self.disk)

    def path(self, path: str) -> Path:
        """A file of the running machine as its own processes see it, /run and /proc too."""
        return Path(f"/proc/{self.leader}/root") / path.lstrip("/")

    @property
    def console(self) -> Path:
        """Everything its console said since it was laid out, all boots in one file."""
        return self.disk.directory / "console"

    def console_text(self) -> str:
        """What the console said, as text."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    # Power.

    def boot(self) -> None:
        """Press the power button; returns when its first process lives. Use `wait` for more."""
        if self._nspawn is not None:
            raise UserError(f"{self.id} is on already")
        self._kept.remove_group(_GROUP)
        self._world.plug_in(self._kept, internet=self._internet)
        argv = nspawn.argv(self.id, self.disk.directory / "root", self.place.name, self.disk.binds)
        with self.console.open("ab") as console:
            self._nspawn = self._kept.start(
                argv, group=_GROUP, stdout=console.fileno(), stderr=subprocess.STDOUT, env=os.environ | nspawn.ENVIRONMENT
            )
        self._leader = until(self._first_process, timeout=20, what=f"{self.id} to power on")

    def _first_process(self) -> int | None:
        if self._nspawn is not None and self._nspawn.poll() is not None:
            raise UserError(f"{self.id} did not start: {self.console_text()[-800:].strip()}")
        return nspawn.leader(self._nspawn.pid) if self._nspawn is not None else None

    def boot_and_wait(self, *, timeout: float = 120) -> None:
        """Power on, until cloud-init is done and nothing is left to start."""
        self.boot()
        self.wait(self.cloud_init_done, timeout=timeout, what="cloud-init")
        self.wait(self.started, timeout=timeout, what="every unit to start")

    def cloud_init_done(self) -> bool:
        """Whether cloud-init has written its result in this boot."""
        return self.path("/run/cloud-init/result.json").exists()

    def systemd_up(self) -> bool:
        """Whether the machine's systemd can be talked to."""
        return self.path("/run/systemd/private").exists()

    def started(self) -> bool:
        """Whether no unit is still starting; a failed one does not count as starting."""
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in {"running", "degraded"}

    def poweroff(self, *, timeout: float = 60) -> None:
        """Shut down in order. What is on the disk stays; the firewall, living in the network namespace, goes."""
        os.kill(self.leader, _POWER_BUTTON)
        try:
            self._running.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"{self.id} did not shut down in {timeout:.0f} s") from None
        self._off()

    def cut(self) -> None:
        """Cut the power: every process is gone at once."""
        os.kill(self.leader, signal.SIGKILL)
        self._running.kill()
        self._running.wait()
        self._off()

    def _off(self) -> None:
        self._nspawn = self._leader = None
        self._world.unplug()

    def reboot(self, *, timeout: float = 60) -> None:
        """Shut down in order and power on again."""
        self.poweroff(timeout=timeout)
        self.boot()

    @property
    def running(self) -> bool:
        """Whether the power is on and the machine has not ended by itself."""
        return self._nspawn is not None and self._nspawn.poll() is None

    def remove(self) -> None:
        """Take everything away, on or off. Safe to call twice."""
        if self._keeper is not None:
            self._keeper.end()
            self._keeper = None
        if self._nspawn is not None:
            self._nspawn.wait()
            self._nspawn = self._leader = None
        self._world.remove()
        self._slot.release()

    # Inside.

    @property
    def leader(self) -> int:
        """Its first process, as this machine numbers it."""
        if self._leader is None:
            raise UserError(f"{self.id} is off")
        return self._leader

    def argv(
        self, command: Sequence[str] | str, *, user: str = "root", env: Mapping[str, str] | None = None
    ) -> list[str]:
        """How to run `command` inside; text is a line for the machine's shell."""
        who = inside.ROOT if user == "root" else self.user(user)
        return self._kept.argv(inside.argv(self.leader, command, who, env or {}), group=_VISITORS)

    def user(self, name: str) -> inside.User:
        """A user of the running machine."""
        return inside.find_user(self.path("/etc/passwd").read_text(), name)

    def run(
        self,
        command: Sequence[str] | str,
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        stdin: bytes | None = None,
        timeout: float | None = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run inside, to the end; a failure raises when `check`."""
        return process.run(self.argv(command, user=user, env=env), stdin=stdin, timeout=timeout, check=check)

    def start(
        self, command: Sequence[str] | str, *, user: str = "root", stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start something inside that goes on; it ends with the machine."""
        return process.start(self.argv(command, user=user), stdout=stdout)

    def shell(self) -> str:
        """The command line that opens a shell inside, for a person."""
        return f"nsenter --target {self.leader} --all --wd=/ bash --login"

    def wait(self, condition: Callable[[], T], *, timeout: float = 60, what: str = "a condition") -> T:
        """Wait until `condition` returns something true; fails at once when the machine dies meanwhile."""

        def alive_and() -> T:
            if not self.running:
                raise UserError(f"{self.id} went off while waiting for {what}", self.console_text()[-2000:])
            return condition()

        return until(alive_and, timeout=timeout, what=what)

    def wait_console(self, text: str, *, timeout: float = 60) -> str:
        """Wait until the console says `text`; returns that line."""
        return self.wait(lambda: self._console_line(text), timeout=timeout, what=f"{text!r} on the console")

    def _console_line(self, text: str) -> str:
        return next((line for line in self.console_text().splitlines() if text in line), "")

    # Private.

    @property
    def _kept(self) -> Keeper:
        if self._keeper is None:
            raise UserError("the machine was taken away, or its `with` was not entered")
        return self._keeper

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._nspawn is None:
            raise UserError(f"{self.id} is off")
        return self._nspawn
