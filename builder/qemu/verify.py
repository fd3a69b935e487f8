"""Proves an image: boots an overlay of it twice with the small user-data, asks every domain, and checks the host.

The first boot is in a virtual machine, by the disk's own boot loader and kernel. The second one may be in a container,
from the disk as a cut of power has left it: what differs in a second boot needs no kernel of its own.
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
from builder.lab import trial
from builder.lab.events import Ended, Line, Note, Progress, Started
from builder.lab.machine import Machine
from builder.localhost import cache
from builder.problems import UserError
from builder.process import terminable
from builder.qemu import acceleration, seed
from builder.qemu.machine import Settings, Vm
from builder.qemu.power import SILENCE, SilentError, silent
from builder.spec import open_to_all

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping

    from builder.lab.trial import Site
    from builder.qemu.acceleration import Accelerator
    from builder.qemu.hardware import Firmware
    from builder.spec import Spec


T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Which image to prove for which spec, and how. `timeout` is for each boot, in seconds, until all has answered.

    `first` and `second` say where the boots happen: both in a container is for an image that its own kernel has booted
    before. With `bring` the archives that the spec names are on a second disk, for an image without them; without
    `internet` nothing can be pulled. `memory` is in MiB.
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


def verify(request: Request) -> Generator[Progress, None, Proof]:
    """Boot twice and check; raises UserError with everything that is wrong. The image itself stays untouched.

    Where the machine hangs under its accelerator without a word, it is all done once more, emulated.
    """
    arch = request.spec.server.arch
    chosen = request.accelerator or acceleration.accelerator(arch, partial(kernel, "debian-13", arch))
    try:
        return (yield from _boot_twice(replace(request, accelerator=chosen)))
    except SilentError as error:
        if chosen.emulated:
            raise
        yield Note(f"{error.message}: once more, emulated")
    return (yield from _boot_twice(replace(request, accelerator=acceleration.emulation(arch))))


def _boot_twice(request: Request) -> Generator[Progress, None, Proof]:
    cache.root().mkdir(parents=True, exist_ok=True)
    with terminable(), tempfile.TemporaryDirectory(prefix="verify-", dir=cache.root()) as name:
        directory = Path(name)
        key = directory / "key"
        process.run(keygen_argv(key))
        given = seed.without_built(request.spec) if request.bring else request.spec
        spec = for_this_machine(given, key.with_suffix(".pub").read_text().strip())
        if request.first == "container":
            return (yield from _both_in_containers(spec, request, directory))
        with Vm(request.image, _settings(request, spec, key, directory)) as vm:
            boot = _Boot(vm, spec, 1, request, directory)
            results = [(yield from boot.check())]
            if request.second == "machine":
                yield from _step("power off", vm.poweroff)
                results.append((yield from _Boot(vm, spec, 2, request, directory).check()))
            else:
                # Quicker than to shut down, which takes half a minute emulated; the inspection has synced the disk.
                yield from _step("power cut", vm.cut)
                results.append((yield from _second_in_container(vm, spec, request, directory)))
        return _proof(results)


def keygen_argv(key: Path) -> list[str]:
    """A key pair for one run."""
    return ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "er-verify", "-f", str(key)]


def _proof(results: Iterable[tuple[list[Answer], float]]) -> Proof:
    both = tuple(results)
    return Proof(tuple(answer for answers, _ in both for answer in answers), tuple(ready for _, ready in both))


def _both_in_containers(spec: Spec, request: Request, directory: Path) -> Generator[Progress, None, Proof]:
    """Both boots in a container, from a copy of the image, which starts its own init as its kernel would."""
    raw = directory / "copy.raw"
    yield from _step("copy", lambda: images.convert(request.image, raw, to="raw"))
    user_data = userdata.cloud_config(spec, hosts.build(spec), "baked")
    with Machine(raw, user_data, name=spec.server.name, internet=request.internet) as machine:
        host = _Container(machine)
        first = yield from _Boot(host, spec, 1, request, directory).check()
        yield from _step("power off", machine.poweroff)
        return _proof((first, (yield from _Boot(host, spec, 2, request, directory).check())))


def _second_in_container(
    vm: Vm, spec: Spec, request: Request, directory: Path
) -> Generator[Progress, None, tuple[list[Answer], float]]:
    """The second boot in a container, from a copy of the machine's disk; cloud-init finds the same instance."""
    raw = directory / "second.raw"
    yield from _step("copy", lambda: images.convert(vm.disk, raw, to="raw"))
    user_data = vm.settings.user_data or b""
    with Machine(raw, user_data, name=spec.server.name, instance=vm.instance, internet=request.internet) as machine:
        return (yield from _Boot(_Container(machine), spec, 2, request, directory).check())


