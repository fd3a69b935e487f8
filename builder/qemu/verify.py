"""Proves an image: boots a layer over it with the small user-data, asks every domain, looks inside; twice.

The first boot is a virtual machine's, by the disk's own boot loader and kernel. The second one may be a container's,
from the disk as a cut of power has left it: what is new in it needs no kernel of its own.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar

from builder import facts, process, userdata
from builder import host as hosts
from builder.disk import image_file as images
from builder.disk import kernel
from builder.lab import trial as plans
from builder.lab.events import Ended, Line, Note, Progress, Started
from builder.lab.machine import Machine
from builder.localhost import cache
from builder.problems import UserError
from builder.process import terminable
from builder.qemu import acceleration, access, seed
from builder.qemu.access import SILENCE, SilentError, silent
from builder.qemu.machine import Order, Vm

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from builder.lab.trial import Site
    from builder.qemu.acceleration import Accelerator
    from builder.qemu.hardware import Firmware
    from builder.spec import Spec


T = TypeVar("T")
READY: Final = "easyrunner: ready"
_NOT_READY: Final = "easyrunner: not ready"
# Where QEMU's user network says that a forwarded connection comes from.
_GATEWAY: Final = "10.0.2.2/32"
# Anything less is the app's own word; above, the proxy says that the app is not there yet.
_NOT_YET: Final = 500
_BOOTS: Final = ("first", "second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What to prove, and how. `timeout` is for each boot, in seconds, until all has answered.

    `first` and `second` are what the boots are in: both in a container is for an image that has been booted by its own
    kernel before. With `bring` the archives that the spec names are on a disk beside the image, for an image without
    them; without `internet` nothing can be pulled.
    """

    image: Path
    spec: Spec
    bring: bool = True
    internet: bool = True
    firmware: Firmware = "bios"
    memory: int = 2048
    accelerator: Accelerator | None = None
    first: Literal["machine", "container"] = "machine"
    second: Literal["machine", "container"] = "machine"
    timeout: float = 900


@dataclass(frozen=True, slots=True)
class Answer:
    """What a domain answered in a boot, 1 or 2, so many seconds after power-on."""

    boot: int
    domain: str
    status: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Proof:
    """The image serves, twice. `ready` is the seconds from power-on to the ready line, by boot."""

    answers: tuple[Answer, ...]
    ready: tuple[float, ...]


def verify(trial: Trial) -> Generator[Progress, None, Proof]:
    """Boot twice and look; raises UserError with everything that is wrong. The image itself stays untouched.

    Where the accelerator lets the machine hang without a word, it is all done once more, emulated.
    """
    arch = trial.spec.server.arch
    chosen = trial.accelerator or acceleration.accelerator(arch, partial(kernel, "debian-13", arch))
    try:
        return (yield from _proven(replace(trial, accelerator=chosen)))
    except SilentError as error:
        if chosen.emulated:
            raise
        yield Note(f"{error.message}: once more, emulated")
    return (yield from _proven(replace(trial, accelerator=acceleration.emulation(arch))))


def _proven(trial: Trial) -> Generator[Progress, None, Proof]:
    cache.root().mkdir(parents=True, exist_ok=True)
    with terminable(), tempfile.TemporaryDirectory(prefix="verify-", dir=cache.root()) as name:
        aside = Path(name)
        key = aside / "key"
        process.run(access.keygen(key))
        spec = local(trial.spec, key.with_suffix(".pub").read_text().strip())
        if trial.first == "container":
            return (yield from _in_containers(spec, trial, aside))
        with Vm(trial.image, _order(trial, spec, key, aside)) as vm:
            boot = _Boot(vm, spec, 1, trial, aside)
            seen = [(yield from boot.seen())]
            if trial.second == "machine":
                yield from _phase("power off", vm.poweroff)
                seen.append((yield from _Boot(vm, spec, 2, trial, aside).seen()))
            else:
                yield from _phase("power cut", partial(_cut, vm))
                seen.append((yield from _in_container(vm, spec, trial, aside)))
        return _proof(seen)


def _proof(seen: Iterable[tuple[list[Answer], float]]) -> Proof:
    both = tuple(seen)
    return Proof(tuple(answer for answers, _ in both for answer in answers), tuple(ready for _, ready in both))


def _in_containers(spec: Spec, trial: Trial, aside: Path) -> Generator[Progress, None, Proof]:
    """Both boots, from a copy of the image, which starts its own init as its kernel would."""
    raw = aside / "copy.raw"
    yield from _phase("copy", lambda: images.convert(trial.image, raw, to="raw"))
    user_data = userdata.cloud_config(spec, hosts.build(spec), "baked")
    with Machine(raw, user_data, name=spec.server.name, internet=trial.internet) as machine:
        host = _Container(machine)
        first = yield from _Boot(host, spec, 1, trial, aside).seen()
        yield from _phase("power off", machine.poweroff)
        return _proof((first, (yield from _Boot(host, spec, 2, trial, aside).seen())))


