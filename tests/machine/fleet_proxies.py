"""Proxies of many hosts without the hosts: real Caddys with one storage, behind a balancer, with pebble as authority.

All of it stands on one bridge of the lab: each Caddy in a namespace of its own, haproxy and pebble in one where all
names lead to. haproxy does what a Network Load Balancer does: it passes TCP on, with a PROXY header of version 2.
"""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sysconfig
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import process
from builder.lab.network import Bridge
from builder.polling import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from builder.lab.network import Namespace

CADDY: Final = Path(sysconfig.get_path("scripts"), "caddy")
NAMES: Final = ("a.test", "b.test", "c.test", "d.test")
ACME: Final = "acme.test"
PORT: Final = 14000
_MANAGEMENT: Final = 15000
_DNS: Final = 8053
_MIDDLE: Final = 60
_CADDYFILE: Final = """{{
	admin off
	persist_config off
	auto_https disable_redirects
	storage file_system {storage}
	email a@b.test
	acme_ca https://{middle}:{port}/dir
	acme_ca_root {root}
	servers {{
		listener_wrappers {{
			proxy_protocol {{
				allow {middle}/32
			}}
			tls
		}}
	}}
	log default {{
		output file {log}
		format json {{
			time_format unix_seconds_float
		}}
	}}
}}
{names} {{
	respond "{number} {{client_ip}}"
}}
http:// {{
	redir https://{{host}}{{uri}} 308
}}
"""
_HAPROXY: Final = """global
	stats socket {socket} level admin
defaults
	mode tcp
	timeout connect 2s
	timeout client 1h
	timeout server 1h
	retries 3
	option redispatch 1
{source}
frontend http
	bind {middle}:80
	default_backend http
frontend https
	bind {middle}:443
	default_backend https
backend http
{http}
backend https
{https}
"""


def balancer(place: Namespace, targets: Iterable[str], directory: Path, source: str = "") -> subprocess.Popen[bytes]:
    """haproxy, at the addresses of a namespace; its targets get connections in turn, from the address `source`."""
    there = list(targets)
    lines = {
        name: "\n".join(f"\tserver s{index} {ip}:{port} send-proxy-v2" for index, ip in enumerate(there))
        for name, port in (("http", 80), ("https", 443))
    }
    file = directory / "haproxy.cfg"
    file.write_text(
        _HAPROXY.format(
            middle=place.ipv4, socket=directory / "haproxy.sock", source=f"\tsource {source}" if source else "", **lines
        )
    )
    return place.start(["haproxy", "-db", "-f", str(file)])


def told(directory: Path, *commands: str) -> str:
    """What haproxy answers to commands of its runtime API."""
    with socket.socket(socket.AF_UNIX) as line:
        line.connect(str(directory / "haproxy.sock"))
        line.sendall(("; ".join(commands) + "\n").encode())
        return b"".join(iter(lambda: line.recv(65536), b"")).decode()


