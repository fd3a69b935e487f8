"""Vantage points: agents that ask, listeners that answer; in attackers, on the host as any user, in its containers."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from builder import process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.lab.machine import Machine
    from builder.lab.network import Namespace
    from tests.machine.probe_program import Question

_SOURCE = (Path(__file__).parent / "probe_program.py").read_text()
SILENCE = 0.5
"""How long nothing must come back to count as silence; what is accepted answers within milliseconds here."""
PATIENCE = 10.0
"""How long an answer that should come may take on a busy machine."""
Outcome = tuple[str, float]


def tcp(to: str, port: int, **more: Any) -> Question:
    """A connection."""
    return {"op": "tcp", "to": to, "port": port, **more}


def udp(to: str, port: int, **more: Any) -> Question:
    """A datagram."""
    return {"op": "udp", "to": to, "port": port, **more}


def quic(to: str, port: int, **more: Any) -> Question:
    """A datagram that every QUIC server answers."""
    return udp(to, port, say="quic", **more)


def ping(to: str, **more: Any) -> Question:
    """An echo request."""
    return {"op": "ping", "to": to, **more}


def _program(*words: str) -> list[str]:
    return ["python3", "-c", _SOURCE, *words]


@dataclass
class Place:
    """Where a program can be started: `argv` turns a command into one that runs there."""

    before: tuple[str, ...]

    def argv(self, command: Sequence[str]) -> list[str]:
        return [*self.before, *command]

    def run(self, *argv: str) -> str:
        """What a command says there."""
        return process.run(self.argv(argv), timeout=20).stdout


def outside(namespace: Namespace) -> Place:
    """Another host on the network."""
    return Place(tuple(namespace.argv(())))


def inside(machine: Machine, user: str = "root") -> Place:
    """On the host, as a user of it."""
    return Place(tuple(machine.argv(["env"], user=user)))


def container(machine: Machine, stack: str, service: str) -> Place:
    """In the network of an app's container, with the host's programs."""
    uid = machine.user(f"er-{stack}").uid if stack != "proxy" else machine.user("er-proxy").uid
    pid = machine.path(f"/run/user/{uid}/{stack}-{service}.pid").read_text().strip()
    return Place(tuple(machine.argv(["nsenter", "--target", pid, "--user", "--net", "env"])))


class Agent:
    """An agent that goes on asking; ended at the end of `with`."""

    def __init__(self, place: Place) -> None:
        self._process = talking(place.argv(_program("ask")))
        assert self._read() == "ready\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._process)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def send(self, order: dict[str, Any]) -> None:
        """Give an order; `receive` brings its result."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def receive(self) -> Any:
        """The result of the oldest order."""
        return json.loads(self._read())

    def timed(self, *questions: Question, patience: float) -> list[Outcome]:
        """Outcomes with the seconds each took."""
        self.send({"ask": questions, "patience": patience})
        return [(outcome, took) for outcome, took in self.receive()]

    def ask(self, *questions: Question, patience: float = SILENCE) -> list[str]:
        """Outcomes of questions that are asked at the same time."""
        return [outcome for outcome, _ in self.timed(*questions, patience=patience)]

    def all_open(self, *questions: Question) -> list[tuple[Question, str]]:
        """The questions that were not answered: none, it is hoped."""
        return self._not("open", questions, PATIENCE)

    def all_silent(self, *questions: Question) -> list[tuple[Question, str]]:
        """The questions that got any answer, a refusal too: none, it is hoped."""
        return self._not("silent", questions, SILENCE)

    def _not(self, wanted: str, questions: Sequence[Question], patience: float) -> list[tuple[Question, str]]:
        outcomes = self.ask(*questions, patience=patience)
        return [(question, outcome) for question, outcome in zip(questions, outcomes, strict=True) if outcome != wanted]

    def read(self, path: str) -> str:
        """A file as its place sees it: settings below /proc/sys/net are its network's."""
        self.send({"read": path})
        text: str = self.receive()
        return text

    def run(self, *argv: str) -> str:
        """What a command says in the agent's place, without the way there."""
        self.send({"run": argv})
        said: str = self.receive()
        return said

    def scan_udp(self, address: str) -> list[int]:
        """The UDP ports from which anything comes back."""
        self.send({"scan": address, "patience": SILENCE})
        found: list[int] = self.receive()
        return found


def talking(argv: Sequence[str]) -> subprocess.Popen[str]:
    """Start a program that is talked to, line by line."""
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    )


def end(running: subprocess.Popen[Any]) -> None:
    """End a program by ending its input: what entered a machine is no child of ours."""
    assert running.stdin is not None
    running.stdin.close()
    try:
        running.wait(5)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    if running.stdout is not None:
        running.stdout.close()


@contextlib.contextmanager
def serving(place: Place, *wanted: str) -> Iterator[None]:
    """A listener that answers, on every `tcp:ADDRESS:PORT` and `udp:…`."""
    argv = place.argv(_program("serve", *wanted))
    running = process.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n", f"cannot listen on {wanted}"
        yield
    finally:
        end(running)


@contextlib.contextmanager
def undone(do: Sequence[Sequence[str]], undo: Sequence[Sequence[str]], place: Place) -> Iterator[None]:
    """Run commands in a place now, and others at the end, whatever happened."""
    try:
        for argv in do:
            process.run(place.argv(argv), timeout=20)
        yield
    finally:
        for argv in undo:
            process.run(place.argv(argv), timeout=20, check=False)


# A program: ADDRESS SECONDS, connections to port 80 one after another until one is not there in that time.
QUICK = """
import socket, struct, sys
for number in range(5000):
    try:
        one = socket.create_connection((sys.argv[1], 80), timeout=float(sys.argv[2]))
    except OSError:
        break
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    one.close()
print(number)
"""
