"""What an app that has been taken over tries in its container, beside the network: rights, files, kernel, neighbours.

As a program, inside the container: writes {attempt: outcome} as JSON, where an outcome is `done` or the name of the
error; with the word `protocols` or `capabilities`, those. Knows nothing of the project, needs only Python.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import resource
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
        "add_key": 248,
        "keyctl": 250,
        "io_uring_setup": 425,
        "pivot_root": 155,
    },
    "aarch64": {
        "clone": 220,
        "init_module": 105,
        "finit_module": 273,
        "kexec_load": 104,
        "bpf": 280,
        "perf_event_open": 241,
        "add_key": 217,
        "keyctl": 219,
        "io_uring_setup": 425,
        "pivot_root": 41,
    },
}[platform.machine()]
_NEWUSER, _NEWNET, _BIND, _REMOUNT = 0x1000_0000, 0x4000_0000, 4096, 32
_NEWNS, _NEWCGROUP, _NEWUTS, _NEWIPC, _NEWPID = 0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x2000_0000
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
    if values["NoNewPrivs"] == "1":
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


# What root's capabilities are for. All of it in a volume that the test has made: SHARED is open to everybody in the
# stack, `locked` is another user's in there, FILES are the stack's own from the host, read-only.
SHARED, FILES = Path("/srv/shared"), Path("/srv/files")
_OTHER, _OUTSIDE = 33, 70_000
_MINE = SHARED / f"of-{os.environ.get('NAME', 'nobody')}"


def _own(name: str, mode: int = 0o644) -> Path:
    """A file of its own, made now."""
    _MINE.mkdir(exist_ok=True)
    path = _MINE / name
    path.touch()
    path.chmod(mode)
    return path


def _chowned(uid: int) -> Callable[[], None]:
    return lambda: os.chown(_own(f"given-{uid}"), uid, uid)


def _owned_setuid() -> None:
    """A program that makes who runs it the owner, in a place that lasts."""
    program = _own("setuid")
    shutil.copy(sys.executable, program)
    program.chmod(0o6755)


def _run_setuid() -> None:
    """That program, as its user, made by root: whoever it is then, it must not be root."""
    said = subprocess.run(
        [SHARED / "of-web" / "setuid", "-S", "-c", "import os; print(os.geteuid())"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    if int(said.stdout) == os.getuid():
        raise OSError(errno.EPERM, "")


def _foreign_setgid() -> None:
    """The bit of a group that the process is not in, which the kernel takes away without CAP_FSETID."""
    path = _own("setgid")
    os.chown(path, -1, _OTHER)
    path.chmod(0o2755)
    if not path.stat().st_mode & 0o2000:
        raise OSError(errno.EPERM, "")


def _kill_another_users() -> None:
    child = os.fork()
    if child == 0:
        try:
            os.setuid(_OTHER)
        except OSError:
            os._exit(1)
        signal.pause()
    time.sleep(0.2)
    if os.waitpid(child, os.WNOHANG)[0]:
        raise OSError(errno.EPERM, "")
    os.kill(child, signal.SIGKILL)


def _bind_low() -> None:
    with socket.socket() as one:
        one.bind(("0.0.0.0", 81))


def _file_capability() -> None:
    """CAP_SETUID and whatever else, for whoever runs it: vfs_cap_data of capability.h."""
    value = bytes.fromhex("0100000280000000000000000000000000000000")
    os.setxattr(_own("capable", 0o755), "security.capability", value)


def _neighbours_process() -> None:
    """A process of another container of the same stack; what it runs is a word that nothing else says."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if b"424242" in path.read_bytes().split(b"\0"):
            return
    raise OSError(errno.ESRCH, "")


def _by_number() -> None:
    """By the number that it has on the host."""
    os.kill(int(os.environ["HOST_PID"]), 0)


def _attached() -> None:
    """ptrace(2) of a process that is not its child."""
    _checked(_libc.ptrace(16, int(os.environ["HOST_PID"]), None, None))


def _host_key() -> None:
    """A key of the same user, outside of the container: KEYCTL_SEARCH in the user's keyring."""
    _checked(_libc.syscall(_CALLS["keyctl"], 10, -4, b"user", b"of-the-host", 0))


