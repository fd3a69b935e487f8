"""The lab's network: per machine one bridge, in a namespace of its own, that attackers and this machine share.

Functions return argv lists; `Bridge` runs them. Names and addresses all follow from the number of a network.
"""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from builder import process
from builder.polling import until
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from builder.lab.namespaces import MountNamespace


Argv = list[str]
_NUMBERS: Final = range(1, 251)
_LAN: Final = "lan"
UPLINK: Final = "uplink"
_GATEWAY_HOST: Final = 1
_MACHINE_HOST: Final = 2
_FIRST_ATTACKER: Final = 10
_ATTACKERS: Final = 200


@dataclass(frozen=True, slots=True)
class Namespace:
    """A network namespace on the bridge, with an address of each family."""

    name: str
    ipv4: str
    ipv6: str

    def argv(self, argv: Sequence[str]) -> Argv:
        """`argv`, in this namespace."""
        return ["ip", "netns", "exec", self.name, *argv]

    def run(
        self,
        argv: Sequence[str],
        *,
        check: bool = True,
        timeout: float | None = 60,
        stdin: bytes | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of this machine in this namespace."""
        return process.run(self.argv(argv), check=check, timeout=timeout, stdin=stdin)

    def start(self, argv: Sequence[str], *, stdout: int | None = None) -> subprocess.Popen[bytes]:
        """Start a program that goes on; the caller ends it."""
        return process.start(self.argv(argv), stdout=stdout)


@dataclass(frozen=True, slots=True)
class Card:
    """A network card: its name, its MAC address (one by its namespace, if empty), and whether it gets IP addresses."""

    name: str = _LAN
    mac: str = ""
    addressed: bool = True


@dataclass(frozen=True, slots=True)
class Network:
    """Names and addresses of one machine's network."""

    number: int

    @property
    def id(self) -> str:
        """The name of the machine, and the beginning of the names of all that is made for it."""
        return f"er-{self.number}"

    @property
    def bridge(self) -> str:
        """The namespace that holds the bridge."""
        return f"{self.id}-bridge"

    @property
    def machine(self) -> Namespace:
        """The machine's own."""
        return self._namespace(self.id, _MACHINE_HOST)

    @property
    def gateway(self) -> Namespace:
        """This machine's own end of the bridge; `name` is its interface, as it is in no namespace."""
        return self._namespace(f"er{self.number}", _GATEWAY_HOST)

    def attacker(self, number: int) -> Namespace:
        """That of attacker `number`, from 0."""
        if not 0 <= number < _ATTACKERS:
            raise ValueError(f"attacker {number}: there are {_ATTACKERS}")
        return self._namespace(f"{self.id}-a{number}", _FIRST_ATTACKER + number)

    @property
    def resolver(self) -> str:
        """The address that pasta answers DNS on."""
        return f"10.214.{self.number}.3"

    def _namespace(self, name: str, host: int) -> Namespace:
        return Namespace(name, f"10.213.{self.number}.{host}", f"fd13:e5:0:{self.number:x}::{host:x}")


class Bridge:
    """The bridge of one network.

    The machine's own namespace is made anew at every power-on, as its firewall lives in it.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.card: Card | None = None
        self._attackers: dict[int, Namespace] = {}
        self._pasta: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls) -> Self:
        """Take a free network and build its bridge."""
        bridge = cls(free_network())
        try:
            _run(bridge_argvs(bridge.network))
            process.run(gateway_ipv6(bridge.network), check=False)
        except BaseException:
            bridge.remove()
            raise
        return bridge

    def attacker(self, number: int = 0) -> Namespace:
        """Attacker `number`, made on first use."""
        if number not in self._attackers:
            namespace = self.network.attacker(number)
            _run(join(self.network, namespace))
            self._attackers[number] = namespace
        return self._attackers[number]

    def plug_in(self, mounts: MountNamespace, *, internet: bool) -> None:
        """Make the machine's namespace, with the way out when this machine has one."""
        _run(join(self.network, self.network.machine, self.card))
        families = outbound() if internet else ()
        if families:
            argv = pasta(self.network, families)
            self._pasta = mounts.start(argv, group="pasta", stderr=subprocess.PIPE)
            until(self._has_uplink, timeout=10, what="the way out to the internet")

    def unplug(self) -> None:
        """Take the machine's namespace away, firewall rules and all."""
        if self._pasta is not None:
            self._pasta.kill()
            self._pasta.wait()
            if self._pasta.stderr is not None:
                self._pasta.stderr.close()
            self._pasta = None
        for argv in leave(self.network, self.network.machine):
            process.run(argv, check=False)

    def remove(self) -> None:
        """Leave nothing behind."""
        self.unplug()
        for argv in removal(self.network):
            process.run(argv, check=False)

    def _has_uplink(self) -> bool:
        if self._pasta is not None and self._pasta.poll() is not None:
            output = self._pasta.stderr.read().decode(errors="replace") if self._pasta.stderr else ""
            raise UserError(f"pasta ended at once: {output.strip()}", "pasta is of the package passt: try it by itself")
        routes = ["ip", "-n", self.network.machine.name]
        shown = (
            process.run([*routes, family, "route", "show", "default"], check=False).stdout for family in ("-4", "-6")
        )
        return any(UPLINK in text for text in shown)


def _run(argvs: list[Argv]) -> None:
    for argv in argvs:
        process.run(argv)


def free_network() -> Network:
    """A network nobody uses: making its namespace is what takes it, so two runs never share one."""
    for number in random.sample(_NUMBERS, len(_NUMBERS)):
        network = Network(number)
        if not _in_use(network) and process.run(["ip", "netns", "add", network.bridge], check=False).returncode == 0:
            return network
    raise UserError("no free network for another machine", "end some: `ip netns` lists them")


def _in_use(network: Network) -> bool:
    if Path("/sys/class/net", network.gateway.name).exists() or Path("/run/netns", network.bridge).exists():
        return True
    found = process.run(["ip", "-json", "route", "show", "to", "root", f"10.213.{network.number}.0/24"], check=False)
    return any(route.get("dst") != "default" for route in json.loads(found.stdout or "[]"))


def bridge_argvs(network: Network) -> list[Argv]:
    """The bridge, and this machine's own end of it."""
    on_bridge = ["ip", "-n", network.bridge]
    return [
        no_dad(network.bridge),
        [*on_bridge, "link", "add", "br0", "type", "bridge"],
        [*on_bridge, "link", "set", "br0", "up"],
        ["ip", "link", "add", network.gateway.name, "type", "veth", "peer", "name", "root", "netns", network.bridge],
        [*on_bridge, "link", "set", "root", "master", "br0", "up"],
        ["ip", "addr", "add", f"{network.gateway.ipv4}/24", "dev", network.gateway.name],
        ["ip", "link", "set", network.gateway.name, "up"],
    ]


def gateway_ipv6(network: Network) -> Argv:
    """This machine's own IPv6 address on the bridge; fails where IPv6 is switched off."""
    return ["ip", "addr", "add", f"{network.gateway.ipv6}/64", "dev", network.gateway.name, "nodad"]


def join(network: Network, namespace: Namespace, card: Card | None = None) -> list[Argv]:
    """Make a namespace with an interface on the bridge; a card without addresses is left down, as a server finds it."""
    card = card or Card()
    on_namespace = ["ip", "-n", namespace.name]
    port = _port(network, namespace)
    mac = card.mac or _mac(namespace)
    pair = ["type", "veth", "peer", "name", port, "netns", network.bridge]
    return [
        ["ip", "netns", "add", namespace.name],
        no_dad(namespace.name),
        [*on_namespace, "link", "set", "lo", "up"],
        [*on_namespace, "link", "add", card.name, "address", mac, *pair],
        ["ip", "-n", network.bridge, "link", "set", port, "master", "br0", "up"],
        *(_addresses(namespace, card) if card.addressed else ()),
    ]


def _addresses(namespace: Namespace, card: Card) -> list[Argv]:
    on_namespace = ["ip", "-n", namespace.name]
    return [
        [*on_namespace, "addr", "add", f"{namespace.ipv4}/24", "dev", card.name],
        [*on_namespace, "addr", "add", f"{namespace.ipv6}/64", "dev", card.name, "nodad"],
        [*on_namespace, "link", "set", card.name, "up"],
    ]


def _mac(namespace: Namespace) -> str:
    """A MAC address that stays over reboots, as a server's does: its neighbours remember it."""
    return ":".join(["02", "65", *(f"{int(part):02x}" for part in namespace.ipv4.split("."))])


def leave(network: Network, namespace: Namespace) -> list[Argv]:
    """Remove a namespace; its interface first, as the kernel would take its time over it."""
    return [
        ["ip", "-n", network.bridge, "link", "del", _port(network, namespace)],
        ["ip", "netns", "del", namespace.name],
    ]


def _port(network: Network, namespace: Namespace) -> str:
    return "machine" if namespace == network.machine else namespace.name.removeprefix(f"{network.id}-")


def no_dad(namespace: str) -> Argv:
    """Switch off duplicate address detection: addresses of this namespace are usable at once, link-local ones too."""
    switch = "for dad in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $dad; done"
    return ["ip", "netns", "exec", namespace, "sh", "-c", switch]


def pasta(network: Network, families: Iterable[int]) -> Argv:
    """The way out to the internet, by ordinary sockets of this machine: no forwarding, no NAT rules.

    pasta gives up root by default, and could then not enter a namespace of root's. It reads this machine's
    resolv.conf itself; naming the server to older versions switches their forwarding off.
    """
    chosen = set(families)
    only = {frozenset({4}): ["-4"], frozenset({6}): ["-6"]}.get(frozenset(chosen), [])
    number = network.number
    ipv4 = ["-a", f"10.214.{number}.2", "-n", "24", "-g", f"10.214.{number}.1"] if 4 in chosen else []
    ipv6 = ["-a", f"fd14:e5:0:{number:x}::2", "-g", f"fd14:e5:0:{number:x}::1"] if 6 in chosen else []
    dns = ["--dns-forward", network.resolver] if 4 in chosen else []
    closed = ["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]
    namespace = ["--netns", f"/run/netns/{network.machine.name}", "--ns-ifname", UPLINK]
    return [
        "pasta",
        "--foreground",
        "--quiet",
        "--runas",
        "0",
        "--config-net",
        *only,
        *namespace,
        *ipv4,
        *ipv6,
        *dns,
        *closed,
    ]


def outbound() -> tuple[int, ...]:
    """The address families this machine has a default route for."""
    return tuple(family for family in (4, 6) if _default_route(family))


def _default_route(family: int) -> bool:
    found = process.run(["ip", "-json", f"-{family}", "route", "show", "default"], check=False)
    return any("dev" in route for route in json.loads(found.stdout or "[]"))


def sweep(network: Network) -> None:
    """Take away what a dead run left of a network."""
    for argv in removal(network):
        with contextlib.suppress(UserError):
            process.run(argv)


def removal(network: Network) -> list[Argv]:
    """Take away everything of this network that exists; namespaces take their interfaces along."""
    mine = [path.name for path in Path("/run/netns").glob(f"{network.id}*") if _belongs(path.name, network)]
    argvs = [["ip", "netns", "del", name] for name in sorted(mine, key=lambda name: name == network.bridge)]
    if Path("/sys/class/net", network.gateway.name).exists():
        argvs.insert(0, ["ip", "link", "del", network.gateway.name])
    return argvs


def _belongs(name: str, network: Network) -> bool:
    return name == network.id or name.startswith(f"{network.id}-")
