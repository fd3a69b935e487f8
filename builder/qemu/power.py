"""The process of a virtual machine: started, talked to, ended; nobody else's."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Final

from builder import process
from builder.lab.signals import shielded
from builder.problems import UserError
from builder.qemu import hardware as hw
from builder.qemu.qmp import EndedError, Qmp

if TYPE_CHECKING:
    from pathlib import Path

    from builder.qemu.acceleration import Accelerator
    from builder.qemu.hardware import Hardware

# QEMU's RunState: what a machine does not come out of by itself.
_STOPPED: Final = ("io-error", "internal-error", "guest-panicked")
# How often the power button is pressed: a machine that is still starting does not feel it.
_AGAIN: Final = 5.0


class Power:
    """One machine's power. QEMU ends with this process, however that ends."""

    def __init__(self, hardware: Hardware, accelerator: Accelerator, log: Path) -> None:
        self.hardware = hardware
        self.accelerator = accelerator
        self._log = log
        self._qemu: subprocess.Popen[bytes] | None = None
        self._qmp: Qmp | None = None
        self.forwards: dict[int, int] = {}

    @property
    def on(self) -> bool:
        """Whether it was switched on and has not ended by itself."""
        return self._qemu is not None and self._qemu.poll() is None

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._running.pid

    @property
    def qmp(self) -> Qmp:
        """The monitor of a machine that is on."""
        if self._qmp is None:
            raise UserError("the virtual machine is off")
        return self._qmp

    def stopped(self) -> str:
        """Why QEMU holds the machine, which it does when a disk of this machine's is full; empty otherwise."""
        try:
            status = str(self.qmp.command("query-status")["status"])
        except EndedError:
            return ""  # Which `on` tells, at the latest when it is asked again.
        return status if status in _STOPPED else ""

    def boot(self) -> None:
        """Switch on; returns when QEMU runs the machine and the forwarded ports are known."""
        if self.on:
            raise UserError("the virtual machine is on already")
        self.cut()
        argv = [*_ends_with_us(), *hw.argv(self.hardware, self.accelerator)]
        with shielded(), self._log.open("wb") as log:
            pipe = subprocess.PIPE
            self._qemu = process.start(argv, stdin=pipe, stdout=pipe, stderr=log.fileno())
        try:
            self._greet(self._qemu)
        except UserError as error:
            self.cut()
            said = self._log.read_text(errors="replace").strip()
            raise UserError(f"QEMU did not start the machine: {said or error.message}") from error

    def _greet(self, qemu: subprocess.Popen[bytes]) -> None:
        if qemu.stdout is None or qemu.stdin is None:
            raise UserError("QEMU has no monitor")
        self._qmp = Qmp(qemu.stdout.fileno(), qemu.stdin.fileno())
        self._qmp.greet()
        self.forwards = self._qmp.forwards()

    def off(self, timeout: float) -> None:
        """Press the power button (ACPI), again where it was not felt, and wait for the end of the shutdown."""
        for _ in range(max(int(timeout // _AGAIN), 1)):
            self.qmp.command("system_powerdown")
            try:
                self._running.wait(_AGAIN)
            except subprocess.TimeoutExpired:
                continue
            self.cut()
            return
        raise UserError(f"the virtual machine did not shut down in {timeout:.0f} s")

    def cut(self) -> None:
        """The process is gone at once; what it had flushed stays. Safe when it is off."""
        with shielded():
            if self._qemu is not None:
                self._qemu.kill()
                self._qemu.wait()
                for stream in (self._qemu.stdin, self._qemu.stdout):
                    if stream is not None:
                        stream.close()
            self._qemu = self._qmp = None
            self.forwards = {}

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._qemu is None:
            raise UserError("the virtual machine is off")
        return self._qemu


def _ends_with_us() -> list[str]:
    """Linux ends QEMU with the thread that started it; elsewhere QEMU ends when its monitor is closed."""
    return ["setpriv", "--pdeathsig", "KILL"] if sys.platform == "linux" else []
