"""The lab's network: per machine one bridge, in a namespace of its own, that attackers and this machine share.

Every function returns argv lists; `World` runs them. Names and addresses all follow from one slot number.
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

    from builder.lab.namespaces import Keeper


Argv = list[str]
_SLOTS: Final = range(1, 251)
_LAN: Final = "lan"
UPLINK: Final = "uplink"
_ROOT_HOST: Final = 1
_MACHINE_HOST: Final = 2
_FIRST_ATTACKER: Final = 10
_ATTACKERS: Final = 200


@dataclass(frozen=True, slots=True)
class Namespace:
    """A place on the bridge with an address of each family."""

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
    """A network card: its name, its hardware address (its place's, if none), and whether addresses are put on it."""

    name: str = _LAN
    hardware: str = ""
    addressed: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Names and addresses of one slot."""

    slot: int

    @property
    def id(self) -> str:
        """The name everything of this machine carries."""
        return f"er-{self.slot}"

    @property
    def world(self) -> str:
        """The namespace that holds the bridge."""
        return f"{self.id}-world"

    @property
    def machine(self) -> Namespace:
        """Where the machine is."""
        return self._place(self.id, _MACHINE_HOST)

    @property
    def root(self) -> Namespace:
        """This machine's own end; `name` is its interface, as it is in no namespace."""
        return self._place(f"er{self.slot}", _ROOT_HOST)

    def attacker(self, number: int) -> Namespace:
        """Where attacker `number` is, from 0."""
        if not 0 <= number < _ATTACKERS:
            raise ValueError(f"attacker {number}: there are {_ATTACKERS}")
        return self._place(f"{self.id}-a{number}", _FIRST_ATTACKER + number)

    @property
    def resolver(self) -> str:
        """The address that pasta answers DNS on."""
        return f"10.214.{self.slot}.3"

    def _place(self, name: str, host: int) -> Namespace:
        return Namespace(name, f"10.213.{self.slot}.{host}", f"fd13:e5:0:{self.slot:x}::{host:x}")


def free_slot() -> Plan:
    """Take a slot: making the namespace is what takes it, so two runs never share one."""
    for slot in random.sample(_SLOTS, len(_SLOTS)):
        plan = Plan(slot)
        if not _in_use(plan) and process.run(["ip", "netns", "add", plan.world], check=False).returncode == 0:
            return plan
    raise UserError("no free network for another machine", "end some: `ip netns` lists them")


def _in_use(plan: Plan) -> bool:
    if Path("/sys/class/net", plan.root.name).exists() or Path("/run/netns", plan.world).exists():
        return True
    found = process.run(["ip", "-json", "route", "show", "to", "root", f"10.213.{plan.slot}.0/24"], check=False)
    return any(route.get("dst") != "default" for route in json.loads(found.stdout or "[]"))


def bridge(plan: Plan) -> list[Argv]:
    """The bridge, and this machine's own end of it."""
    world = ["ip", "-n", plan.world]
    return [
        no_dad(plan.world),
        [*world, "link", "add", "br0", "type", "bridge"],
        [*world, "link", "set", "br0", "up"],
        ["ip", "link", "add", plan.root.name, "type", "veth", "peer", "name", "root", "netns", plan.world],
        [*world, "link", "set", "root", "master", "br0", "up"],
        ["ip", "addr", "add", f"{plan.root.ipv4}/24", "dev", plan.root.name],
        ["ip", "link", "set", plan.root.name, "up"],
    ]


def root_ipv6(plan: Plan) -> Argv:
    """This machine's own IPv6 address on the bridge; fails where IPv6 is switched off."""
    return ["ip", "addr", "add", f"{plan.root.ipv6}/64", "dev", plan.root.name, "nodad"]


def join(plan: Plan, place: Namespace, card: Card | None = None) -> list[Argv]:
    """A namespace with an interface on the bridge; a card without addresses is left down, as a server finds it."""
    card = card or Card()
    inside = ["ip", "-n", place.name]
    port = _port(plan, place)
    hardware = card.hardware or _hardware(place)
    pair = ["type", "veth", "peer", "name", port, "netns", plan.world]
    return [
        ["ip", "netns", "add", place.name],
        no_dad(place.name),
        [*inside, "link", "set", "lo", "up"],
        [*inside, "link", "add", card.name, "address", hardware, *pair],
        ["ip", "-n", plan.world, "link", "set", port, "master", "br0", "up"],
        *(_addresses(place, card) if card.addressed else ()),
    ]


def _addresses(place: Namespace, card: Card) -> list[Argv]:
    inside = ["ip", "-n", place.name]
    return [
        [*inside, "addr", "add", f"{place.ipv4}/24", "dev", card.name],
        [*inside, "addr", "add", f"{place.ipv6}/64", "dev", card.name, "nodad"],
        [*inside, "link", "set", card.name, "up"],
    ]


def _hardware(place: Namespace) -> str:
    """A hardware address that stays over reboots, as a server's does: its neighbours remember it."""
    return ":".join(["02", "65", *(f"{int(part):02x}" for part in place.ipv4.split("."))])


def leave(plan: Plan, place: Namespace) -> list[Argv]:
    """The end of a namespace; its interface by name, as the kernel would take its time over it."""
    return [
        ["ip", "-n", plan.world, "link", "del", _port(plan, place)],
        ["ip", "netns", "del", place.name],
    ]


def _port(plan: Plan, place: Namespace) -> str:
    return "machine" if place == plan.machine else place.name.removeprefix(f"{plan.id}-")


def no_dad(namespace: str) -> Argv:
    """Addresses of this namespace are usable at once, link-local ones too."""
    switch = "for dad in /proc/sys/net/ipv6/conf/*/accept_dad; do echo 0 > $dad; done"
    return ["ip", "netns", "exec", namespace, "sh", "-c", switch]


def pasta(plan: Plan, families: Iterable[int]) -> Argv:
    """The way out to the internet, by ordinary sockets of this machine: no forwarding, no NAT rules.

    pasta gives up root by default, and could then not enter a namespace of root's. It reads this machine's
    resolv.conf itself; naming the server to older versions switches their forwarding off.
    """
    wanted = set(families)
    only = {frozenset({4}): ["-4"], frozenset({6}): ["-6"]}.get(frozenset(wanted), [])
    slot = plan.slot
    ipv4 = ["-a", f"10.214.{slot}.2", "-n", "24", "-g", f"10.214.{slot}.1"] if 4 in wanted else []
    ipv6 = ["-a", f"fd14:e5:0:{slot:x}::2", "-g", f"fd14:e5:0:{slot:x}::1"] if 6 in wanted else []
    dns = ["--dns-forward", plan.resolver] if 4 in wanted else []
    closed = ["-t", "none", "-u", "none", "-T", "none", "-U", "none", "--no-map-gw"]
    place = ["--netns", f"/run/netns/{plan.machine.name}", "--ns-ifname", UPLINK]
    return [
        "pasta",
        "--foreground",
        "--quiet",
        "--runas",
        "0",
        "--config-net",
        *only,
        *place,
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


def removal(plan: Plan) -> list[Argv]:
    """Everything of this slot that exists, taken away; namespaces take their interfaces along."""
    mine = [path.name for path in Path("/run/netns").glob(f"{plan.id}*") if _belongs(path.name, plan)]
    argvs = [["ip", "netns", "del", name] for name in sorted(mine, key=lambda name: name == plan.world)]
    if Path("/sys/class/net", plan.root.name).exists():
        argvs.insert(0, ["ip", "link", "del", plan.root.name])
    return argvs


def _belongs(name: str, plan: Plan) -> bool:
    return name == plan.id or name.startswith(f"{plan.id}-")


class World:
    """The bridge of one slot.

    The machine's own namespace is made anew at every power-on, as its firewall lives in it.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.card: Card | None = None
        self._attackers: dict[int, Namespace] = {}
        self._pasta: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls) -> Self:
        """Take a free slot and build its bridge."""
        world = cls(free_slot())
        try:
            _run(bridge(world.plan))
            process.run(root_ipv6(world.plan), check=False)
        except BaseException:
            world.remove()
            raise
        return world

    def attacker(self, number: int = 0) -> Namespace:
        """Attacker `number`, made on first use."""
        if number not in self._attackers:
            place = self.plan.attacker(number)
            _run(join(self.plan, place))
            self._attackers[number] = place
        return self._attackers[number]

    def plug_in(self, keeper: Keeper, *, internet: bool) -> None:
        """Make the machine's namespace, with the way out when this machine has one."""
        _run(join(self.plan, self.plan.machine, self.card))
        families = outbound() if internet else ()
        if families:
            argv = pasta(self.plan, families)
            self._pasta = keeper.start(argv, group="pasta", stderr=subprocess.PIPE)
            until(self._has_uplink, timeout=10, what="the way out to the internet")

    def unplug(self) -> None:
        """Take the machine's namespace away, firewall rules and all."""
        if self._pasta is not None:
            self._pasta.kill()
            self._pasta.wait()
            if self._pasta.stderr is not None:
                self._pasta.stderr.close()
            self._pasta = None
        for argv in leave(self.plan, self.plan.machine):
            process.run(argv, check=False)

    def remove(self) -> None:
        """Leave nothing behind."""
        self.unplug()
        for argv in removal(self.plan):
            process.run(argv, check=False)

    def _has_uplink(self) -> bool:
        if self._pasta is not None and self._pasta.poll() is not None:
            said = self._pasta.stderr.read().decode(errors="replace") if self._pasta.stderr else ""
            raise UserError(f"pasta ended at once: {said.strip()}", "without a way out: er try --offline")
        shown = process.run(["ip", "-n", self.plan.machine.name, "route", "show", "default"], check=False).stdout
        shown += process.run(["ip", "-n", self.plan.machine.name, "-6", "route", "show", "default"], check=False).stdout
        return UPLINK in shown


def _run(argvs: list[Argv]) -> None:
    for argv in argvs:
        process.run(argv)


def sweep(plan: Plan) -> None:
    """Take away what a dead run left of a slot."""
    for argv in removal(plan):
        with contextlib.suppress(UserError):
            process.run(argv)