def _cut(vm: Vm) -> None:
    """What a host has written survives that, and a shutdown in order takes half a minute emulated."""
    vm.ssh("sync")
    vm.cut()


def _in_container(
    vm: Vm, spec: Spec, trial: Trial, aside: Path
) -> Generator[Progress, None, tuple[list[Answer], float]]:
    """The second boot, from a copy of the machine's disk; cloud-init finds the same instance."""
    raw = aside / "second.raw"
    yield from _phase("copy", lambda: images.convert(vm.disk, raw, to="raw"))
    user_data = vm.order.user_data or b""
    with Machine(raw, user_data, name=spec.server.name, instance=vm.instance, internet=trial.internet) as machine:
        return (yield from _Boot(_Container(machine), spec, 2, trial, aside).seen())


def local(spec: Spec, key: str) -> Spec:
    """The spec for a machine that only this one reaches: one more key, its own CA, SSH from the gateway."""
    return replace(
        spec,
        admin=replace(spec.admin, ssh_keys=(*spec.admin.ssh_keys, key)),
        tls=replace(spec.tls, ca="internal", ca_root=None),
        ssh=replace(spec.ssh, allow_from=(*spec.ssh.allow_from, _GATEWAY)),
    )


def _order(trial: Trial, spec: Spec, key: Path, aside: Path) -> Order:
    disk = seed.disk(spec, aside) if trial.bring else None
    return Order(
        arch=spec.server.arch,
        firmware=trial.firmware,
        user_data=userdata.cloud_config(spec, hosts.build(spec), "baked"),
        vendor_data=seed.VENDOR_DATA if disk else None,
        name=spec.server.name,
        memory=trial.memory,
        internet=trial.internet,
        drives=(disk,) if disk else (),
        accelerator=trial.accelerator,
        key=key,
        user=spec.admin.name,
    )


def _phase(name: str, work: Callable[[], T]) -> Generator[Progress, None, T]:
    yield Started(name)
    since = time.monotonic()
    result = work()
    yield Ended(name, time.monotonic() - since)
    return result


class _Host(Protocol):
    """What a boot is seen through: a virtual machine, or a container."""

    def boot(self) -> None: ...
    def wait(self, condition: Callable[[], T], *, timeout: float, what: str) -> T: ...
    def console_text(self, since: int = 0) -> str: ...
    def read(self, path: str) -> str: ...
    def python(self, script: str, *, timeout: float) -> str: ...
    def https_status(self, domain: str, ca: Path) -> int: ...


