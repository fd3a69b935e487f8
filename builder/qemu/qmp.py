"""QEMU's monitor protocol over a pair of pipes. Source: QEMU's docs/interop/qmp-spec.rst."""

from __future__ import annotations

import json
import os
import re
import select
import time
from typing import TYPE_CHECKING, Any, Final

from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping

_SECONDS: Final = 30
# A line of `info usernet`: protocol, handle, source address and port, destination address and port.
_FORWARD: Final = re.compile(r"TCP\[HOST_FORWARD\]\s+\S+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+(\d+)")


class EndedError(UserError):
    """There is nobody to talk to any more."""

    def __init__(self) -> None:
        super().__init__("QEMU has ended")


class Qmp:
    """One conversation; `reads` and `writes` are file descriptors, which stay the caller's."""

    def __init__(self, reads: int, writes: int) -> None:
        self._reads = reads
        self._writes = writes
        self._buffer = b""
        self._deadline = 0.0

    def greet(self) -> None:
        """Take QEMU's greeting and leave negotiation; commands are accepted from then on."""
        self._deadline = time.monotonic() + _SECONDS
        if "QMP" not in self._message():
            raise UserError("QEMU greeted in another way than QMP's")
        self.command("qmp_capabilities")

    def command(self, name: str, arguments: Mapping[str, object] | None = None) -> Any:
        """What the command returns. Raises UserError when QEMU refuses it, is silent or has ended."""
        self._deadline = time.monotonic() + _SECONDS
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
                raise UserError(f"QEMU did not answer in {_SECONDS} s")
            more = os.read(self._reads, 65536)
            if not more:
                raise EndedError
            self._buffer += more
        line, self._buffer = self._buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message


def forwards(text: str) -> dict[int, int]:
    """What QEMU's `info usernet` says of forwards."""
    return {int(there): int(here) for here, there in _FORWARD.findall(text)}