# The source address of forwarded connections in QEMU's user network.
_GATEWAY: Final = "10.0.2.2/32"


def for_this_machine(spec: Spec, key: str) -> Spec:
    """The spec changed for a machine that only this one reaches: one more key, its own CA, SSH from QEMU's gateway.

    It has no disk for data: the same directories are on its own. No edge stands before it, and it is one of no fleet.
    """
    return replace(
        open_to_all(spec),
        admin=replace(spec.admin, ssh_keys=(*spec.admin.ssh_keys, key)),
        tls=replace(spec.tls, ca="internal", ca_root=None, storage=None),
        ssh=replace(spec.ssh, allow_from=(*spec.ssh.allow_from, _GATEWAY)),
        data=None,
        fleet=None,
    )


def _settings(request: Request, spec: Spec, key: Path, directory: Path) -> Settings:
    disk = seed.archives_disk(spec, directory) if request.bring else None
    return Settings(
        arch=spec.server.arch,
        firmware=request.firmware,
        user_data=userdata.cloud_config(spec, hosts.build(spec), "baked"),
        vendor_data=seed.VENDOR_DATA if disk else None,
        name=spec.server.name,
        memory=request.memory,
        internet=request.internet,
        drives=(disk,) if disk else (),
        accelerator=request.accelerator,
        key=key,
        user=spec.admin.name,
    )


def _step(name: str, work: Callable[[], T]) -> Generator[Progress, None, T]:
    yield Started(name)
    since = time.monotonic()
    result = work()
    yield Ended(name, time.monotonic() - since)
    return result


class _Host(Protocol):
    """What the checks need of a host: a virtual machine has it, and `_Container`."""

    def boot(self) -> None: ...
    def wait(self, condition: Callable[[], T], *, timeout: float, what: str) -> T: ...
    def console_text(self, since: int = 0) -> str: ...
    def read(self, path: str) -> str: ...
    def python(self, script: str, *, timeout: float) -> str: ...
    def https_status(self, domain: str, ca: Path) -> int: ...


class _Container:
    """A container, checked as a virtual machine is."""

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
        return trial.https_status(domain, self._machine.ipv4, 443, ca)


_NOT_READY: Final = "easyrunner: not ready"
_BOOTS: Final = ("first", "second")


