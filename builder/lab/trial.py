"""The engine of `er try`: from user-data to sites that answer, as a stream of events.

The machine lives as long as the generator: whoever holds it after `Ready` keeps the machine,
and closing it takes all away.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

from builder import facts, host, process, userdata
from builder.lab import base_tree, preload
from builder.lab.machine import Machine
from builder.localhost import requirements
from builder.oci import image_reference
from builder.polling import NotInTimeError
from builder.problems import UserError
from builder.process import terminable
from builder.stack import user

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from builder.spec import Spec


__all__ = ["Answer", "Ended", "Event", "Plan", "Ready", "Site", "Started", "curl", "try_"]

T = TypeVar("T")
# systemd's own note that the unit has been started once.
_FIRST_BOOT: Final = "/run/systemd/units/invocation:er-first-boot.service"
# What the host says, and what the stacks say.
_BOTH: Final = f"--namespace=+{facts.JOURNAL}"
_QUESTIONS: Final = (
    (
        "its containers said:",
        ["journalctl", _BOTH, "-b", "-q", "-o", "short", "--no-hostname", "--grep", "^Error:", "-n", "6"],
    ),
    ("failed units:", ["systemctl", "--failed", "--no-legend", "--plain"]),
)
READY: Final = "easyrunner: ready"
# What is still worth waiting for: nothing yet, or the proxy saying that the app is not there yet.
_NOT_YET: Final = 500


class _Clock:
    """What is left of the time, and how long each phase took."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self.ended: list[Ended] = []

    @property
    def left(self) -> float:
        return max(self._deadline - time.monotonic(), 0)

    def end(self, phase: PhaseName, since: float) -> Ended:
        self.ended.append(Ended(phase, time.monotonic() - since))
        return self.ended[-1]


def try_(plan: Plan) -> Generator[Event, None, None]:
    """Boot the plan here; the last event is `Ready`. Close the generator to take everything away."""
    requirements.check_booting(base_tree.RELEASE)
    clock = _Clock(plan.timeout)
    with terminable():
        tree = yield from _phase(clock, "base tree", lambda: base_tree.tree(plan.packages))
        preloads = yield from _phase(clock, "images", lambda: _preloads(plan, tree))
        machine = Machine(tree, plan.user_data, name=plan.name, extra_files=dict(plan.extra_files), preloads=preloads)
        with machine, _explained(machine):
            power_on = time.monotonic()
            yield from _boot(machine, clock)
            answers = yield from _answers(machine, plan, clock, power_on)
            yield _ready(machine, plan, clock, answers)


def _phase(clock: _Clock, phase: PhaseName, work: Callable[[], T]) -> Generator[Event, None, T]:
    yield Started(phase)
    since = time.monotonic()
    result = work()
    yield clock.end(phase, since)
    return result


def _preloads(plan: Plan, tree: Path) -> tuple[preload.Preload, ...]:
    return tuple(preload.prepare(tree, owner, images) for owner, images in plan.images)


def _boot(machine: Machine, clock: _Clock) -> Generator[Event, None, None]:
    def booted() -> None:
        machine.boot()
        machine.wait(machine.systemd_up, timeout=clock.left, what="systemd")

    yield from _phase(clock, "boot", booted)

    # first boot is the last thing that cloud-init starts on a stock image, and waits for.
    def began() -> bool:
        return os.path.lexists(machine.path(_FIRST_BOOT)) or machine.cloud_init_done()

    yield from _phase(clock, "cloud-init", lambda: machine.wait(began, timeout=clock.left, what="cloud-init"))
    what = "all stacks to answer"
    yield from _phase(clock, "first boot", lambda: machine.wait_console(READY, timeout=clock.left, what=what))


def _answers(
    machine: Machine, plan: Plan, clock: _Clock, power_on: float
) -> Generator[Event, None, tuple[Answer, ...]]:
    """Ask all sites in turn until each has answered, so that a slow one holds up no other."""
    yield Started("first answers")
    since = time.monotonic()
    answers: list[Answer] = []
    pending = list(plan.sites)
    while pending:
        for site in tuple(pending):
            if status := _ask(machine, site, plan.ca):
                answers.append(Answer(site, status, time.monotonic() - power_on))
                pending.remove(site)
                yield answers[-1]
        if pending:
            _pause(machine, clock, pending)
    yield clock.end("first answers", since)
    return tuple(answers)


def _pause(machine: Machine, clock: _Clock, pending: list[Site]) -> None:
    if not machine.running:
        raise UserError(f"{machine.id} went off")
    if not clock.left:
        raise NotInTimeError(f"no answer in time from {', '.join(site.domain for site in pending)}")
    time.sleep(0.05)


def _ask(machine: Machine, site: Site, ca: str) -> int:
    """The status of a first answer, or 0 for none yet."""
    authority = machine.files.path(ca)
    if not authority.is_file():
        return 0
    done = process.run(curl(site, machine.ipv4, authority), check=False)
    status = int(done.stdout or 0)
    return status if status < _NOT_YET else 0


def curl(site: Site, address: str, ca: Path) -> list[str]:
    """Ask a site for its front page; prints the status."""
    there = ["--resolve", f"{site.domain}:443:{address}", "--cacert", str(ca), f"https://{site.domain}/"]
    return [
        "curl",
        "--silent",
        "--noproxy",
        "*",
        "--max-time",
        "5",
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        *there,
    ]


