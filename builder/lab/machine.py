"""A real Debian host on this machine, booted by systemd-nspawn: powered on from user-data, used, cut off, booted again.

Nothing stays behind when the `with` ends.
"""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, Self, TypeVar

from builder import facts, process
from builder.lab.machine_directory import Disk, Files, MachineDirectory, SecondDisk, lab_files, seed
from builder.lab.namespaces import MountNamespace
from builder.lab.power import GROUP, SHUTDOWN, Power
from builder.polling import until
from builder.problems import UserError
from builder.process import shielded

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from builder.lab.network import Namespace, Network
    from builder.lab.preload import Preload
    from builder.lab.provider_machine import ProviderMachine

T = TypeVar("T")


class Machine:
    """A machine on a shared tree, and a context manager: entered, its disk and network are there but it is off.

    `tree` may also be a raw disk: that is the machine's then, with what it writes, and outlives it. Without `user_data`
    the disk is one that was used before. `instance` is cloud-init's id of this machine: a new one, if empty.
    `extra_files` are lab-only files by their path on the machine; `preloads` are images that its users have before
    power-on. With a `provider`, made for its network, it looks like a virtual machine of that provider: it has no
    seed, and its network card no addresses; the provider gives it both. `second` is a raw file: a disk beside its own,
    machine_directory.SECOND_DISK on the machine, which outlives it. `shared` are directories of this machine, by their
    path on that one, where they are mounted.
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
        provider: Callable[[Network], ProviderMachine] | None = None,
        instance: str = "",
        second: Path | None = None,
        shared: Mapping[str, Path] | None = None,
    ) -> None:
        self.tree = tree
        self.user_data = user_data
        self.name = name
        self._extra_files = dict(extra_files or {})
        self._preloads = tuple(preloads)
        self._internet = internet
        self._provider = provider
        self._instance = instance
        self._second_file = second
        self._shared = tuple(f"--bind={here}:{there}" for there, here in (shared or {}).items())
        self._second: SecondDisk | None = None
        self._lab_paths: list[str] = []
        self._directory: MachineDirectory | None = None
        self._mounts: MountNamespace | None = None
        self._power: Power | None = None

    def __enter__(self) -> Self:
        try:
            with shielded():
                self._directory, self._bridge = MachineDirectory.take()
            self._prepare(self._directory.path)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _prepare(self, directory: Path) -> None:
        self.disk = Disk(directory, self.tree)
        self.disk.prepare()
        self._mounts = MountNamespace(self.id, self.tree, directory)
        provider = self._provider(self.network) if self._provider else None
        init = provider.init if provider else ("--boot",)
        if self._second_file:
            self._second = SecondDisk(self._second_file)
        binds = [*self.disk.binds, *(self._second.binds if self._second else ()), *self._shared]
        self._power = Power(self._mounts, self._bridge, directory, binds, internet=self._internet, init=init)
        for preload in self._preloads:
            preload.copy_to(self.files)
        if provider:
            self._bridge.card = provider.card
            for path, (content, mode) in provider.image_files().items():
                self.files.write(path, content, mode)
        elif self.user_data is not None:
            self._write_seed(self.user_data)
        resolver = None if provider else self.network.resolver
        lab = lab_files(resolver, pids="pids" in self._mounts.controllers, disk=self.tree.is_file())
        lab |= self._second.lab_files if self._second else {}
        for path, content in (lab | self._extra_files).items():
            self._write_lab_file(path, content)

    def _write_seed(self, user_data: bytes) -> None:
        instance = self._instance or f"i-{uuid.uuid4().hex[:16]}"
        for path, (content, mode) in seed(user_data, instance=instance, name=self.name).items():
            self._write_lab_file(path, content, mode)

    def _write_lab_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file that only the lab needs, and note it with the directories that are made for it."""
        parents = [str(parent) for parent in PurePosixPath(path).parents]
        self._lab_paths += [path, *(parent for parent in parents if not self.files.path(parent).exists())]
        self.files.write(path, content, mode)

    def remove_lab_files(self) -> None:
        """Remove what only the lab needed from a machine that is off."""
        for path in (self.files.path(path) for path in self._lab_paths):
            if path.is_dir():
                with contextlib.suppress(OSError):
                    path.rmdir()  # The machine has put something of its own there.
            else:
                path.unlink(missing_ok=True)

    def eject(self) -> None:
        """Take the raw disk out of a machine that is off: whole, with holes for what is free, and no longer mounted."""
        for argv in (["fstrim", str(self.disk.root)], ["umount", str(self.disk.root)]):
            process.run(self.mounts.argv(argv, group="eject"))

    def remove(self) -> None:
        """Take everything away, on or off. Safe to call twice."""
        if self._directory is None:
            return
        with shielded():
            if self._mounts is not None:
                self._mounts.end()
            if self._power is not None:
                self._power.reap()
            if self._second is not None:
                self._second.detach()
            self._bridge.unplug()
            self._directory.release()
        self._directory = self._mounts = self._power = self._second = None

    # Its network, its files and its console.

    @property
    def network(self) -> Network:
        """Names and addresses of its network."""
        return self._bridge.network

    @property
    def id(self) -> str:
        """The name that its namespaces, control group and directory have on this machine."""
        return self.network.id

    @property
    def namespace(self) -> Namespace:
        """The machine's own network namespace, with its addresses."""
        return self.network.machine

    @property
    def ipv4(self) -> str:
        """Where this machine and the attackers reach it."""
        return self.namespace.ipv4

    @property
    def ipv6(self) -> str:
        """Where this machine and the attackers reach it."""
        return self.namespace.ipv6

    @property
    def gateway(self) -> Namespace:
        """This machine's own end of the bridge: where its own connections to the machine come from."""
        return self.network.gateway

    def attacker(self, number: int = 0) -> Namespace:
        """Another host on the machine's network, made on first use."""
        return self._bridge.attacker(number)

    @property
    def files(self) -> Files:
        """Its files, whether it is on or off; not what is mounted inside it, such as /run."""
        return Files(self.mounts.tree, self.disk)

    @property
    def console(self) -> Path:
        """The file with everything that its console said, all boots in one."""
        return self.power.console

    def console_text(self) -> str:
        """What the console said, as text."""
        return self.console.read_text(errors="replace")

    @property
    def mounts(self) -> MountNamespace:
        """The mount namespace and control group that it runs in."""
        return _entered(self._mounts)

    # Power.

    @property
    def power(self) -> Power:
        """The machine's power button."""
        return _entered(self._power)

    @property
    def leader(self) -> int:
        """The process id of its first process on this machine."""
        return self.power.leader

    @property
    def running(self) -> bool:
        """Whether the power is on and the machine has not ended by itself."""
        return self.power.on

    def boot(self) -> None:
        """Switch on; returns when its first process lives. Use `wait` for more."""
        self.power.boot()

    def boot_and_wait(self, *, timeout: float = 120) -> None:
        """Switch on, and wait until cloud-init is done and nothing is left to start."""
        self.boot()
        self.wait(self.cloud_init_done, timeout=timeout, what="cloud-init")
        self.wait(self.started, timeout=timeout, what="every unit to start")

    def poweroff(self, *, timeout: float = SHUTDOWN) -> None:
        """Shut down in order. The disk stays; the firewall, living in the network namespace, goes."""
        self.power.off(timeout)

    def reboot(self, *, timeout: float = SHUTDOWN) -> None:
        """Shut down in order and switch on again."""
        self.poweroff(timeout=timeout)
        self.boot()

    def cut(self) -> None:
        """Cut the power: every process is gone at once. What was written stays, synced or not."""
        self.power.cut()

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

    # Commands and files of a machine that is on.

    def path(self, path: str) -> Path:
        """A file of the running machine as its own processes see it, /run and /proc too."""
        return Path(f"/proc/{self.leader}/root") / path.lstrip("/")

    def user(self, name: str) -> User:
        """A user of the running machine."""
        return find_user(self.path("/etc/passwd").read_text(), name)

    def argv(
        self, command: Sequence[str] | str, *, user: str = "root", env: Mapping[str, str] | None = None
    ) -> list[str]:
        """How to run `command` in the machine; text is a line for the machine's shell."""
        who = ROOT if user == "root" else self.user(user)
        return self.mounts.argv(nsenter_argv(self.leader, command, who, env or {}), group=_COMMANDS_GROUP)

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
        """Run a command in the machine, to its end; a failure raises CommandError when `check`."""
        return process.run(self.argv(command, user=user, env=env), stdin=stdin, timeout=timeout, check=check)

    def start(
        self, command: Sequence[str] | str, *, user: str = "root", stdout: int | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program in the machine that goes on; it ends with the machine."""
        return process.start(self.argv(command, user=user), stdout=stdout)

    def shell(self) -> str:
        """The command line that opens a shell in the machine, for a person."""
        return f"nsenter --target {self.leader} --all --wd=/ bash --login"


def _entered(value: T | None) -> T:
    if value is None:
        raise UserError("the machine was taken away, or its `with` was not entered")
    return value


# Commands run in a control group of their own below the machine's, as a service's would.
_COMMANDS_GROUP: Final = f"{GROUP}/payload/system.slice/lab.service"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the machine."""

    name: str
    uid: int
    gid: int
    home: str


ROOT: Final = User("root", 0, 0, "/root")


def find_user(passwd: str, name: str) -> User:
    """The user of this name in the text of the machine's /etc/passwd. Raises UserError when there is none."""
    for line in passwd.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) >= 6:
            return User(name, int(fields[2]), int(fields[3]), fields[5])
    raise UserError(f"the machine has no user {name}")


