"""The engine of `er try`: from user-data to sites that answer, as a stream of events."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from builder import facts, host, process, userdata
from builder.lab import base_tree, preload
from builder.lab.events import Ended, Started
from builder.lab.machine import Machine
from builder.localhost import requirements
from builder.oci import image_reference
from builder.polling import NotInTimeError
from builder.problems import UserError
from builder.process import terminable
from builder.spec import open_to_all
from builder.stack import public, user
from builder.stack.model import Service

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from builder.spec import Spec


T = TypeVar("T")
# The beginning of the line that the host writes to its console when all stacks answer.
READY: Final = "easyrunner: ready"
# Where the host keeps the certificate of Caddy's internal authority, below the proxy's data directory.
CA: Final = f"{facts.CADDY_DATA}/caddy/pki/authorities/local/root.crt"


@dataclass(frozen=True, slots=True)
class Site:
    """A domain, and the stack that answers on it; with `rpc` its front page may be no page (see public.rpc_names)."""

    stack: str
    domain: str
    rpc: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try. `packages` are those of a baked host: with none, the machine installs them itself.

    `ca` is where the machine keeps the certificate of its own authority; `timeout` is in seconds.
    """

    name: str
    user_data: bytes = field(repr=False)
    sites: tuple[Site, ...]
    ca: str
    packages: tuple[str, ...] = ()
    images: tuple[tuple[preload.Owner, tuple[preload.Image, ...]], ...] = ()
    extra_files: tuple[tuple[str, bytes], ...] = ()
    timeout: float = 300


def plan(spec: Spec, *, timeout: float) -> Plan:
    """What `er try` boots. Raises UserError when the lab has no such machine."""
    _refuse_other_base(spec)
    # Its machine has one disk: the same directories, on that. And it is alone: no group gave it secrets.
    spec = open_to_all(replace(spec, data=None, fleet=None, tls=replace(spec.tls, storage=None)))
    built = host.build(spec)
    return Plan(
        name=spec.server.name,
        user_data=userdata.cloud_config(spec, built, "stock"),
        sites=tuple(sites(spec)),
        ca=CA,
        packages=built.packages,
        images=tuple(images_by_owner(spec)),
        timeout=timeout,
    )


def _refuse_other_base(spec: Spec) -> None:
    """Only a base whose packages this machine can fetch and run is tried."""
    if spec.server.base != "debian-13":
        raise UserError(
            f"er try boots debian-13, not {spec.server.base}",
            "try it with base: debian-13; the stacks are the same on both",
        )


def sites(spec: Spec) -> Iterator[Site]:
    """Every domain of every stack, those that only lead to another included."""
    for stack in spec.stacks:
        rpc = public.rpc_names(stack)
        yield from (Site(stack.name, domain, domain in rpc) for domain in stack.domains)


def images_by_owner(spec: Spec) -> Iterator[tuple[preload.Owner, tuple[preload.Image, ...]]]:
    """The archives by the user whose storage they go to: the proxy's, then each stack's."""
    for name, uid, services in _users(spec):
        found = tuple(
            preload.Image(archive, image_reference.host_name(name, service.name, service.image))
            for service in services
            if (archive := image_reference.archive_of(service.image, service.built_archive))
        )
        if found:
            yield preload.Owner(uid, user.subids(uid).first, f"{facts.HOMES}/{name}"), found


def _users(spec: Spec) -> Iterator[tuple[str, int, tuple[Service, ...]]]:
    """Name, uid and services."""
    yield "proxy", facts.PROXY_UID, (Service("caddy", spec.proxy.image),)
    for stack in spec.stacks:
        yield stack.name, stack.uid, stack.services


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
    steps: tuple[Ended, ...]
    machine: Machine

    def curl(self, answer: Answer) -> str:
        """A command line that asks the site, for a person."""
        return f"curl --cacert {self.ca} --resolve {answer.site.domain}:443:{self.ipv4} {answer.url}"

    @property
    def hosts(self) -> str:
        """The line that /etc/hosts needs for a browser."""
        return " ".join((self.ipv4, *(answer.site.domain for answer in self.answers)))


Event = Started | Ended | Answer | Ready


def run(plan: Plan) -> Generator[Event, None, None]:
    """Boot the plan here; the last event is `Ready`, and closing the generator takes everything away.

    Raises UserError when this machine cannot boot hosts, or the host is not ready in time; its hint is what the
    host's journal or console says of it.
    """
    requirements.check_booting(base_tree.RELEASE)
    clock = _Clock(plan.timeout)
    with terminable():
        tree = yield from clock.step("base tree", lambda: base_tree.tree(plan.packages))
        preloads = yield from clock.step("images", lambda: _preloads(plan, tree))
        machine = Machine(tree, plan.user_data, name=plan.name, extra_files=dict(plan.extra_files), preloads=preloads)
        with machine, _explained(machine):
            power_on = time.monotonic()
            yield from _boot(machine, clock)
            answers = yield from _answers(machine, plan, clock, power_on)
            yield _ready(machine, plan, clock, answers)