def _ready(machine: Machine, plan: Plan, clock: _Clock, answers: tuple[Answer, ...]) -> Ready:
    ca = machine.disk.directory / "ca.crt"
    if plan.sites:
        ca.write_bytes(machine.files.path(plan.ca).read_bytes())
    return Ready(
        machine.id,
        machine.ipv4,
        machine.ipv6,
        ca,
        machine.shell(),
        machine.console,
        answers,
        tuple(clock.ended),
    )


@contextmanager
def _explained(machine: Machine) -> Iterator[None]:
    """A failure says what the machine itself has to say about it."""
    try:
        yield
    except UserError as error:
        raise UserError(error.message, _diagnosis(machine) or error.hint) from error


def _diagnosis(machine: Machine) -> str:
    """What the apps complained of, else which units failed, else the end of the console."""
    if machine.running:
        for title, argv in _QUESTIONS:
            lines = machine.run(argv, check=False, timeout=10).stdout.strip().splitlines()
            if lines:
                return "\n  ".join([title, *dict.fromkeys(line[:300] for line in lines)])
    return "\n  ".join(["the end of its console:", *machine.console_text().strip().splitlines()[-15:]])


# Caddy's internal authority, below the proxy's data directory.
CA = f"{facts.STATE}/caddy/caddy/pki/authorities/local/root.crt"


def plan(spec: Spec, *, timeout: float) -> Plan:
    """What `er try` boots. Raises UserError when the lab has no such machine."""
    refuse_foreign(spec)
    built = host.build(spec)
    return Plan(
        name=spec.server.name,
        user_data=userdata.cloud_config(spec, built, "stock"),
        sites=tuple(sites(spec)),
        ca=CA,
        packages=built.packages,
        images=tuple(owned_images(spec)),
        timeout=timeout,
    )


def refuse_foreign(spec: Spec) -> None:
    """Only a base whose packages this machine can fetch and run is tried."""
    if spec.server.base != "debian-13":
        raise UserError(
            f"er try boots debian-13, not {spec.server.base}",
            "try it with base: debian-13; the stacks are the same on both",
        )


def sites(spec: Spec) -> Iterator[Site]:
    """Every domain of every stack."""
    for stack in spec.stacks:
        for service in stack.public:
            yield from (Site(stack.name, domain) for domain in service.domains)


def owned_images(spec: Spec) -> Iterator[tuple[preload.Owner, tuple[preload.Image, ...]]]:
    """The archives by the user whose storage they go to: the proxy's, then each stack's."""
    for name, uid, services in _users(spec):
        found = tuple(
            preload.Image(
                Path(image.removeprefix(image_reference.ARCHIVE)), image_reference.host_name(name, service, image)
            )
            for service, image in services
            if image_reference.is_archive(image)
        )
        if found:
            yield preload.Owner(uid, user.subids(uid).first, f"{facts.HOMES}/{name}"), found


def _users(spec: Spec) -> Iterator[tuple[str, int, tuple[tuple[str, str], ...]]]:
    """Name, uid, and the services with their images."""
    yield "proxy", facts.PROXY_UID, (("caddy", spec.proxy.image),)
    for stack in spec.stacks:
        yield stack.name, stack.uid, tuple((service.name, service.image) for service in stack.services)


PhaseName = Literal["base tree", "images", "boot", "cloud-init", "first boot", "first answers"]


@dataclass(frozen=True, slots=True)
class Site:
    """A domain, and the stack that answers on it."""

    stack: str
    domain: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try. `packages` are those of a baked host: with none, the machine installs them itself.

    `ca` is where the machine keeps the certificate of its own authority.
    """

    name: str
    user_data: bytes = field(repr=False)
    sites: tuple[Site, ...]
    ca: str
    packages: tuple[str, ...] = ()
    images: tuple[tuple[preload.Owner, tuple[preload.Image, ...]], ...] = ()
    extra_files: tuple[tuple[str, bytes], ...] = ()
    timeout: float = 300


@dataclass(frozen=True, slots=True)
class Started:
    """A phase has begun."""

    phase: PhaseName


@dataclass(frozen=True, slots=True)
class Ended:
    """A phase is over, after so many seconds."""

    phase: PhaseName
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer of a site: its status, and the seconds since power-on."""

    site: Site
    status: int
    seconds: float

    @property
    def url(self) -> str:
        """What to open."""
        return f"https://{self.site.domain}/"


@dataclass(frozen=True, slots=True)
class Ready:
    """All sites answer; the machine is on until the generator is closed."""

    id: str
    ipv4: str
    ipv6: str
    ca: Path
    shell: str
    console: Path
    answers: tuple[Answer, ...]
    phases: tuple[Ended, ...]

    def curl(self, answer: Answer) -> str:
        """A command line that asks the site, for a person."""
        return f"curl --cacert {self.ca} --resolve {answer.site.domain}:443:{self.ipv4} {answer.url}"

    @property
    def hosts(self) -> str:
        """The line that /etc/hosts needs for a browser."""
        return " ".join((self.ipv4, *(answer.site.domain for answer in self.answers)))


Event = Started | Ended | Answer | Ready
