"""An EC2 endpoint whose instances are hosts: what its API is asked to do is done to machines of the lab.

RunInstances boots a machine on the image's disk, with the user-data that the API has; Stop, Start and Terminate press
its power button, and the API says that it is stopped once it is off. The data volume is a block device, which a machine
has while the API says so. The Elastic IP is an address of this machine's routes: it leads to the machine that it is
associated with, whose router translates it, as EC2's does. Each machine does one thing after the other; the API answers
at once, as EC2's.
"""

from __future__ import annotations

import base64
import os
import re
import stat
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.lab.machine import Machine
from builder.lab.machine_directory import SecondDisk
from builder.lab.network import Card
from builder.lab.provider_machine import ProviderMachine
from tests.aws.wire import Answer
from tests.datasource import boots, provider_network
from tests.datasource.instance import Server
from tests.datasource.providers import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from builder.lab.network import Network
    from builder.lab.preload import Preload
    from tests.aws.moto_account import Account
    from tests.aws.wire import Call, Wire

    Do = Callable[[], Answer]

ROW: Final = ROWS["aws"]
# What EC2 keeps of a console.
_CONSOLE: Final = 64 << 10
# A volume of EC2 is a disk to lsblk(8); the lab's is a loop device, which is a disk in all else.
_LSBLK: Final = b"""#!/bin/sh
/usr/bin/lsblk "$@" | sed 's/"type": *"loop"/"type":"disk"/'
"""
_STOPPING: Final = b"""<StopInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>0</requestId>
<instancesSet/></StopInstancesResponse>"""


_LOOPBACK: Final = re.compile(rb"\b127\.\d+\.\d+\.\d+\b")


def public(address: str) -> str:
    """The address that stands for one of moto's: of a network that is kept for measuring."""
    return ".".join(["198", "18", *address.split(".")[2:]])


@dataclass(frozen=True)
class Image:
    """What an AMI has on its disk: a tree, and files that are otherwise. `goes_off`: its kernel does not start."""

    tree: Path
    files: Mapping[str, bytes] = field(default_factory=dict)
    goes_off: bool = False


