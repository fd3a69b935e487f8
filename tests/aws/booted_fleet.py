"""The group of the wire's model with hosts that are really booted, and a balancer that sends visitors to them.

What Auto Scaling launches is a machine of the lab, on the disk of a baked image and with the user-data of the launch
template; it finds a metadata service, calls the wire for its secrets and its hooks, and is cut off when the group ends
it. The balancer is haproxy: it passes connections on, with PROXY v2, to whom the model says that they go. The model's
clock and the drain of the hosts are `SPED` times as fast as AWS.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import socketserver
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from builder import process
from builder.lab.machine import Machine
from builder.lab.network import Bridge
from tests.aws.autoscaling import Sped
from tests.aws.moto_account import REGION
from tests.machine import fleet_proxies, fleet_service, fleet_world, hosts, registry
from tests.machine.test_fleet_host import READY

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from builder.lab.network import Network
    from builder.lab.preload import Preload
    from tests.aws.moto_account import Account
    from tests.aws.wire import Wire

SPED: Final = 5
_MIDDLE: Final = 60
_SLOTS: Final = 16
_CONSOLE: Final = 64 << 10
MOUNTED: Final = "/mnt/certificates"
# Seconds without a good answer; this machine has other things to do.
UNHEALTHY: Final = 10.0


def source(account: Account) -> str:
    """The balancer's address in a subnet of the account, from where alone its hosts believe a PROXY header.

    It is the authority's as well: all hosts have a way there.
    """
    zone = {"Name": "availability-zone", "Values": [f"{REGION}a"]}
    (subnet,) = account.ec2.describe_subnets(Filters=[zone])["Subnets"]
    return str(ipaddress.ip_network(subnet["CidrBlock"])[5])


class _Relay(socketserver.ThreadingTCPServer):
    """At an address of one machine's bridge: the wire, which listens at this machine's loopback alone."""

    daemon_threads = True
    allow_reuse_address = True
    port = 0


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Relay)
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.server.port)) as there:
            back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
            back.start()
            _copy(self.request, there)
            back.join(30)


def _copy(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


@dataclass
class Booted:
    """The machine of an instance; None until it has been laid out."""

    slot: int
    image: str
    machine: Machine | None = None
    stack: ExitStack = field(default_factory=ExitStack)
    ended: bool = False
    said: str = ""

    def console(self) -> str:
        """What it has said; EC2 keeps it a while for one that is gone."""
        return self.said or (self.machine.console_text() if self.machine else "")

    def end(self) -> None:
        """Cut it off, and take it away."""
        self.said = self.console()
        self.stack.close()


@dataclass
class BootedFleet:
    """A context manager. `disks` are the files by which an image differs from `tree`, by its id."""

    account: Account
    wire: Wire
    group: str
    tree: Path
    disks: Mapping[str, Mapping[str, bytes]]
    preloads: Iterable[Preload]
    storage: Path
    tmp: Path
    hosts: dict[str, Booted] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)

    def __enter__(self) -> BootedFleet:
        self._stack = ExitStack()
        self._bridge = Bridge.make()
        self._stack.callback(self._bridge.remove)
        self.middle = self._bridge.attacker(_MIDDLE)
        self._pool, self._askers = ThreadPoolExecutor(8), ThreadPoolExecutor(_SLOTS)
        self._good: dict[str, float] = {}
        self._end = threading.Event()
        self._told()
        self._source = source(self.account)
        self._open()
        model = self.wire.autoscaling
        model.first_boot, model.drains, model.clock = (lambda _: None), False, Sped(SPED)
        model.launched, model.ended = self._launched, self._ended
        self.wire.console_of = lambda instance: self.hosts[instance].console()[-_CONSOLE:]
        model.sick = lambda instance: not self.is_healthy(instance)
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._watcher.join()
        self._askers.shutdown()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for one in self.hosts.values():
            one.stack.close()
        self._stack.close()

    def _open(self) -> None:
        """AWS's metadata, and the balancer."""
        made = registry.certificate(self.tmp, fleet_service.SSM)
        add = ["ip", "-n", self.middle.name, "addr", "add", f"{fleet_service.METADATA}/32", "dev", "lan"]
        process.run(add)
        argv = ["env", f"PYTHONPATH={hosts.ROOT}", sys.executable, "-m", "tests.machine.fleet_service"]
        self._start([*argv, str(self.tmp), str(made.chain), str(made.key)])
        process.run(["ip", "-n", self.middle.name, "addr", "add", f"{self._source}/32", "dev", "lan"])
        running = fleet_proxies.balancer(self.middle, ["127.0.0.1"] * _SLOTS, self.tmp, self._source)
        self._ends(running)

    def _start(self, argv: list[str]) -> None:
        self._ends(self.middle.start(argv))

    def _ends(self, running: subprocess.Popen[bytes]) -> None:
        self._stack.callback(running.wait)
        self._stack.callback(running.kill)

    # What the model says.

    def _launched(self, instance: str, user_data: bytes) -> None:
        self.hosts[instance] = Booted(len(self.hosts), "")
        self._pool.submit(self._noted, lambda: self._boot(instance, user_data))

    def _ended(self, instance: str) -> None:
        self.hosts[instance].ended = True
        self._pool.submit(self._noted, self.hosts[instance].end)

    def _noted(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:  # a thread's, which the test shows
            self.wrongs.append(repr(error))

    def _boot(self, instance: str, user_data: bytes) -> None:
        one = self.hosts[instance]
        found = self.account.ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
        one.image = found["ImageId"]
        made = Machine(
            self.tree,
            user_data,
            name="web",
            internet=False,
            extra_files=self.disks[one.image],
            preloads=self.preloads,
            shared={MOUNTED: self.storage},
        )
        machine = one.stack.enter_context(made)
        lab = machine.network
        fleet_world.leg(self.middle.name, lab, f"h{one.slot}")
        relay = _Relay((lab.gateway.ipv4, 0), _Handler)
        relay.port = int(self.wire.url.rpartition(":")[2])
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        one.stack.callback(relay.server_close)
        one.stack.callback(relay.shutdown)
        for path, content in self._files(lab, relay.server_address[1]).items():
            machine.files.write(path, content, 0o644)
        if one.ended:
            return
        one.machine = machine
        self._told()
        machine.boot()

    def _files(self, lab: Network, port: int) -> dict[str, bytes]:
        """The way to AWS, and a drain that ends while a test waits."""
        routes = (fleet_service.METADATA, self._source)
        way = fleet_world.middle(lab).ipv4
        route = "\n".join(f"ExecStartPre=+ip route replace {address} via {way}" for address in routes)
        shorter = f"ExecStartPre=+sed -i s/^DRAIN=.*/DRAIN={300 // SPED}/ /etc/easyrunner/fleet"
        unit = f"[Service]\nEnvironment=AWS_ENDPOINT_URL=http://{lab.gateway.ipv4}:{port}\n{route}\n{shorter}\n"
        return {
            "/etc/systemd/system/easyrunner-secrets.service.d/50-lab.conf": unit.encode(),
            "/etc/systemd/system/easyrunner-fleet.service.d/50-lab.conf": unit.encode(),
        }

    # What goes on all the time.

    def _watch(self) -> None:
        while not self._end.wait(0.5):
            self._noted(self._look)

    def _look(self) -> None:
        model = self.wire.autoscaling
        list(self._askers.map(lambda item: self._ask(*item), list(self.hosts.items())))
        model.advance()
        self._told()
        chosen = set(model.gets_connections(self.group)) if self.group in model.groups else set()
        commands = []
        for instance, one in list(self.hosts.items()):
            address = one.machine.ipv4 if one.machine and not one.ended else ""
            for name, port in (("http", 80), ("https", 443)):
                server = f"set server {name}/s{one.slot}"
                commands += [f"{server} addr {address} port {port}"] if address else []
                commands.append(f"{server} state {'ready' if address and instance in chosen else 'maint'}")
        for index in range(len(self.hosts), _SLOTS):
            commands += [f"set server {name}/s{index} state maint" for name in ("http", "https")]
        fleet_proxies.told(self.tmp, *commands)

    def _told(self) -> None:
        """What the metadata of each host says."""
        there = {one.machine.ipv4: name for name, one in self.hosts.items() if one.machine and not one.ended}
        targets = {address: self.wire.autoscaling.target_lifecycle_state(name) for address, name in there.items()}
        says = {"says": "", "parameters": {}, "targets": targets, "instances": there}
        aside = self.tmp / f"mode.{threading.get_ident()}"
        aside.write_text(json.dumps(says))
        aside.rename(self.tmp / "mode.json")

    def is_healthy(self, instance: str) -> bool:
        """Whether its last good answer is no older than a balancer's two questions."""
        return time.monotonic() - self._good.get(instance, -UNHEALTHY) < UNHEALTHY

    def _ask(self, instance: str, one: Booted) -> None:
        """As a health check does, with the PROXY header of one."""
        if one.machine is None or one.ended:
            return
        asked = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--haproxy-protocol", "--max-time", "5"]
        asked += ["--interface", self._source]
        answer = self.middle.run([*asked, f"http://{one.machine.ipv4}{READY}"], check=False).stdout
        if answer == "200":
            self._good[instance] = time.monotonic()
        elif answer == "503":  # it says so itself
            self._good.pop(instance, None)

    def consoles(self) -> str:
        """The ends of what all of them said."""
        return "\n=====\n".join(one.console()[-1500:] for one in self.hosts.values())


def needs() -> None:
    """The programs of it are there."""
    for program in ("pebble", "haproxy"):
        assert shutil.which(program), f"apt-get install {program}"