class _Clock:
    """What is left of the time, and the steps that are over."""

    def __init__(self, timeout: float) -> None:
        self._deadline = time.monotonic() + timeout
        self.ended: list[Ended] = []

    @property
    def left(self) -> float:
        """In seconds."""
        return max(self._deadline - time.monotonic(), 0)

    def step(self, name: str, work: Callable[[], T]) -> Generator[Event, None, T]:
        """Do work that says nothing while it goes on."""
        yield Started(name)
        since = time.monotonic()
        result = work()
        yield self.end(name, since)
        return result

    def end(self, name: str, since: float) -> Ended:
        """The end of a step that began at `since`, by time.monotonic()."""
        self.ended.append(Ended(name, time.monotonic() - since))
        return self.ended[-1]


def _preloads(plan: Plan, tree: Path) -> tuple[preload.Preload, ...]:
    return tuple(preload.prepare(tree, owner, images) for owner, images in plan.images)


# systemd's own note that the unit has been started once.
_FIRST_BOOT: Final = "/run/systemd/units/invocation:er-first-boot.service"


def _boot(machine: Machine, clock: _Clock) -> Generator[Event, None, None]:
    def boot() -> None:
        machine.boot()
        machine.wait(machine.systemd_up, timeout=clock.left, what="systemd")

    # On a stock image cloud-init starts er-first-boot.service last of all, and waits for it.
    def first_boot_began() -> bool:
        return os.path.lexists(machine.path(_FIRST_BOOT)) or machine.cloud_init_done()

    yield from clock.step("boot", boot)
    yield from clock.step("cloud-init", lambda: machine.wait(first_boot_began, timeout=clock.left, what="cloud-init"))
    what = "all stacks to answer"
    yield from clock.step("first boot", lambda: machine.wait_console(READY, timeout=clock.left, what=what))


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


def _ask(machine: Machine, site: Site, ca: str) -> int:
    """The status of the site's own answer, or 0 for none yet."""
    certificate = machine.files.path(ca)
    if not certificate.is_file():
        return 0
    return from_app(site, https_status(site.domain, machine.ipv4, 443, certificate, seconds=5))


def from_app(site: Site, status: int) -> int:
    """The status when it is the app's own, else 0: the proxy answers 502 for an app that does not answer yet."""
    return status if status < _SERVER_ERROR or site.rpc else 0


_SERVER_ERROR: Final = 500


def https_status(domain: str, address: str, port: int, ca: Path, *, seconds: int = 20) -> int:
    """The status of the domain's front page; 0 for no answer in time, or one with a certificate that is not `ca`'s."""
    return int(process.run(curl(domain, address, port, ca, seconds=seconds), check=False).stdout or 0)


def curl(domain: str, address: str, port: int, ca: Path, *, seconds: int = 20) -> list[str]:
    """Ask for a front page over HTTPS, with the name and the certificate checked; prints the status."""
    url = f"https://{domain}:{port}/"
    to = ["--resolve", f"{domain}:{port}:{address}", "--noproxy", "*", "--cacert", str(ca)]
    show = ["--output", "/dev/null", "--write-out", "%{http_code}"]
    return ["curl", "--silent", "--max-time", str(seconds), *to, *show, url]


def _pause(machine: Machine, clock: _Clock, pending: list[Site]) -> None:
    if not machine.running:
        raise UserError(f"{machine.id} went off")
    if not clock.left:
        raise NotInTimeError(f"no answer in time from {', '.join(site.domain for site in pending)}")
    time.sleep(0.05)


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
        machine,
    )


@contextmanager
def _explained(machine: Machine) -> Iterator[None]:
    """Give a failure what the machine itself says of it as its hint."""
    try:
        yield
    except UserError as error:
        raise UserError(error.message, _diagnosis(machine) or error.hint) from error


# The journal of the host, and that of the stacks.
_BOTH_JOURNALS: Final = f"--namespace=+{facts.JOURNAL}"
_QUESTIONS: Final = (
    (
        "its containers said:",
        ["journalctl", _BOTH_JOURNALS, "-b", "-q", "-o", "short", "--no-hostname", "--grep", "^Error:", "-n", "6"],
    ),
    ("failed units:", ["systemctl", "--failed", "--no-legend", "--plain"]),
)


def _diagnosis(machine: Machine) -> str:
    """What the apps complained of, else which units failed, else the end of the console."""
    if machine.running:
        for title, argv in _QUESTIONS:
            lines = machine.run(argv, check=False, timeout=10).stdout.strip().splitlines()
            if lines:
                return "\n  ".join([title, *dict.fromkeys(line[:300] for line in lines)])
    return "\n  ".join(["the end of its console:", *machine.console_text().strip().splitlines()[-15:]])
