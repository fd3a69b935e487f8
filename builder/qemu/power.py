"""QEMU's process: started, commanded over its monitor (QMP), ended."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

from builder import process
from builder.problems import UserError
from builder.process import shielded
from builder.qemu import hardware as hw

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from builder.qemu.acceleration import Accelerator
    from builder.qemu.hardware import Hardware


# QEMU's RunState: what a machine does not come out of by itself.
_STOPPED: Final = ("io-error", "internal-error", "guest-panicked")
# Seconds after which the power button is pressed again: a machine that is still starting ignores it.
_AGAIN: Final = 5.0


class Power:
    """The power of one machine. QEMU ends with this process, however that ends."""

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
        """The state in which QEMU has stopped the machine, as when this machine's disk is full; empty otherwise."""
        try:
            status = str(self.qmp.command("query-status")["status"])
        except EndedError:
            return ""  # `on` is false then.
        return status if status in _STOPPED else ""

    def boot(self) -> None:
        """Switch on; returns when QEMU runs the machine and the forwarded ports are known."""
        if self.on:
            raise UserError("the virtual machine is on already")
        self.cut()
        argv = [*_die_with_parent(), *hw.argv(self.hardware, self.accelerator)]
        with shielded(), self._log.open("wb") as log:
            pipe = subprocess.PIPE
            self._qemu = process.start(argv, stdin=pipe, stdout=pipe, stderr=log.fileno())
        try:
            self._connect(self._qemu)
        except UserError as error:
            self.cut()
            output = self._log.read_text(errors="replace").strip()
            raise UserError(f"QEMU did not start the machine: {output or error.message}") from error

    def _connect(self, qemu: subprocess.Popen[bytes]) -> None:
        if qemu.stdout is None or qemu.stdin is None:
            raise UserError("QEMU has no monitor")
        self._qmp = Qmp(qemu.stdout.fileno(), qemu.stdin.fileno())
        self._qmp.greet()
        self.forwards = self._qmp.forwards()

    def off(self, timeout: float) -> None:
        """Press the power button (ACPI), again where it was ignored, and wait for the end of the shutdown."""
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


def _die_with_parent() -> list[str]:
    """Linux ends QEMU with the thread that started it; elsewhere QEMU ends when its monitor is closed."""
    return ["setpriv", "--pdeathsig", "KILL"] if sys.platform == "linux" else []


_ANSWER_SECONDS: Final = 30
# A line of `info usernet`: protocol, handle, source address and port, destination address and port.
_FORWARD: Final = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


class EndedError(UserError):
    """QEMU ended, so its monitor does not answer any more."""

    def __init__(self) -> None:
        super().__init__("QEMU has ended")


class Qmp:
    """A connection to QEMU's monitor; `reads` and `writes` are file descriptors, which stay the caller's."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads = reads
        self._writes = writes
        self._buffer = b""
        self._deadline = 0.0

    def greet(self) -> None:
        """Take QEMU's greeting and leave negotiation; commands are accepted from then on."""
        self._deadline = time.monotonic() + _ANSWER_SECONDS
        if "QMP" not in self._message():
            raise UserError("QEMU greeted in another way than QMP's")
        self.command("qmp_capabilities")

    def command(self, name: str, arguments: Mapping[str, object] | None = None) -> Any:
        """What the command returns. Raises UserError when QEMU refuses it, is silent or has ended."""
        self._deadline = time.monotonic() + _ANSWER_SECONDS
        line = json.dumps({"execute": name, **({"arguments": arguments} if arguments else {})})
        try:
            os.write(self._writes, line.encode() + b"\n")
        except BrokenPipeError:
            raise EndedError from None
        while True:
            message = self._message()
            if "error" in message:
                raise UserError(f"QEMU refused {name}: {message['error'].get('desc')}")
            if "return" in message:
                return message["return"]

    def forwards(self) -> dict[int, int]:
        """The machine's port -> the port on this machine's 127.0.0.1."""
        return forwards(self.command("human-monitor-command", {"command-line": "info usernet"}))

    def _message(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            left = max(self._deadline - time.monotonic(), 0)
            if not select.select([self._reads], [], [], left)[0]:
                raise UserError(f"QEMU did not answer in {_ANSWER_SECONDS} s")
            more = os.read(self._reads, 65536)
            if not more:
                raise EndedError
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


def forwards(text: str) -> dict[int, int]:
    """The forwards in the output of QEMU's `info usernet`: the machine's port -> this machine's."""
    return {int(guest): int(host) for host, guest in _FORWARD.findall(text)}


# What Linux says last; after that it hangs.
PANIC: Final = "Kernel panic - not syncing"
# How long a machine with a processor of its own may take to its kernel's first words, in seconds. Some KVMs let every
# kernel hang; an emulated machine is not judged.
SILENCE: Final = 60.0
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;=?]*[A-Za-z]")
_FIRMWARE: Final = re.compile(r"^\s*(BdsDxe|UEFI|SeaBIOS|iPXE|Booting|GRUB)\b.*$", re.MULTILINE)


class SilentError(UserError):
    """The console of a machine has shown nothing of its kernel in time."""

    @classmethod
    def after(cls, seconds: float) -> Self:
        """After so many seconds."""
        what = f"the machine's console has said nothing for {seconds:.0f} s"
        return cls(f"{what}: its accelerator does not run a kernel", "--accelerator tcg")


def silent(text: str) -> bool:
    """Whether `text`, the console so far, is of the firmware alone."""
    return not _FIRMWARE.sub("", _ESCAPES.sub("", text)).strip("\0 \t\r\n")