@dataclass
class BootedAccount:
    """A context manager. `volume` is the data volume's raw file; `fault` is asked about every call, as the wire's is.

    `images` are by the AMI's id; `preloads` are images of containers that are on every disk; `key` is the public key
    that EC2 hands to a server; by `name_of_this_machine` each host knows this one. What a call of the API may not do
    here is noted in `wrongs`.
    """

    account: Account
    wire: Wire
    images: Mapping[str, Image]
    preloads: Iterable[Preload]
    volume: Path
    key: str
    tmp: Path
    fault: Callable[[Call, Do], Answer | None] | None = None
    name_of_this_machine: str = ""
    hosts: dict[str, Host] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)

    def __enter__(self) -> BootedAccount:
        self._stack = ExitStack()
        self.disk = SecondDisk(self.volume)
        self._stack.callback(self.disk.detach)
        self._lock = threading.Lock()
        self.wire.fault, self.wire.console_of = self._answer, self._console
        return self

    def __exit__(self, *_: object) -> None:
        self.wire.reset()
        for host in self.hosts.values():
            host.end()
        self._stack.close()
        for address in self.account.addresses():
            process.run(["ip", "route", "del", f"{public(address['PublicIp'])}/32"], check=False)

    def settle(self) -> None:
        """Wait until everything that was asked for is done; raises what went wrong with it."""
        for host in self.hosts.values():
            host.settle()

    def holder(self) -> str:
        """The instance that has the data volume, as the API has it."""
        volumes = self.account.ec2.describe_volumes(Filters=[{"Name": "tag:er:part", "Values": ["data"]}])["Volumes"]
        return next((one["InstanceId"] for volume in volumes for one in volume["Attachments"]), "")

    # What calls do.

    def _answer(self, call: Call, do: Do) -> Answer | None:
        done: list[Answer] = []

        def once() -> Answer:
            if not done:
                done.append(self._effect(call, do))
            return done[0]

        return self._public((self.fault and self.fault(call, once)) or once())

    def _public(self, answer: Answer) -> Answer:
        """moto's Elastic IPs are of the loopback network, which cannot lead elsewhere."""
        body = _LOOPBACK.sub(lambda found: public(found[0].decode()).encode(), answer.body)
        return Answer(answer.status, body, answer.headers)

    def _effect(self, call: Call, do: Do) -> Answer:
        work = getattr(self, f"_do_{call.operation}", None)
        if call.dry or work is None:
            return do()
        with self._lock:
            answer: Answer = work(call, do)
            return answer

    def _do_RunInstances(self, call: Call, do: Do) -> Answer:  # noqa: N802 - as EC2 calls it
        answer = do()
        for name in re.findall(rb"<instanceId>([^<]+)</instanceId>", answer.body):
            if name.decode() not in self.hosts:
                image = self.images[dict(call.parameters)["ImageId"]]
                self.hosts[name.decode()] = host = Host(self, name.decode(), image)
                host.soon(host.power_on)
        return answer

    def _do_StopInstances(self, call: Call, do: Do) -> Answer:  # noqa: N802
        host, forced = self._host(call), dict(call.parameters).get("Force") == "true"
        host.soon(host.cut if forced else host.power_off)
        host.soon(lambda: self.account.ec2.stop_instances(InstanceIds=[host.id]))
        return Answer(200, _STOPPING, (("Content-Type", "text/xml"),))

    def _do_StartInstances(self, call: Call, do: Do) -> Answer:  # noqa: N802
        answer, host = do(), self._host(call)
        host.soon(host.power_on)
        return answer

    def _do_TerminateInstances(self, call: Call, do: Do) -> Answer:  # noqa: N802
        answer, host = do(), self._host(call)
        host.soon(host.cut)
        return answer

    def _do_AttachVolume(self, call: Call, do: Do) -> Answer:  # noqa: N802
        answer = do()
        if answer.status == 200 and (host := self.hosts.get(dict(call.parameters)["InstanceId"])):
            host.soon(host.plug_in)
        return answer

    def _do_DetachVolume(self, call: Call, do: Do) -> Answer:  # noqa: N802
        """Only of a machine that is off, and that has unmounted it."""
        host = self._host(call)
        if host.machine.running:
            self.wrongs.append(f"{host.id} loses its volume while it runs")
        elif "clean" not in process.run(["dumpe2fs", "-h", str(self.volume)]).stdout.split("Filesystem state:")[1][:40]:
            self.wrongs.append(f"{host.id} has not unmounted its volume")
        return do()

    def _do_AssociateAddress(self, call: Call, do: Do) -> Answer:  # noqa: N802
        answer = do()
        if answer.status == 200:
            said = dict(call.parameters)
            (address,) = [one for one in self.account.addresses() if one["AllocationId"] == said["AllocationId"]]
            host = self.hosts[said["InstanceId"]]
            host.soon(lambda: host.answer_at(public(address["PublicIp"])))
        return answer

    def _host(self, call: Call) -> Host:
        said = dict(call.parameters)
        return self.hosts[said.get("InstanceId.1") or said["InstanceId"]]

    def _console(self, instance: str) -> str:
        host = self.hosts[instance]
        if host.image.goes_off:
            host.soon(lambda: self.account.ec2.stop_instances(InstanceIds=[instance]))
            return "[    0.9] Kernel panic - not syncing: VFS: Unable to mount root fs\n"
        return host.console()[-_CONSOLE:]