def _other_key() -> None:
    """A key of its own, in the user's keyring, which the host could read: seen there or not, the test says."""
    _checked(_libc.syscall(_CALLS["add_key"], b"user", b"of-a-container", b"x", 1, -4))


def _by_handle() -> None:
    """A file by its number on the disk, wherever it is: struct file_handle, and the root of a disk is number 2."""
    handle = bytes.fromhex("0800000001000000" + "0200000000000000")
    _checked(_libc.open_by_handle_at(os.open(SHARED, os.O_RDONLY), handle, os.O_RDONLY))


def _another_mounts() -> None:
    with Path("/proc/1/ns/mnt").open() as file:
        _checked(_libc.setns(file.fileno(), _NEWNS))


def _raise_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard + 1))
    except ValueError as error:
        raise OSError(errno.EPERM, "") from error


CAPABILITIES: dict[str, Callable[[], None]] = {
    "give a file to another user": _chowned(_OTHER),
    "give a file to a user outside of the container": _chowned(_OUTSIDE),
    "another user's id": lambda: os.setuid(_OTHER),
    "root's id": lambda: os.setuid(0),
    "a user's id outside of the container": lambda: os.setuid(_OUTSIDE),
    "another group's id": lambda: os.setgid(_OTHER),
    "read what another user has locked": _read(str(SHARED / "locked")),
    "change what another user has locked": lambda: (SHARED / "locked").chmod(0o600),
    "the setgid bit of another group": _foreign_setgid,
    "a program that is setuid, in a volume": _owned_setuid,
    "run root's setuid program from the volume": _run_setuid,
    "a program with a file capability": _file_capability,
    "end a process of another user": _kill_another_users,
    "a port below 1024": _bind_low,
    "change a file that came with the stack": _write(str(FILES / "note")),
    "give away a file that came with the stack": lambda: os.chown(FILES / "note", _OTHER, _OTHER),
    "make what came with the stack writable": _call("mount", b"none", bytes(FILES), None, _REMOUNT | _BIND, None),
    "unmount what came with the stack": _call("umount2", bytes(FILES), 2),
    "mount the same again": _call("mount", bytes(SHARED), b"/tmp", None, _BIND, None),
    "a process of a neighbour container, by its name": _neighbours_process,
    "a process of the host, by its number": _by_number,
    "trace a process of the host": _attached,
    "a key of the stack's user": _host_key,
    "a key for the stack's user": _other_key,
    "a file by its number on the disk": _by_handle,
    "a null device": lambda: os.mknod(SHARED / "null", 0o20666, os.makedev(1, 3)),
    "a disk's device": lambda: os.mknod(SHARED / "disk", 0o60666, os.makedev(8, 0)),
    "mounts of its own": lambda: _checked(_libc.unshare(_NEWNS)),
    "processes of its own": lambda: _checked(_libc.unshare(_NEWPID)),
    "control groups of its own": lambda: _checked(_libc.unshare(_NEWCGROUP)),
    "a host name of its own": lambda: _checked(_libc.unshare(_NEWUTS)),
    "shared memory of its own": lambda: _checked(_libc.unshare(_NEWIPC)),
    "the mounts of the container's first process": _another_mounts,
    "another root (pivot_root)": lambda: _checked(_libc.syscall(_CALLS["pivot_root"], b".", b".")),
    "io_uring": lambda: _checked(_libc.syscall(_CALLS["io_uring_setup"], 1, bytes(120))),
    "more open files than its limit": _raise_limit,
    "to be scheduled first": lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)),
    "a better place than others": lambda: os.setpriority(os.PRIO_PROCESS, 0, -5),
    "to be spared when memory runs out": _write("/proc/self/oom_score_adj", "-900"),
    "a setting of the kernel": _write("/proc/sys/kernel/dmesg_restrict", "0"),
    "a setting of the kernel's memory": _write("/proc/sys/vm/overcommit_memory", "1"),
    "a file of /sys": _write("/sys/kernel/uevent_helper", "/tmp/x"),
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
    sets = {"": ATTEMPTS, "protocols": PROTOCOLS, "capabilities": CAPABILITIES}
    wanted = sets[" ".join(sys.argv[1:])]
    json.dump({name: outcome(attempt) for name, attempt in wanted.items()}, sys.stdout)
