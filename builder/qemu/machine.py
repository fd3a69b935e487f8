"""A virtual machine on a throw-away overlay of an image: switched on, asked, cut off, switched on again."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import tempfile
import uuid
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from builder import process
from builder.disk import image_file as images
from builder.disk import kernel
from builder.lab import trial
from builder.localhost import cache, requirements
from builder.polling import until
from builder.problems import UserError
from builder.process import shielded
from builder.qemu import acceleration, hardware, seed
from builder.qemu.acceleration import PROGRAM
from builder.qemu.hardware import Drive, Hardware
from builder.qemu.power import PANIC, Power

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import TextIOWrapper
    from types import TracebackType

    from builder.qemu.acceleration import Accelerator
    from builder.qemu.hardware import Firmware
    from builder.spec.model import Arch


T = TypeVar("T")
_PROGRAMS: Final = ("curl", "mcopy", "mformat", "qemu-img", "ssh", "ssh-keygen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one virtual machine. `user_data` None: no seed at all, as for another datasource.

    `size` makes the disk larger than the image, in bytes; `memory` is in MiB; `drives` are further ones, `network` and
    `extra` further options of QEMU (see Hardware); `accelerator` None takes the fastest that works, `cpus` None as many
    as are safe under it. `key` and `user` are for SSH.
    """

    arch: Arch = "amd64"
    firmware: Firmware = "bios"
    user_data: bytes | None = field(default=b"#cloud-config\n{}\n", repr=False)
    vendor_data: bytes | None = field(default=None, repr=False)
    name: str = "er-vm"
    size: int | None = None
    memory: int = 2048
    cpus: int | None = None
    forwards: tuple[int, ...] = (22, 443)
    internet: bool = True
    drives: tuple[Drive, ...] = ()
    network: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    accelerator: Accelerator | None = None
    key: Path | None = None
    user: str = "er"


