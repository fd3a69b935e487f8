"""Booted hosts of a fleet, and what stands between them and visitors: AWS's services, one balancer, one authority.

Every machine of the lab has a bridge of its own; one namespace, `middle`, has a leg on each. There the services run
(fleet_service.py), and there visitors come to. A host knows them by /etc/hosts, and the lab's authority by a variable.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from builder import host as built
from builder import process, userdata
from builder import spec as specs
from builder.lab import network
from tests.machine import fleet_proxies, fleet_service, hosts, registry

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from builder.lab.network import Namespace, Network
    from builder.spec import Spec
    from tests.machine.hosts import Host
    from tests.machine.registry import Certificate

# Of everything in the lab.
NETWORKS = ("10.213.0.0/16", "fd13:e5::/32")
_MIDDLE, _API = 250, 251
PARAMETERS = {"/er/web/shop/session": "s3cret-of-the-session", "/er/web/shop/greeting": "grüße", "/er/web/old/key": "x"}


def middle(lab: Network) -> Namespace:
    """Where all bridges meet, as this network has it."""
    number = lab.number
    return network.Namespace(f"{lab.id}-middle", f"10.213.{number}.{_MIDDLE}", f"fd13:e5:0:{number:x}::{_MIDDLE:x}")


def api(lab: Network) -> str:
    """The address of AWS's APIs."""
    return f"10.213.{lab.number}.{_API}"


def leg(place: str, lab: Network, card: str) -> None:
    """A leg of this namespace on a machine's bridge, by which that one reaches balancer, authority and AWS."""
    on, here = ["ip", "-n", place], middle(lab)
    process.run([*on, "link", "add", card, "type", "veth", "peer", "name", "middle", "netns", lab.bridge])
    process.run(["ip", "-n", lab.bridge, "link", "set", "middle", "master", "br0", "up"])
    process.run([*on, "addr", "add", f"{here.ipv4}/24", "dev", card])
    process.run([*on, "addr", "add", f"{here.ipv6}/64", "dev", card, "nodad"])
    process.run([*on, "addr", "add", f"{api(lab)}/24", "dev", card])
    process.run([*on, "link", "set", card, "up"])


def _legs(labs: list[Network]) -> None:
    """The namespace, on the bridge of each."""
    first = middle(labs[0])
    for argv in network.join(labs[0], first):
        process.run(argv)
    on = ["ip", "-n", first.name, "addr", "add"]
    process.run([*on, f"{api(labs[0])}/24", "dev", "lan"])
    for number, lab in enumerate(labs[1:], 1):
        leg(first.name, lab, f"lan{number}")
    process.run([*on, f"{fleet_service.METADATA}/32", "dev", "lan"])


@dataclass
class World:
    """The hosts, off at first, and what AWS says to them."""

    hosts: list[Host]
    middle: Namespace
    directory: Path
    certificate: Certificate
    mode: dict[str, Any] = field(default_factory=dict)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def says(self, what: str = "", *, parameters: dict[str, str] | None = None, **targets: str) -> None:
        """What AWS answers from now on; `targets` are by the host's number, as h0="Terminated"."""
        where = {self.hosts[int(name[1:])].machine.ipv4: state for name, state in targets.items()}
        self.mode = {"says": what, "parameters": PARAMETERS if parameters is None else parameters, "targets": where}
        aside = self.directory / "mode.new"
        aside.write_text(json.dumps(self.mode))
        aside.rename(self.directory / "mode.json")

    def open(self) -> None:
        """Start AWS."""
        self.says()
        argv = ["env", f"PYTHONPATH={hosts.ROOT}", sys.executable, "-m", "tests.machine.fleet_service"]
        words = [str(self.directory), str(self.certificate.chain), str(self.certificate.key)]
        addresses = [api(host.machine.network) for host in self.hosts]
        self.running.append(self.middle.start([*argv, *words, *addresses]))

    def requests(self, to: str, of: Host | None = None) -> list[dict[str, Any]]:
        """What was asked of an API, by all hosts or one."""
        file = self.directory / "requests"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [one for one in found if one["to"] == to and (of is None or one["from"] == of.machine.ipv4)]

    def hooks(self, of: Host) -> list[tuple[str, str]]:
        """What a host has told its group that was taken: hook and result."""
        said = (one["said"] for one in self.requests("autoscaling", of) if one["status"] == 200)
        return [(one["LifecycleHookName"], one["LifecycleActionResult"]) for one in said]

    def boot(self, *numbers: int) -> None:
        """These at once, until they are ready."""
        with ThreadPoolExecutor(len(numbers)) as pool:
            list(pool.map(lambda number: self.hosts[number].boot(timeout=300), numbers))

    def close(self) -> None:
        """End what runs."""
        for each in self.running:
            each.kill()
            each.wait()


