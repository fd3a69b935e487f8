"""What an app that has been taken over tries in its container, beside the network: rights, files, kernel, neighbours.

As a program, inside the container: writes {attempt: outcome} as JSON, where an outcome is `done` or the name of the
error; with the word `protocols`, those. Knows nothing of the project, needs only Python.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_libc = ctypes.CDLL(None, use_errno=True)
# x86_64 and arm64, as the kernel numbers them.
_CALLS = {
    "x86_64": {
        "clone": 56,
        "init_module": 175,
        "finit_module": 313,
        "kexec_load": 246,
        "bpf": 321,
        "perf_event_open": 298,
    },
    "aarch64": {
        "clone": 220,
        "init_module": 105,
        "finit_module": 273,
        "kexec_load": 104,
        "bpf": 280,
        "perf_event_open": 241,
    },
}[platform.machine()]
_NEWUSER, _NEWNET, _BIND, _REMOUNT = 0x1000_0000, 0x4000_0000, 4096, 32
_SET_RULES, _RAW_LINK = 64, 0x0300


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def _call(name: str, *words: object) -> Callable[[], None]:
    """A function of libc, or where that has none, of the kernel."""
    number = _CALLS.get(name)
    return lambda: _checked(getattr(_libc, name)(*words) if number is None else _libc.syscall(number, *words))


def _socket(family: int, kind: int, protocol: int) -> Callable[[], None]:
    return lambda: socket.socket(family, kind, protocol).close()


def _write(path: str, text: str = "1") -> Callable[[], None]:
    def write() -> None:
        with open(path, "w") as file:  # noqa: PTH123
            file.write(text)

    return write


def _read(path: str) -> Callable[[], None]:
    def read() -> None:
        with open(path, "rb") as file:  # noqa: PTH123
            if not file.read(64):
                raise OSError(errno.ENODATA, "")  # something empty lies over it

    return read


def _execute(directory: str) -> Callable[[], None]:
    """A program that the app has brought along."""

    def execute() -> None:
        program = Path(directory, "busybox")
        shutil.copy("/bin/busybox", program)
        program.chmod(0o4755)
        subprocess.run([program, "true"], check=True)

    return execute


def _rules() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.setsockopt(socket.IPPROTO_IP, _SET_RULES, bytes(100))


def _gain() -> None:
    """Root's rights by a setuid program of the image: what the kernel then allows must be no more than before."""
    text = Path("/proc/self/status").read_text()
    values = dict(line.split(":\t") for line in text.splitlines() if ":\t" in line)
    if values["NoNewPrivs"] != "0" and int(values["CapBnd"], 16) == 0:
        raise OSError(errno.EPERM, "")


def _clone() -> None:
    """What starts a child starts it in a namespace of its own."""
    child = _libc.syscall(_CALLS["clone"], _NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if child == 0:
        os._exit(0)
    _checked(child)
    os.waitpid(child, 0)


def _foreign_process() -> None:
    """What keeps this container, or the host: a process that is not of the container."""
    programs = [path.read_bytes().split(b"\0")[0] for path in Path("/proc").glob("[0-9]*/cmdline")]
    if not any(name in program for program in programs for name in (b"conmon", b"pasta", b"systemd", b"sshd")):
        raise OSError(errno.ESRCH, "")


def _missing(path: str) -> None:
    Path(path).stat()


ATTEMPTS: dict[str, Callable[[], None]] = {
    "raw socket, ICMP": _socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "raw socket, ICMPv6": _socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
    "raw socket, TCP with a forged header": _socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
    "packet socket, the wire itself": _socket(socket.AF_PACKET, socket.SOCK_RAW, _RAW_LINK),
    "rules of a firewall of its own": _rules,
    "run a program from /tmp, setuid": _execute("/tmp"),
    "run a program from /var/tmp, setuid": _execute("/var/tmp"),
    "run a program from /dev/shm, setuid": _execute("/dev/shm"),
    "gain rights by a setuid program": _gain,
    "another user's id": lambda: os.setuid(33),
    "give a file to another user": lambda: os.chown("/srv", 33, 33),
    "a device node of the host's disk": lambda: os.mknod("/srv/disk", 0o60600, os.makedev(8, 0)),
    "mount a file system": _call("mount", b"tmpfs", b"/srv", b"tmpfs", 0, None),
    "make /tmp executable": _call("mount", b"none", b"/tmp", None, _REMOUNT | _BIND, None),
    "a user namespace with all rights": lambda: _checked(_libc.unshare(_NEWUSER)),
    "a user namespace, by clone": _clone,
    "a network of its own": lambda: _checked(_libc.unshare(_NEWNET)),
    "chroot": lambda: os.chroot("/srv"),
    "see a process outside the container": _foreign_process,
    "load a kernel module": _call("init_module", bytes(64), 64, b""),
    "load a kernel module from a file": _call("finit_module", 0, b"", 0),
    "another kernel (kexec)": _call("kexec_load", 0, 0, None, 0),
    "a BPF program": _call("bpf", 5, bytes(128), 128),
    "watch the processor (perf)": _call("perf_event_open", bytes(128), 0, -1, -1, 0),
    "reboot": _call("reboot", 0x0123_4567),
    "set the clock": lambda: time.clock_settime(time.CLOCK_REALTIME, time.time()),
    "set the host's name": lambda: socket.sethostname("mine"),
    "the system request key": _write("/proc/sysrq-trigger", "s"),
    "a handler for core dumps": _write("/proc/sys/kernel/core_pattern", "|/tmp/x"),
    "the kernel's memory": _read("/proc/kcore"),
    "the kernel's keys": _read("/proc/keys"),
    "the kernel's log": _read("/dev/kmsg"),
    "its own limits": _write("/sys/fs/cgroup/memory.max", "max"),
    "the host's systemd": lambda: socket.socket(socket.AF_UNIX).connect("/run/systemd/private"),
    "the host's message bus": lambda: socket.socket(socket.AF_UNIX).connect("/run/dbus/system_bus_socket"),
    "sockets of other stacks": lambda: _missing("/run/easyrunner/proxy"),
    "units of the host": _write("/etc/systemd/system/mine.service", "[Service]"),
}
# What answers these are modules that the kernel may load when it is asked: a test is one of that kernel.
PROTOCOLS: dict[str, Callable[[], None]] = {
    "SCTP": _socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    "DCCP": _socket(socket.AF_INET, 6, 33),
    "RDS": _socket(21, socket.SOCK_SEQPACKET, 0),
    "TIPC": _socket(socket.AF_TIPC, socket.SOCK_STREAM, 0),
    "the hypervisor (vsock)": _socket(socket.AF_VSOCK, socket.SOCK_STREAM, 0),
}


def outcome(attempt: Callable[[], None]) -> str:
    """`done`, or the name of the error; each is tried by a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, _tried(attempt).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as answer:
        return answer.read() or "killed"


def _tried(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except subprocess.CalledProcessError as error:
        return f"exit code {error.returncode}"
    return "done"


if __name__ == "__main__":
    wanted = PROTOCOLS if sys.argv[1:] == ["protocols"] else ATTEMPTS
    json.dump({name: outcome(attempt) for name, attempt in wanted.items()}, sys.stdout)