class Host:
    """The machine behind an instance, which does one thing after the other."""

    def __init__(self, cloud: BootedAccount, instance: str, image: Image) -> None:
        self.cloud, self.id, self.image = cloud, instance, image
        self._stack = ExitStack()
        self._worker = ThreadPoolExecutor(1)
        self._asked: list[Future[Any]] = []
        self._tmp = cloud.tmp / instance
        self._tmp.mkdir()
        self._machine: Machine | None = None
        self._server: Server | None = None

    @property
    def machine(self) -> Machine:
        """Once it was powered on for the first time."""
        assert self._machine is not None
        return self._machine

    def soon(self, work: Callable[[], object]) -> None:
        """Do it after what was asked before."""
        self._asked.append(self._worker.submit(work))

    def settle(self) -> None:
        """Wait for all of it."""
        for one in list(self._asked):
            one.result(300)

    def console(self) -> str:
        """What it has said."""
        return self._machine.console_text() if self._machine else ""

    def end(self) -> None:
        """Take it away."""
        self._worker.shutdown(wait=True, cancel_futures=True)
        self._stack.close()

    # Power.

    def power_on(self) -> None:
        """At first the disk is laid out, and the metadata service has what the API was given."""
        if self.image.goes_off:
            return
        if self._machine is None:
            self._lay_out()
        if not self.machine.running:
            self.machine.boot()
            self.plug_in()

    def power_off(self) -> None:
        """In order."""
        if not self.image.goes_off and self.machine.running:
            self.machine.poweroff(timeout=170)

    def cut(self) -> None:
        """At once."""
        if not self.image.goes_off and self.machine.running:
            self.machine.cut()

    def plug_in(self) -> None:
        """Show the volume to the machine that is on, when the API says that it has it."""
        if self.image.goes_off or not self.machine.running or self.cloud.holder() != self.id:
            return
        # Before systemd runs, what lies at / of its first process is not its own disk yet.
        self.machine.wait(self.machine.systemd_up, timeout=120, what="systemd")
        there = self.machine.path(self.cloud.disk.device)
        if not there.exists():
            os.mknod(there, stat.S_IFBLK | 0o660, Path(self.cloud.disk.device).stat().st_rdev)

    def answer_at(self, address: str) -> None:
        """From now on this address is its own: its router translates it, and this machine's routes lead there."""
        if self.image.goes_off:
            return
        router, its = provider_network.place(self.machine.network), self.machine.ipv4
        nat = ["iptables", "-t", "nat", "-A"]
        router.run(["sh", "-c", "for one in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 >$one; done"])
        router.run([*nat, "PREROUTING", "-d", address, "-j", "DNAT", "--to-destination", its])
        router.run([*nat, "POSTROUTING", "-d", its, "-j", "MASQUERADE"])
        leads = ["via", router.ipv4, "dev", self.machine.gateway.name]
        process.run(["ip", "route", "replace", f"{address}/32", *leads])

    def _lay_out(self) -> None:
        made = Machine(
            self.image.tree,
            name="unnamed",
            internet=False,
            provider=self._provider,
            preloads=self.cloud.preloads,
            extra_files=self.image.files,
        )
        self._machine = self._stack.enter_context(made)
        known = made.files.path("/etc/hosts").read_text()
        known += f"{made.gateway.ipv4} {self.cloud.name_of_this_machine}\n" if self.cloud.name_of_this_machine else ""
        made.files.write("/etc/hosts", known.encode())
        answer = self.cloud.account.ec2.describe_instance_attribute(InstanceId=self.id, Attribute="userData")
        user_data = base64.b64decode(answer["UserData"]["Value"])
        assert len(user_data) <= 16384
        assert self._server is not None
        values = {name: getattr(self._server, name) for name in Server.__slots__}
        server = Server(**{**values, "id": self.id, "user_data": user_data})
        self._stack.enter_context(provider_network.running(made, ROW, server, self._tmp))

    def _provider(self, lab: Network) -> ProviderMachine:
        gateway = provider_network.place(lab)
        self._server = Server(
            name="ip-10-0-0-1",
            id=ROW.id,
            uuid=ROW.dmi["product_uuid"],
            hardware=ROW.hardware,
            ipv4=lab.machine.ipv4,
            ipv6="",
            gateway4=gateway.ipv4,
            gateway6="",
            root_keys=(self.cloud.key,),
            user_data=b"",
        )
        dmi = {name: value.format_map(boots.vars_of(self._server)) for name, value in ROW.dmi.items()}
        files = {**ROW.image, "/usr/local/bin/lsblk": _LSBLK}
        return ProviderMachine(dmi, Card(ROW.card, ROW.hardware, addressed=False), ROW.driver, files)