def nsenter_argv(leader: int, command: Sequence[str] | str, user: User, environment: Mapping[str, str]) -> list[str]:
    """How to run `command` in the machine whose first process is `leader`; text is a line for its shell."""
    variables = _environment(user) | dict(environment)
    enter = ["nsenter", "--target", str(leader), "--all", "--", "env", "--ignore-environment"]
    change = ["setpriv", f"--reuid={user.uid}", f"--regid={user.gid}", "--init-groups"] if user.uid else []
    words = ["sh", "-c", command] if isinstance(command, str) else list(command)
    # The directory first: nsenter leaves the program in a directory that the machine does not have.
    at_home = ["sh", "-c", 'cd "$HOME" 2>/dev/null || cd /; exec "$@"', "sh"]
    return [*enter, *(f"{key}={value}" for key, value in variables.items()), *change, *at_home, *words]


def _environment(user: User) -> dict[str, str]:
    bus = f"/run/user/{user.uid}"
    own = {"XDG_RUNTIME_DIR": bus, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={bus}/bus"} if user.uid else {}
    if user.uid > facts.UID_BASE:
        own["XDG_CONFIG_HOME"] = f"{facts.CONFIG}/{user.uid}"
    return {
        "PATH": _PATH,
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
        "LANG": "C.UTF-8",
    } | own