def _files(certificate: Certificate, lab: Network, drain: int, ready: int) -> dict[str, bytes]:
    """What only the lab's hosts have: the way to AWS, its authority, and waits that end while a test waits."""
    route = f"ExecStartPre=+ip route replace {fleet_service.METADATA} via {middle(lab).ipv4}"
    shorter = f"ExecStartPre=+sed -i s/^DRAIN=.*/DRAIN={drain}/ /etc/easyrunner/fleet"
    wait = f"[Service]\nEnvironment=READY_TIMEOUT={ready}\n"
    unit = f"[Service]\nEnvironment=SSL_CERT_FILE=/etc/lab-ca.crt\nReadWritePaths=-/etc\n{route}\n{shorter}\n"
    return {
        "/etc/systemd/system/easyrunner-secrets.service.d/50-lab.conf": unit.encode(),
        "/etc/systemd/system/easyrunner-fleet.service.d/50-lab.conf": unit.encode(),
        "/etc/systemd/system/er-first-boot.service.d/55-lab.conf": wait.encode(),
        "/etc/lab-ca.crt": certificate.authority.read_bytes(),
    }


def own_authority(spec: Spec) -> Spec:
    """The same, with certificates of the host itself, for tests of one host."""
    return replace(spec, tls=replace(spec.tls, ca="internal"))


@contextmanager
def world(
    tmp: Path,
    count: int = 1,
    *,
    complete: Callable[[Spec], Spec] = own_authority,
    edit: Callable[[int, str], str] = lambda _, text: text,
    shared: dict[str, Path] | None = None,
    drain: int = 4,
    ready: int = 200,
) -> Iterator[World]:
    """`count` hosts of the spec `fleet`, off, with AWS up; `complete` says what only a launch knows.

    `edit` changes the text of the spec of a host, by its number; `shared` are directories that all of them have.
    `drain` and `ready` are in seconds: how long a host serves on, and how long first boot waits for its stacks.
    """

    def form(spec: Spec) -> bytes:
        given = complete(specs.with_edge_networks(spec, NETWORKS))
        return userdata.cloud_config(given, built.build(given), "stock")

    made = registry.certificate(tmp, fleet_service.SSM, fleet_service.SCALING)
    with ExitStack() as stack:
        there = []
        for number in range(count):
            place = tmp / f"h{number}"
            place.mkdir()
            own = partial(edit, number)
            made_of = hosts.booted("fleet", place, start=False, form=form, edit=own, shared=shared)
            there.append(stack.enter_context(made_of))
        labs = [host.machine.network for host in there]
        _legs(labs)
        for host in there:
            machine, lab = host.machine, host.machine.network
            for path, content in _files(made, lab, drain, ready).items():
                machine.files.write(path, content, 0o644)
            known = machine.files.path("/etc/hosts").read_text()
            line = f"{known}\n{api(lab)} {fleet_service.SSM} {fleet_service.SCALING}\n"
            line += f"{middle(lab).ipv4} {fleet_proxies.ACME}\n"
            machine.files.write("/etc/hosts", line.encode())
        found = World(there, middle(labs[0]), tmp, made)
        stack.callback(found.close)
        found.open()
        yield found
