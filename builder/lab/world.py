"""A machine's surroundings as they exist: the bridge, the attackers and the way out to the internet."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING, Self

from builder import process
from builder.lab import network
from builder.polling import until
from builder.problems import UserError

if TYPE_CHECKING:
    from builder.lab.namespaces import Keeper
    from builder.lab.network import Argv, Card, Namespace, Plan


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
        world = cls(network.free_slot())
        try:
            _run(network.bridge(world.plan))
            process.run(network.root_ipv6(world.plan), check=False)
        except BaseException:
            world.remove()
            raise
        return world

    def attacker(self, number: int = 0) -> Namespace:
        """Attacker `number`, made on first use."""
        if number not in self._attackers:
            place = self.plan.attacker(number)
            _run(network.join(self.plan, place))
            self._attackers[number] = place
        return self._attackers[number]

    def plug_in(self, keeper: Keeper, *, internet: bool) -> None:
        """Make the machine's namespace, with the way out when this machine has one."""
        _run(network.join(self.plan, self.plan.machine, self.card))
        families = network.outbound() if internet else ()
        if families:
            argv = network.pasta(self.plan, families)
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
        for argv in network.leave(self.plan, self.plan.machine):
            process.run(argv, check=False)

    def remove(self) -> None:
        """Leave nothing behind."""
        self.unplug()
        for argv in network.removal(self.plan):
            process.run(argv, check=False)

    def _has_uplink(self) -> bool:
        if self._pasta is not None and self._pasta.poll() is not None:
            said = self._pasta.stderr.read().decode(errors="replace") if self._pasta.stderr else ""
            raise UserError(f"pasta ended at once: {said.strip()}", "without a way out: er try --offline")
        shown = process.run(["ip", "-n", self.plan.machine.name, "route", "show", "default"], check=False).stdout
        shown += process.run(["ip", "-n", self.plan.machine.name, "-6", "route", "show", "default"], check=False).stdout
        return network.UPLINK in shown


def _run(argvs: list[Argv]) -> None:
    for argv in argvs:
        process.run(argv)


def sweep(plan: Plan) -> None:
    """Take away what a dead run left of a slot."""
    for argv in network.removal(plan):
        with contextlib.suppress(UserError):
            process.run(argv)