class _Boot:
    """One boot, until all has answered and the host has been checked."""

    def __init__(self, host: _Host, spec: Spec, number: int, request: Request, directory: Path) -> None:
        self._host = host
        self._spec = spec
        self._number = number
        self._request = request
        self._fast = request.accelerator is not None and not request.accelerator.emulated
        self._ca = directory / f"ca-{number}.crt"
        self._console_before = len(host.console_text())
        self._power_on = time.monotonic()
        self._deadline = self._power_on + request.timeout

    @property
    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 1)

    @property
    def _since(self) -> float:
        return time.monotonic() - self._power_on

    def check(self) -> Generator[Progress, None, tuple[list[Answer], float]]:
        """Power on, until the host says that it is ready, every domain has answered, and nothing is left to start.

        Returns the answers, and the seconds until it was ready.
        """
        name = _BOOTS[self._number - 1]
        yield from _step(f"{name} boot", self._until_ready)
        ready = self._since
        answers = yield from self._answers(f"{name} answers")
        faults = yield from _step(f"{name} look inside", self._faults)
        if faults:
            raise UserError(f"after its {name} boot the host is not as it should be:\n  " + "\n  ".join(faults))
        return answers, ready

    def _until_ready(self) -> None:
        self._host.boot()
        self._host.wait(self._ready, timeout=self._left, what="all stacks to answer")

    def _ready(self) -> bool:
        text = self._host.console_text(self._console_before)
        if self._fast and self._since > SILENCE and silent(text):
            raise SilentError.after(SILENCE)
        if _NOT_READY in text:
            raise UserError(f"the host {text[text.index(_NOT_READY) + 12 :].splitlines()[0]}")
        return trial.READY in text

    def _answers(self, step: str) -> Generator[Progress, None, list[Answer]]:
        """Ask every domain over HTTPS, until it has answered."""
        sites = tuple(trial.sites(self._spec))
        if not sites:
            return []
        self._ca.write_text(self._host.read(trial.CA))
        found: list[Answer] = []
        yield Started(step)
        since = time.monotonic()
        for site in sites:
            found.append(self._answer(site))
            yield Line(f"https://{site.domain}/ answered {found[-1].status}")
        yield Ended(step, time.monotonic() - since)
        return found

    def _answer(self, site: Site) -> Answer:
        def ask() -> int:
            return trial.from_app(site, self._host.https_status(site.domain, self._ca))

        status = self._host.wait(ask, timeout=self._left, what=f"https://{site.domain}/ to answer")
        return Answer(self._number, site.domain, status, self._since)

    def _faults(self) -> tuple[str, ...]:
        later = self._number == 1 and self._request.first != self._request.second
        script = inspection(settled=not later)
        return faults(self._host.python(script, timeout=self._left))


# Question -> command line. One script asks all.
QUESTIONS: Final = {
    "state": "systemctl is-system-running --wait",
    "failed": "systemctl --failed --plain --no-legend --no-pager",
    # It may just be loading the rules once more, as at the end of cloud-init.
    "firewall unit": "for _ in $(seq 600); do s=$(systemctl is-active er-firewall.service); "
    'case $s in activating|reloading) sleep 0.2;; *) break;; esac; done; echo "$s"',
    "iptables": "sudo iptables -S",
    "ip6tables": "sudo ip6tables -S",
    "nat": "sudo iptables -t nat -S",
    "listeners": "ss -Hltun",
}
_UNASKED: Final = "not asked"
_POLICIES: Final = ("-P INPUT DROP", "-P FORWARD DROP")
_LOOPBACK: Final = ("127.", "[::1]", "[::ffff:127.")
# Who may listen. On every address: SSH, the proxy behind its redirect and the client sides of DHCP. On the loopback:
# DNS, NTP and the proxy's admin API.
_EVERYWHERE: Final = {
    ("tcp", facts.SSH),
    ("tcp", facts.PROXY_HTTP),
    ("tcp", facts.PROXY_HTTPS),
    ("udp", facts.PROXY_HTTPS),
    ("udp", 68),
    ("udp", 546),
}
_LOOPBACK_ONLY: Final = {("tcp", 53), ("udp", 53), ("udp", 323), ("tcp", facts.PROXY_ADMIN)}
# Above this, a UDP socket without a peer is a client's: the default of net.ipv4.ip_local_port_range.
_EPHEMERAL: Final = 32_768


def faults(output: str) -> tuple[str, ...]:
    """Everything that is not as on a good host; empty for a good one. `output` is what `inspection` printed."""
    return tuple(judge(json.loads(output)))


def inspection(*, settled: bool = True) -> str:
    """A Python program for the host: it asks all questions and prints the answers as JSON.

    Unless `settled` it does not wait for the last job of the boot. What the host has written so far survives a cut of
    power after it: another login for that would take an emulated machine seconds.
    """
    questions = QUESTIONS if settled else {**QUESTIONS, "state": f"echo {_UNASKED}"}
    return f"""
import json, os, subprocess
questions = json.loads({json.dumps(json.dumps(questions))})
def ask(line):
    return subprocess.run(line, shell=True, capture_output=True, text=True).stdout.strip()
print(json.dumps({{name: ask(line) for name, line in questions.items()}}))
os.sync()
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
        loopback = address.startswith(_LOOPBACK)
        if (protocol, port) in _EVERYWHERE or (loopback and (protocol, port) in _LOOPBACK_ONLY):
            continue
        if not (protocol == "udp" and port >= _EPHEMERAL):
            yield f"somebody listens on {protocol} {local}"
