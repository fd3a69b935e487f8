"""Proves an image: boots a layer over it with the small user-data, asks every domain, looks inside; twice."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from builder import host as hosts
from builder import process, userdata
from builder.lab import cache
from builder.lab import plan as plans
from builder.lab.signals import terminable
from builder.packer.watch import Ended, Line, Started, Told
from builder.problems import UserError
from builder.qemu import archives, client, inspect
from builder.qemu.vm import Order, Vm

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from builder.lab.events import Site
    from builder.qemu.accel import Accelerator
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

    With `bring` the archives that the spec names are on a disk beside the image, for an image without them;
    without `internet` nothing can be pulled.
    """

    image: Path
    spec: Spec
    bring: bool = True
    internet: bool = True
    firmware: Firmware = "bios"
    memory: int = 2048
    accelerator: Accelerator | None = None
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


def verify(trial: Trial) -> Generator[Told, None, Proof]:
    """Boot twice and look; raises UserError with everything that is wrong. The image itself stays untouched."""
    cache.root().mkdir(parents=True, exist_ok=True)
    with terminable(), tempfile.TemporaryDirectory(prefix="verify-", dir=cache.root()) as aside:
        key = Path(aside, "key")
        process.run(client.keygen(key))
        spec = local(trial.spec, key.with_suffix(".pub").read_text().strip())
        with Vm(trial.image, _order(trial, spec, key, Path(aside))) as vm:
            answers: list[Answer] = []
            ready: list[float] = []
            for number, name in enumerate(_BOOTS, start=1):
                if number > 1:
                    yield from _phase("power off", vm.poweroff)
                boot = _Boot(vm, spec, number, time.monotonic(), trial.timeout)
                ready.append((yield from boot.up(name)))
                answers += yield from boot.answers(name, Path(aside))
                yield from boot.look(name)
            return Proof(tuple(answers), tuple(ready))


def local(spec: Spec, key: str) -> Spec:
    """The spec for a machine that only this one reaches: one more key, its own CA, SSH from the gateway."""
    return replace(
        spec,
        admin=replace(spec.admin, ssh_keys=(*spec.admin.ssh_keys, key)),
        tls=replace(spec.tls, ca="internal", ca_root=None),
        ssh=replace(spec.ssh, allow_from=(*spec.ssh.allow_from, _GATEWAY)),
    )


def _order(trial: Trial, spec: Spec, key: Path, aside: Path) -> Order:
    disk = archives.disk(spec, aside) if trial.bring else None
    return Order(
        arch=spec.server.arch,
        firmware=trial.firmware,
        user_data=userdata.cloud_config(spec, hosts.build(spec), "baked"),
        vendor_data=archives.VENDOR_DATA if disk else None,
        name=spec.server.name,
        memory=trial.memory,
        internet=trial.internet,
        drives=(disk,) if disk else (),
        accelerator=trial.accelerator,
        key=key,
        user=spec.admin.name,
    )


def _phase(name: str, work: Callable[[], T]) -> Generator[Told, None, T]:
    yield Started(name)
    since = time.monotonic()
    result = work()
    yield Ended(name, time.monotonic() - since)
    return result


class _Boot:
    """One power-on of the machine, until all has been seen."""

    def __init__(self, vm: Vm, spec: Spec, number: int, power_on: float, timeout: float) -> None:
        self._vm = vm
        self._spec = spec
        self._number = number
        self._power_on = power_on
        self._said_before = vm.console.stat().st_size
        self._deadline = power_on + timeout

    @property
    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 1)

    def up(self, name: str) -> Generator[Told, None, float]:
        """Power on, until the host says that it is ready; the seconds that took."""
        yield from _phase(f"{name} boot", self._until_ready)
        return time.monotonic() - self._power_on

    def _until_ready(self) -> None:
        self._vm.boot()
        self._vm.wait(self._ready, timeout=self._left, what="all stacks to answer")

    def _ready(self) -> bool:
        said = self._vm.console_text(self._said_before)
        if _NOT_READY in said:
            raise UserError(f"the host {said[said.index(_NOT_READY) + 12 :].splitlines()[0]}")
        return READY in said

    def answers(self, name: str, aside: Path) -> Generator[Told, None, list[Answer]]:
        """Ask every domain over HTTPS, until it has answered."""
        sites = tuple(plans.sites(self._spec))
        if not sites:
            return []
        ca = aside / "ca.crt"
        ca.write_text(self._vm.ssh(f"sudo cat {plans.CA}").stdout)
        found: list[Answer] = []
        step = f"{name} answers"
        yield Started(step)
        since = time.monotonic()
        for site in sites:
            found.append(self._answer(site, ca))
            yield Line(f"https://{site.domain}/ answered {found[-1].status}")
        yield Ended(step, time.monotonic() - since)
        return found

    def _answer(self, site: Site, ca: Path) -> Answer:
        def asked() -> int:
            status = self._vm.https_status(site.domain, ca)
            return status if status < _NOT_YET else 0

        status = self._vm.wait(asked, timeout=self._left, what=f"https://{site.domain}/ to answer")
        return Answer(self._number, site.domain, status, time.monotonic() - self._power_on)

    def look(self, name: str) -> Generator[Told, None, None]:
        """Look inside, when nothing is left to start."""
        faults = yield from _phase(f"{name} look inside", lambda: inspect.faults(self._vm, timeout=self._left))
        if faults:
            raise UserError(f"after its {name} boot the host is not as it should be:\n  " + "\n  ".join(faults))