@dataclass
class Authority:
    """pebble in a namespace; every name is at that namespace's own address. `slow`: a validation takes 15 seconds."""

    directory: Path
    slow: bool = False
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Of its own HTTPS."""
        return self.directory / "root.pem"

    @property
    def issued(self) -> Path:
        """The root of what it issues."""
        return self.directory / "issued.pem"

    def start(self, place: Namespace) -> None:
        """In a namespace, until it answers."""
        self.place = place
        file = self.directory / "pebble.json"
        settings = {
            "listenAddress": f"0.0.0.0:{PORT}",
            "managementListenAddress": f"0.0.0.0:{_MANAGEMENT}",
            "certificate": f"{self.directory}/leaf.pem",
            "privateKey": f"{self.directory}/leaf.key",
            "httpPort": 80,
            "tlsPort": 443,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
        }
        file.write_text(json.dumps({"pebble": settings}))
        names = ["pebble-challtestsrv", "-defaultIPv4", self.place.ipv4, "-defaultIPv6", "", "-dns01", f":{_DNS}"]
        names += ["-http01", "", "-https01", "", "-tlsalpn01", "", "-management", ":8055"]
        pace = ["PEBBLE_VA_SLEEPTIME=15"] if self.slow else ["PEBBLE_VA_NOSLEEP=1"]
        server = ["env", *pace, "PEBBLE_WFE_NONCEREJECT=0", "PEBBLE_AUTHZREUSE=0", "pebble", "-config", str(file)]
        with (self.directory / "pebble.log").open("wb") as log:
            said = self.place.start([*server, "-dnsserver", f"127.0.0.1:{_DNS}"], stdout=log.fileno())
        self.running += [self.place.start(names), said]
        until(self._up, timeout=60, what="pebble")

    def sign(self, address: str = "127.0.0.1") -> None:
        """Make its root, and the certificate of its own HTTPS; for whom no name leads here also for an address."""
        new = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]
        place = self.directory
        process.run([*new, "-subj", "/CN=test root", "-keyout", f"{place}/root.key", "-out", str(self.root)])
        leaf = ["-subj", "/CN=acme", "-addext", f"subjectAltName=DNS:{ACME},IP:{address}", "-addext"]
        signed = ["basicConstraints=CA:FALSE", "-CA", str(self.root), "-CAkey", f"{place}/root.key"]
        process.run([*new, *leaf, *signed, "-keyout", f"{place}/leaf.key", "-out", f"{place}/leaf.pem"])

    def _up(self) -> bool:
        words = ["curl", "-s", "--cacert", str(self.root), "--max-time", "5"]
        words += ["--connect-to", f"{ACME}:{_MANAGEMENT}:{self.place.ipv4}:{_MANAGEMENT}"]
        done = process.run([*words, f"https://{ACME}:{_MANAGEMENT}/roots/0"], check=False)
        self.issued.write_text(done.stdout)
        return "BEGIN CERTIFICATE" in done.stdout

    def count(self) -> tuple[int, int]:
        """Orders that it was given, and certificates that it issued."""
        text = (self.directory / "pebble.log").read_text(errors="replace")
        return len(set(re.findall(r'Added order "([^"]+)"', text))), len(re.findall("Issued certificate serial", text))

    def end(self) -> None:
        """And what belongs to it."""
        for each in self.running:
            each.kill()
            each.wait()


def serial(address: str, name: str, root: Path) -> str:
    """The serial number of the certificate that is shown there for a name; empty where there is none that holds."""
    try:
        context = ssl.create_default_context(cafile=str(root))
        with (
            socket.create_connection((address, 443), timeout=2) as plain,
            context.wrap_socket(plain, server_hostname=name) as line,
        ):
            return str((line.getpeercert() or {})["serialNumber"])
    except OSError:
        return ""


class Visitor:
    """Asks through the balancer, each time over a new connection, until its `with` ends."""

    def __init__(self, address: str, name: str, root: Path, interval: float = 0.1) -> None:
        self._address, self._name, self._interval = address, name, interval
        self._context = ssl.create_default_context(cafile=str(root))
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.good = 0
        self.bad: list[str] = []
        self.last = ""

    def __enter__(self) -> Visitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def running(self) -> bool:
        """Whether its `with` was entered and not left."""
        return self._thread.is_alive()

    def _answer(self) -> str:
        with (
            socket.create_connection((self._address, 443), timeout=10) as plain,
            self._context.wrap_socket(plain, server_hostname=self._name) as line,
        ):
            line.sendall(f"GET / HTTP/1.1\r\nHost: {self._name}\r\nConnection: close\r\n\r\n".encode())
            return b"".join(iter(lambda: line.recv(65536), b"")).decode()

    def _ask(self) -> None:
        while not self._end.wait(self._interval):
            try:
                answer = self._answer()
                self.good += answer.startswith("HTTP/1.1 200")
                self.bad += [] if answer.startswith("HTTP/1.1 200") else [answer]
                self.last = answer
            except OSError as error:
                self.bad.append(repr(error))


class Served:
    """A directory that a server shows at another place, as an NFS server does."""

    def __init__(self, tmp: Path) -> None:
        self._real, self.seen = tmp / "real", tmp / "seen"
        self._real.mkdir()
        self.seen.mkdir()
        self._start()

    def _start(self) -> None:
        self._server = process.start(["bindfs", "-f", "-o", "allow_other", str(self._real), str(self.seen)])
        mounted = ["mountpoint", "-q", str(self.seen)]
        until(lambda: process.run(mounted, check=False).returncode == 0, what="bindfs", timeout=20)

    @contextmanager
    def away(self, how: str) -> Iterator[None]:
        """Silent, as with `hard` in nfs(5), or gone: every call fails."""
        if how == "silent":
            self._server.send_signal(signal.SIGSTOP)
        else:
            self._server.kill()
            self._server.wait()
        yield
        if how == "silent":
            self._server.send_signal(signal.SIGCONT)
        else:
            process.run(["umount", "-l", str(self.seen)])
            self._start()

    def end(self) -> None:
        """Nothing hangs on it any more."""
        self._server.kill()
        self._server.wait()
        process.run(["umount", "-l", str(self.seen)], check=False)


@dataclass
class Proxies:
    """A context manager: `count` places for Caddys, none of which runs yet; `storage` is their directory."""

    directory: Path
    count: int
    slow: bool = False
    storage: Path | None = None
    running: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._stack = ExitStack()
        self._bridge = Bridge.make()
        self._stack.callback(self._bridge.remove)
        self.middle = self._bridge.attacker(_MIDDLE)
        self.places = [self._bridge.attacker(number) for number in range(self.count)]
        self.shared = self.storage or self.directory / "storage"
        self.shared.mkdir(exist_ok=True)
        self.authority = Authority(self.directory, self.slow)
        self.authority.sign(self.middle.ipv4)
        self._stack.callback(self.authority.end)
        self.authority.start(self.middle)
        haproxy = balancer(self.middle, [place.ipv4 for place in self.places], self.directory)
        until((self.directory / "haproxy.sock").exists, timeout=20, what="haproxy")
        self._stack.callback(haproxy.wait)
        self._stack.callback(haproxy.kill)
        self._stack.callback(lambda: [self.kill(number) for number in list(self.running)])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start(self, *numbers: int) -> float:
        """These Caddys, at once; the time."""
        for number in numbers:
            file = self.directory / f"Caddyfile.{number}"
            values = {"storage": self.shared, "middle": self.middle.ipv4, "port": PORT, "number": number}
            values |= {"root": self.authority.root, "log": self.log(number), "names": ", ".join(NAMES)}
            file.write_text(_CADDYFILE.format(**values))
        begun = time.monotonic()
        for number in numbers:
            words = [
                "env",
                f"HOME={self.directory}/home{number}",
                str(CADDY),
                "run",
                "--adapter",
                "caddyfile",
                "--config",
            ]
            words += [f"{self.directory}/Caddyfile.{number}"]
            self.running[number] = self.places[number].start(words, stdout=subprocess.DEVNULL)
        return begun

    def to_visitors(self, number: int, state: str) -> None:
        """Whether the balancer sends visitors there: ready, or maint."""
        told(self.directory, *(f"set server {name}/s{number} state {state}" for name in ("http", "https")))

    def kill(self, number: int) -> None:
        """As a cut of power does."""
        one = self.running.pop(number)
        one.send_signal(signal.SIGCONT)
        one.kill()
        one.wait()

    def log(self, number: int) -> Path:
        """What a Caddy says, in JSON."""
        return self.directory / f"log.{number}"

    def serials(self, number: int) -> dict[str, str]:
        """Of each name, as one Caddy shows it."""
        return {name: serial(self.places[number].ipv4, name, self.authority.issued) for name in NAMES}

    def served(self, numbers: Iterable[int], begun: float, timeout: float = 120) -> dict[int, float]:
        """By Caddy, the seconds until it had every certificate."""
        found: dict[int, float] = {}
        waiting = list(numbers)

        def all_served() -> bool:
            for number in [one for one in waiting if one not in found]:
                if all(self.serials(number).values()):
                    found[number] = time.monotonic() - begun
            return len(found) == len(waiting)

        until(all_served, timeout=timeout, what="every certificate at every proxy")
        return found

    def lock_waits(self, numbers: Iterable[int]) -> list[float]:
        """The seconds that these Caddys have waited for the lock of a name, each time."""
        return [wait for number in numbers for wait in self._waits(number)]

    def _waits(self, number: int) -> Iterator[float]:
        asked: dict[str, float] = {}
        for line in self.log(number).read_text().splitlines():
            said = json.loads(line)
            if said["msg"] == "acquiring lock":
                asked[said["identifier"]] = said["ts"]
            elif said["msg"] == "lock acquired" and said["identifier"] in asked:
                yield said["ts"] - asked.pop(said["identifier"])

    def lock(self, name: str) -> Path:
        """The file that says that somebody gets a certificate for a name, while it is there."""
        return self.shared / "locks" / f"issue_cert_{name}.lock"


def stamped(lock: Path, ahead: float) -> None:
    """A lock as a host leaves it whose clock was so many seconds ahead, and whose power was cut."""
    now = datetime.fromtimestamp(time.time() + ahead).astimezone().isoformat()
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(json.dumps({"created": now, "updated": now}))