class _Container:
    """A container, seen as a virtual machine is."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.boot = machine.boot

    def wait(self, condition: Callable[[], T], *, timeout: float, what: str) -> T:
        return self._machine.wait(condition, timeout=timeout, what=what)

    def console_text(self, since: int = 0) -> str:
        return self._machine.console_text()[since:]

    def read(self, path: str) -> str:
        return self._machine.files.path(path).read_text()

    def python(self, script: str, *, timeout: float) -> str:
        return self._machine.run(["python3", "-"], stdin=script.encode(), timeout=timeout).stdout

    def https_status(self, domain: str, ca: Path) -> int:
        return access.https_status(domain, self._machine.ipv4, 443, ca)


class _Boot:
    """One power-on, until all has been seen."""

    def __init__(self, host: _Host, spec: Spec, number: int, trial: Trial, aside: Path) -> None:
        self._host = host
        self._spec = spec
        self._number = number
        self._trial = trial
        self._fast = trial.accelerator is not None and not trial.accelerator.emulated
        self._ca = aside / f"ca-{number}.crt"
        self._said_before = len(host.console_text())
        self._power_on = time.monotonic()
        self._deadline = self._power_on + trial.timeout

    @property
    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 1)

    @property
    def _since(self) -> float:
        return time.monotonic() - self._power_on

    def seen(self) -> Generator[Progress, None, tuple[list[Answer], float]]:
        """Power on, until the host says that it is ready, every domain has answered, and nothing is left to start.

        Returns the answers, and the seconds until it was ready.
        """
        name = _BOOTS[self._number - 1]
        yield from _phase(f"{name} boot", self._until_ready)
        ready = self._since
        answers = yield from self._answers(f"{name} answers")
        faults = yield from _phase(f"{name} look inside", self._faults)
        if faults:
            raise UserError(f"after its {name} boot the host is not as it should be:\n  " + "\n  ".join(faults))
        return answers, ready

    def _until_ready(self) -> None:
        self._host.boot()
        self._host.wait(self._ready, timeout=self._left, what="all stacks to answer")

    def _ready(self) -> bool:
        said = self._host.console_text(self._said_before)
        if self._fast and self._since > SILENCE and silent(said):
            raise SilentError.after(SILENCE)
        if _NOT_READY in said:
            raise UserError(f"the host {said[said.index(_NOT_READY) + 12 :].splitlines()[0]}")
        return READY in said

    def _answers(self, step: str) -> Generator[Progress, None, list[Answer]]:
        """Ask every domain over HTTPS, until it has answered."""
        sites = tuple(plans.sites(self._spec))
        if not sites:
            return []
        self._ca.write_text(self._host.read(plans.CA))
        found: list[Answer] = []
        yield Started(step)
        since = time.monotonic()
        for site in sites:
            found.append(self._answer(site))
            yield Line(f"https://{site.domain}/ answered {found[-1].status}")
        yield Ended(step, time.monotonic() - since)
        return found

    def _answer(self, site: Site) -> Answer:
        def asked() -> int:
            status = self._host.https_status(site.domain, self._ca)
            return status if status < _NOT_YET else 0

        status = self._host.wait(asked, timeout=self._left, what=f"https://{site.domain}/ to answer")
        return Answer(self._number, site.domain, status, self._since)

    def _faults(self) -> tuple[str, ...]:
        later = self._number == 1 and self._trial.first != self._trial.second
        script = inspection(settled=not later)
        return faults(self._host.python(script, timeout=self._left))


# Question -> command line. All are asked in one visit.
QUESTIONS: Final = {
    "state": "systemctl is-system-running --wait",
    "failed": "systemctl --failed --plain --no-legend --no-pager",
    "firewall unit": "systemctl is-active er-firewall.service",
    "iptables": "sudo iptables -S",
    "ip6tables": "sudo ip6tables -S",
    "nat": "sudo iptables -t nat -S",
    "listeners": "ss -Hltun",
}
_UNASKED: Final = "not asked"
_POLICIES: Final = ("-P INPUT DROP", "-P FORWARD DROP")
_LOOPBACK: Final = ("127.", "[::1]", "[::ffff:127.")
# Who may listen: to the world SSH, the proxy behind its redirect and the client sides of DHCP; to the host itself DNS
# and the proxy's admin.
_WORLD: Final = {
    ("tcp", facts.SSH),
    ("tcp", facts.PROXY_HTTP),
    ("tcp", facts.PROXY_HTTPS),
    ("udp", facts.PROXY_HTTPS),
    ("udp", 68),
    ("udp", 546),
}
_OWN: Final = {("tcp", 53), ("udp", 53), ("udp", 323), ("tcp", facts.PROXY_ADMIN)}
# Above this, a UDP socket without a peer is a client's: the default of net.ipv4.ip_local_port_range.
_EPHEMERAL: Final = 32_768


def faults(said: str) -> tuple[str, ...]:
    """Everything that is not as on a good host; empty for a good one. `said` is what the script has printed there."""
    return tuple(judge(json.loads(said)))


def inspection(*, settled: bool = True) -> str:
    """Asks all questions there and prints the answers as JSON; not `settled` does not wait for the boot's last job."""
    questions = QUESTIONS if settled else {**QUESTIONS, "state": f"echo {_UNASKED}"}
    return f"""
import json, subprocess
questions = json.loads({json.dumps(json.dumps(questions))})
def ask(line):
    return subprocess.run(line, shell=True, capture_output=True, text=True).stdout.strip()
print(json.dumps({{name: ask(line) for name, line in questions.items()}}))
"""


def judge(answers: Mapping[str, str]) -> Iterator[str]:
    """What is wrong, a line each; `answers` by the names of QUESTIONS."""
    failed = [line.split()[0] for line in answers["failed"].splitlines() if line.strip()]
    yield from (f"the unit {unit} has failed" for unit in failed)
    if answers["state"] not in {"running", _UNASKED} and not failed:
        yield f"systemd says {answers['state']!r}, not running"
    if answers["firewall unit"] != "active":
        yield f"the firewall's unit is {answers['firewall unit']}"
    for family in ("iptables", "ip6tables"):
        rules = answers[family].splitlines()
        yield from (f"{family}: {policy} is not set" for policy in _POLICIES if policy not in rules)
    if f"--to-ports {facts.PROXY_HTTPS}" not in answers["nat"]:
        yield f"nothing leads from {facts.HTTPS} to the proxy"
    yield from _listeners(answers["listeners"])


def _listeners(text: str) -> Iterator[str]:
    for line in sorted(set(text.splitlines())):
        protocol, _, _, _, local, *_ = line.split()
        address, _, number = local.rpartition(":")
        port = int(number)
        own = address.startswith(_LOOPBACK)
        if (protocol, port) in _WORLD or (own and (protocol, port) in _OWN):
            continue
        if not (protocol == "udp" and port >= _EPHEMERAL):
            yield f"somebody listens on {protocol} {local}"
