"""Hosts to measure: what a spec needs, prepared once, powered on many times."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder import host, process, userdata
from builder import spec as specs
from builder.host import Part
from builder.lab import base_tree, preload, trial
from builder.lab.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.host import Host
    from builder.lab.trial import Plan
    from builder.spec import Spec

ROOT: Final = Path(__file__).parents[1]
IMAGES: Final = ROOT / ".cache" / "images"
# As provision enables them.
_UNITS: Final = (
    "er-firewall.service",
    "er-first-boot.service",
    "er-rollback.service",
    "er-watch@ssh.service",
    "er-watch@web.service",
    "mount-hardening.service",
)
HELLO: Final = ROOT / "examples" / "hello.yaml"


@dataclass(frozen=True)
class Prepared:
    """A spec whose base tree and images are ready, so that only the host itself is measured."""

    spec: Spec
    host: Host
    plan: Plan
    tree: Path
    preloads: tuple[preload.Preload, ...]

    def machine(self) -> Machine:
        """The host, off."""
        return Machine(self.tree, self.plan.user_data, name=self.plan.name, preloads=self.preloads)

    @contextmanager
    def baked(self) -> Iterator[Machine]:
        """The host on a baked disk, off: what every host has lies on it, the user-data adds this one."""
        user_data = userdata.cloud_config(self.spec, self.host, "baked")
        with Machine(self.tree, user_data, name=self.plan.name, preloads=self.preloads) as machine:
            for file in self.host.only(Part.BAKED):
                machine.files.write(file.path, file.content, int(file.mode, 8))
            enable = ["systemctl", f"--root={machine.files.tree}", "--quiet", "enable"]
            process.run([*enable, *_UNITS])
            yield machine

    def empty(self) -> Machine:
        """The same base tree with an empty cloud-config, off."""
        return Machine(self.tree, name="empty")


def prepare(path: Path, change: Callable[[Spec], Spec] = lambda spec: spec) -> Prepared:
    """Make what is missing of the spec's base tree and images; `change` may make another host of the spec."""
    spec = change(specs.load(path)[0])
    wanted = trial.plan(spec, timeout=300)
    tree = base_tree.tree(wanted.packages)
    return Prepared(spec, host.build(spec), wanted, tree, tuple(preload.prepare(tree, *pair) for pair in wanted.images))


def startup_finished(machine: Machine) -> float:
    """When the machine's systemd had nothing left to start, on this machine's monotonic clock, which it shares."""
    shown = machine.run(["systemctl", "show", "--property=FinishTimestampMonotonic"]).stdout
    return int(shown.strip().partition("=")[2]) / 1e6


def logged(machine: Machine, text: str) -> float:
    """When a line with this text was logged, on the same clock."""
    shown = machine.run(["journalctl", "--boot", "--output=short-monotonic", "--no-pager"], timeout=60).stdout
    line = next(line for line in shown.splitlines() if text in line)
    found = re.match(r"\[\s*([\d.]+)\]", line)
    return float(found[1]) if found else float("nan")
