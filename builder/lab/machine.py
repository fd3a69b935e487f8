"""A real host: powered on from user-data, used, attacked, cut off, powered on again; nothing stays behind."""

from __future__ import annotations

import contextlib
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Self, TypeVar

from builder import process
from builder.lab import power
from builder.lab.commands import Visits
from builder.lab.layers import Disk, Files, lab_files, seed
from builder.lab.namespaces import Keeper
from builder.lab.registry import Slot
from builder.polling import until
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from builder.lab.network import Namespace, Plan
    from builder.lab.preload import Preload
    from builder.lab.provider_machine import Guise

T = TypeVar("T")


class Machine(Visits):
    """A machine on a shared tree, and a context manager: entered, it is laid out but off.

    `tree` may also be a raw disk: that is the machine's then, with what it writes, and outlives it. Without `user_data`
    the disk is one that was used before. `instance` is cloud-init's id of this machine: a new one, if empty.
    `extra_files` are lab-only files by their path on the machine;
    `preloads` are images that its users have before power-on. In a `guise`, made for its network,
    it takes itself for a provider's server: it has no seed, and its card no addresses; a provider gives it both.
    """

    def __init__(
        self,
        tree: Path,
        user_data: bytes | None = b"#cloud-config\n{}\n",
        *,
        name: str = "er-lab",
        extra_files: Mapping[str, bytes] | None = None,
        preloads: Iterable[Preload] = (),
        internet: bool = True,
        guise: Callable[[Plan], Guise] | None = None,
        instance: str = "",
    ) -> None:
        self.tree = tree
        self.user_data = user_data
        self.name = name
        self._extra_files = dict(extra_files or {})
        self._preloads = tuple(preloads)
        self._internet = internet
        self._guise = guise
        self._instance = instance
        self._brought: list[str] = []
        self._slot: Slot | None = None
        self._keeper: Keeper | None = None
        self._power: power.Power | None = None

    def __enter__(self) -> Self:
        try:
            with shielded():
                self._slot, self._world = Slot.take()
            self._lay_out(self._slot)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _lay_out(self, slot: Slot) -> None:
        self.disk = Disk(slot.directory, self.tree)
        self.disk.prepare()
        self._keeper = Keeper(self.id, self.tree, self.disk.directory)
        guise = self._guise(self.plan) if self._guise else None
        init = guise.init if guise else ("--boot",)
        self._power = power.Power(self._keeper, self._world, self.disk, internet=self._internet, init=init)
        for preload in self._preloads:
            preload.copy_to(self.files)
        if guise:
            self._world.card = guise.card
            for path, (content, mode) in guise.written().items():
                self.files.write(path, content, mode)
        elif self.user_data is not None:
            instance = self._instance or f"i-{uuid.uuid4().hex[:16]}"
            for path, (content, mode) in seed(self.user_data, instance=instance, name=self.name).items():
                self._bring(path, content, mode)
        resolver = None if guise else self.plan.resolver
        lab = lab_files(resolver, pids="pids" in self._keeper.controllers, disk=self.tree.is_file())
        for path, content in (lab | self._extra_files).items():
            self._bring(path, content)

    def _bring(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Lay a file that only the lab needs, and note what was not there before."""
        parents = [str(parent) for parent in PurePosixPath(path).parents]
        self._brought += [path, *(parent for parent in parents if not self.files.path(parent).exists())]
        self.files.write(path, content, mode)

    def take_back(self) -> None:
        """Remove what only the lab needed from a machine that is off."""
        for path in (self.files.path(path) for path in self._brought):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()  # The machine has put something of its own there.
            else:
                path.unlink(missing_ok=True)

    def eject(self) -> None:
        """Take the raw disk out of a machine that is off: whole, with holes for what is free, and no longer mounted."""
        for argv in (["fstrim", str(self.disk.root)], ["umount", str(self.disk.root)]):
            process.run(self._kept.argv(argv, group="eject"))

    def remove(self) -> None:
        """Take everything away, on or off. Safe to call twice."""
        if self._slot is None:
            return
        with shielded():
            if self._keeper is not None:
                self._keeper.end()
            if self._power is not None:
                self._power.reap()
            self._world.remove()
            self._slot.release()
        self._slot = self._keeper = self._power = None

    # Where it is.

    @property
    def plan(self) -> Plan:
        """Names and addresses of its network."""
        return self._world.plan

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
        """This machine's own end of the bridge: where its own connections to the machine come from."""
        return self._world.plan.root

    def attacker(self, number: int = 0) -> Namespace:
        """Another host on the machine's network, made on first use."""
        return self._world.attacker(number)

    @property
    def files(self) -> Files:
        """Its files, whether it is on or off; not what is mounted inside it, such as /run."""
        return Files(self._kept.tree, self.disk)

    @property
    def console(self) -> Path:
        """Everything its console said since it was laid out, all boots in one file."""
        return self._button.console

    def console_text(self) -> str:
        """What the console said, as text."""
        return self.console.read_text(errors="replace")

    # Power.

    @property
    def _kept(self) -> Keeper:
        return _there(self._keeper)

    @property
    def _button(self) -> power.Power:
        return _there(self._power)

    @property
    def leader(self) -> int:
        """Its first process, as this machine numbers it."""
        return self._button.leader

    @property
    def running(self) -> bool:
        """Whether the power is on and the machine has not ended by itself."""
        return self._button.on

    def boot(self) -> None:
        """Press the power button; returns when its first process lives. Use `wait` for more."""
        self._button.boot()

    def boot_and_wait(self, *, timeout: float = 120) -> None:
        """Power on, until cloud-init is done and nothing is left to start."""
        self.boot()
        self.wait(self.cloud_init_done, timeout=timeout, what="cloud-init")
        self.wait(self.started, timeout=timeout, what="every unit to start")

    def poweroff(self, *, timeout: float = power.SHUTDOWN) -> None:
        """Shut down in order. The disk stays; the firewall, living in the network namespace, goes."""
        self._button.off(timeout)

    def reboot(self, *, timeout: float = power.SHUTDOWN) -> None:
        """Shut down in order and power on again."""
        self.poweroff(timeout=timeout)
        self.boot()

    def cut(self) -> None:
        """Cut the power: every process is gone at once. What was written stays, synced or not."""
        self._button.cut()

    # Conditions to wait for.

    def systemd_up(self) -> bool:
        """Whether the machine's systemd can be talked to."""
        return self.path("/run/systemd/private").exists()

    def cloud_init_done(self) -> bool:
        """Whether cloud-init has written its result in this boot."""
        return self.path("/run/cloud-init/result.json").exists()

    def started(self) -> bool:
        """Whether no unit is still starting; a failed one does not count as starting."""
        state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
        return state in {"running", "degraded"}

    def wait(self, condition: Callable[[], T], *, timeout: float = 60, what: str = "a condition") -> T:
        """Wait until `condition` returns something true; fails at once when the machine dies meanwhile."""

        def alive_and() -> T:
            if not self.running:
                raise UserError(f"{self.id} went off while waiting for {what}", self.console_text()[-2000:])
            return condition()

        return until(alive_and, timeout=timeout, what=what)

    def wait_console(self, text: str, *, timeout: float = 60, what: str | None = None) -> str:
        """Wait until the console says `text` in any boot so far; returns that line. `what` is for the error."""
        return self.wait(lambda: self._console_line(text), timeout=timeout, what=what or f"{text!r} on the console")

    def _console_line(self, text: str) -> str:
        return next((line for line in self.console_text().splitlines() if text in line), "")


def _there(part: T | None) -> T:
    if part is None:
        raise UserError("the machine was taken away, or its `with` was not entered")
    return part
