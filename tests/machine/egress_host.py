"""The host of the spec `walls`: two stacks, a name server whose answers tests change, a neighbour with servers."""

from __future__ import annotations

import contextlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from builder import process
from builder.server.remote import egress
from tests.machine import hosts
from tests.machine.outside_servers import METADATA, surroundings
from tests.machine.probes import PATIENCE, SILENCE, Agent, Place, end, outside
from tests.server.conftest import Client, client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.lab.machine import Machine
    from builder.lab.network import Namespace
    from tests.machine.hosts import Host
    from tests.machine.probe_program import Question

HERE = Path(__file__).parent
FAMILIES = (4, 6)
STACKS = ("blog", "shop")
BY_NAME = (3306, 9999)
"""What the spec opens to blog at db.example.com."""


class Walls:
    """The host, a name server whose answers tests change, a neighbour with servers, and who asks."""

    def __init__(self, host: Host, names: Path, client: Client) -> None:
        self.host, self.machine, self.client, self._names = host, host.machine, client, names
        self.neighbour: Namespace = host.machine.attacker(1)
        self._agents: dict[str, Agent] = {}

    def there(self, family: int) -> str:
        """The neighbour's address."""
        return self.neighbour.ipv4 if family == 4 else self.neighbour.ipv6

    def usual(self) -> dict[str, list[str] | None]:
        """The answers that the tests start from; gone.example.com has none."""
        here, there = self.machine, self.neighbour
        return {
            "db.example.com": [there.ipv4, there.ipv6],
            "log.example.com": [there.ipv4],
            "metadata.example.com": [METADATA[4][0], METADATA[6][0]],
            "self.example.com": [here.ipv4, here.ipv6, "127.0.0.1", "::1"],
        }

    def answers(self, other: Mapping[str, list[str] | None] | None = None) -> None:
        """What the name server says from now on, other than usual: `db` is db.example.com, and None is silence."""
        table = self.usual() | {f"{name}.example.com": found for name, found in (other or {}).items()}
        aside = self._names.with_suffix(".new")
        aside.write_text(json.dumps(table))
        aside.replace(self._names)

    def refused(self) -> dict[str, int]:
        """Packets refused by stack, as `er server status` counts them."""
        saved = "".join(
            self.machine.run([f"{tool}-save", "-c", "-t", "filter"]).stdout for tool in ("iptables", "ip6tables")
        )
        counts = egress.counts(saved)
        return {stack: counts.get(self.machine.user(f"er-{stack}").uid, 0) for stack in STACKS}

    def outcome(self, stack: str, question: Question, patience: float = SILENCE) -> str:
        """Of one question from inside a stack's container."""
        if stack not in self._agents:
            self._agents[stack] = Agent(within(self.machine, stack))
        return self._agents[stack].ask(question, patience=patience)[0]

    def open(self, stack: str, question: Question) -> bool:
        """Whether it is answered."""
        return self.outcome(stack, question, PATIENCE) == "open"

    def leave(self) -> None:
        """End the programs in the containers; the next question starts them anew."""
        for agent in self._agents.values():
            agent.__exit__()
        self._agents.clear()


def within(machine: Machine, stack: str) -> Place:
    """In an app's container, with its rights, its files and its network."""
    return Place(tuple(machine.argv(["podman", "exec", "-i", "web"], user=f"er-{stack}")))


@contextlib.contextmanager
def name_server(machine: Machine, names: Path) -> Iterator[None]:
    """Another host answers for names, and is the machine's resolver: written before it boots."""
    place = machine.attacker(2)
    dns = f"[Resolve]\nDNS=\nDNS={place.ipv4} {place.ipv6}\n"
    machine.files.write("/etc/systemd/resolved.conf.d/60-test.conf", dns.encode())
    words = ["python3", "-c", (HERE / "nameserver.py").read_text(), str(names), place.ipv4, place.ipv6]
    running = process.start(outside(place).argv(words), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        yield
    finally:
        end(running)


@contextlib.contextmanager
def standing(tmp: Path) -> Iterator[Walls]:
    """Booted, with its name server from the first moment on."""
    with hosts.booted("walls", tmp, start=False) as host, contextlib.ExitStack() as stack:
        walls = Walls(host, tmp / "names.json", client(host, tmp))
        walls.answers()
        stack.enter_context(name_server(host.machine, tmp / "names.json"))
        host.boot()
        stack.enter_context(surroundings(host.machine))
        stack.callback(walls.leave)
        yield walls