class Vm:
    """A machine on an overlay of `image`, which stays untouched.

    A context manager: entered, the machine has its disks but is off.
    """

    def __init__(self, image: Path, settings: Settings | None = None) -> None:
        self.image = image.absolute()
        self.settings = settings or Settings()
        self.instance = f"i-{uuid.uuid4().hex[:16]}"
        self._directory: MachineDirectory | None = None
        self._power: Power | None = None

    def __enter__(self) -> Self:
        requirements.check_programs("a virtual machine", (*_PROGRAMS, PROGRAM[self.settings.arch]))
        try:
            with shielded():
                self._directory = MachineDirectory.take()
            self._power = self._prepare(self._directory.path)
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _prepare(self, directory: Path) -> Power:
        settings = self.settings
        disk = directory / "disk.qcow2"
        process.run(overlay_argv(self.image, images.format_of(self.image), disk, settings.size))
        drives = [Drive(disk, "qcow2", "root"), *self._seed(directory), *settings.drives]
        accelerator = settings.accelerator or acceleration.accelerator(
            settings.arch, partial(kernel, "debian-13", settings.arch)
        )
        hardware = Hardware(
            arch=settings.arch,
            drives=tuple(drives),
            console=directory / "console",
            memory=settings.memory,
            cpus=settings.cpus or acceleration.processors(settings.arch, accelerator),
            forwards=settings.forwards,
            internet=settings.internet,
            flash=self._flash(directory),
            network=settings.network,
            extra=settings.extra,
        )
        hardware.console.touch()
        return Power(hardware, accelerator, directory / "qemu.log")

    def _seed(self, directory: Path) -> list[Drive]:
        settings = self.settings
        if settings.user_data is None:
            return []
        content = seed.files(
            settings.user_data, instance=self.instance, name=settings.name, vendor_data=settings.vendor_data
        )
        seed.make(directory / "seed.img", content)
        return [Drive(directory / "seed.img", "raw", "seed", read_only=True)]

    def _flash(self, directory: Path) -> tuple[Path, Path] | None:
        """UEFI's variables are this machine's own; an ARM machine has no BIOS."""
        if self.settings.firmware == "bios" and self.settings.arch == "amd64":
            return None
        code, variables = hardware.find_firmware(self.settings.arch)
        shutil.copyfile(variables, directory / "variables.fd")
        return code, directory / "variables.fd"

    def remove(self) -> None:
        """Take everything away, on or off. Safe to call twice."""
        with shielded():
            if self._power is not None:
                self._power.cut()
            if self._directory is not None:
                self._directory.release()
            self._power = self._directory = None

    @property
    def disk(self) -> Path:
        """The overlay that takes all its writes, in qcow2."""
        return self.power.hardware.drives[0].file

    # Power.

    @property
    def power(self) -> Power:
        """The machine's power button and monitor."""
        if self._power is None:
            raise UserError("the virtual machine was taken away, or its `with` was not entered")
        return self._power

    @property
    def on(self) -> bool:
        """Whether it is on."""
        return self.power.on

    def boot(self) -> None:
        """Switch on; use `wait` for more."""
        self.power.boot()

    def poweroff(self, *, timeout: float = 120) -> None:
        """Shut down in order, by the power button."""
        self.power.off(timeout)

    def reboot(self, *, timeout: float = 120) -> None:
        """Shut down in order and switch on again: a cold second boot on the same disk."""
        self.poweroff(timeout=timeout)
        self.boot()

    def cut(self) -> None:
        """Cut the power. What the machine had flushed to its disk stays."""
        self.power.cut()

    # Its console, SSH and HTTPS.

    @property
    def console(self) -> Path:
        """Everything its serial console said, all boots in one file."""
        return self.power.hardware.console

    def console_text(self, since: int = 0) -> str:
        """The console as text, from byte `since` on."""
        return self.console.read_bytes()[since:].decode(errors="replace")

    def wait(self, condition: Callable[[], T], *, timeout: float, what: str) -> T:
        """Wait until `condition` returns something true; fails at once when the machine goes off."""

        def alive_and() -> T:
            if not self.on:
                raise UserError(f"the machine went off while waiting for {what}", self._end_of_console())
            if stopped := self.power.stopped():
                raise UserError(
                    f"the machine was stopped while waiting for {what}: {stopped}",
                    f"is the disk full that {cache.root()} is on?",
                )
            if PANIC in self.console_text():
                raise UserError(f"the machine's kernel crashed while waiting for {what}", self._end_of_console())
            return condition()

        try:
            return until(alive_and, timeout=timeout, what=what)
        except UserError as error:
            raise type(error)(error.message, error.hint or self._end_of_console()) from None

    def _end_of_console(self) -> str:
        lines = self.console_text().strip().splitlines()[-15:]
        return "\n  ".join(["the end of its console:", *(line.strip() for line in lines)])

    def wait_console(self, text: str, *, timeout: float, times: int = 1) -> None:
        """Wait until the console has said `text` so many times, all boots counted."""
        self.wait(lambda: self.console_text().count(text) >= times, timeout=timeout, what=f"{text!r} on the console")

    def port(self, guest_port: int) -> int:
        """The port on 127.0.0.1 that leads to the machine's port; another one after each boot."""
        return self.power.forwards[guest_port]

    def ssh_argv(self, *words: str) -> list[str]:
        """How a command line is run in it over SSH. Raises UserError when no key was given."""
        if self.settings.key is None:
            raise UserError("no SSH key was given for this machine")
        return ssh_argv(self.settings.key, self.settings.user, self.port(22), *words)

    def ssh(
        self, *words: str, stdin: bytes | None = None, timeout: float = 120, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line in it, to the end."""
        try:
            return process.run(self.ssh_argv(*words), stdin=stdin, timeout=timeout, check=check)
        except subprocess.TimeoutExpired:
            line = " ".join(words)
            raise UserError(f"no end in {timeout:.0f} s over SSH: {line}", self._end_of_console()) from None

    def wait_ssh(self, *, timeout: float) -> None:
        """Wait until a command can be run over SSH."""
        self.wait(lambda: self.ssh("true", check=False).returncode == 0, timeout=timeout, what="SSH to answer")

    def https_status(self, domain: str, ca: Path) -> int:
        """The status of the domain's front page; 0 for no answer, or one with a certificate that is not `ca`'s."""
        return trial.https_status(domain, "127.0.0.1", self.port(443), ca)

    def read(self, path: str) -> str:
        """A file of root's, as text, over SSH."""
        return self.ssh(f"sudo cat {path}").stdout

    def python(self, script: str, *, timeout: float) -> str:
        """What a Python program prints in the machine, over SSH."""
        return self.ssh("python3 -", stdin=script.encode(), timeout=timeout).stdout


def ssh_argv(key: Path, user: str, port: int, *words: str) -> list[str]:
    """Run a command line over SSH on 127.0.0.1. Host keys are made at first boot, so there is none to know yet."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "10",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "StrictHostKeyChecking": "no",
        "UserKnownHostsFile": "/dev/null",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "none", "-i", str(key), "-p", str(port), *given, f"{user}@127.0.0.1", *words]


def overlay_argv(image: Path, kind: images.Format, overlay: Path, size: int | None) -> list[str]:
    """An overlay that takes all writes; `size` in bytes, the image's own when None."""
    more = [str(size)] if size else []
    return ["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(image), str(overlay), *more]


_LOCK = "lock"


class MachineDirectory:
    """`path` is the machine's until `release` or the end of this process."""

    def __init__(self, path: Path, lock: TextIOWrapper) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def take(cls) -> Self:
        """A fresh directory, after sweeping those of dead runs."""
        top = cache.root() / "vms"
        with cache.locked(top / ".lock"):
            for old in top.glob("vm-*"):
                _sweep(old)
            directory = Path(tempfile.mkdtemp(prefix="vm-", dir=top))
            lock = (directory / _LOCK).open("w")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return cls(directory, lock)

    def release(self) -> None:
        """Remove the directory."""
        shutil.rmtree(self.path)
        self._lock.close()


def _sweep(directory: Path) -> None:
    lock = directory / _LOCK
    if lock.exists():
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
    shutil.rmtree(directory)
