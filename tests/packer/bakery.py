"""Bakes as Packer does, without it: the steps run in order in a booted machine; its disk is copied when it is off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder import data, process
from builder.lab import base, disk
from builder.lab.machine import Machine
from builder.packer import payload

if TYPE_CHECKING:
    from pathlib import Path

    from builder.packer.payload import Payload

UPLOAD: Final = "/var/tmp/er-bake"
FIRST: Final = "10-wait"
# The seed and the resolver of the lab are no part of an image; a machine that is laid out brings its own.
_LAB: Final = ("/etc/cloud/cloud.cfg.d/99-lab.cfg", "/etc/systemd/resolved.conf.d/50-lab.conf", "/var/lib/cloud/seed")


def steps() -> tuple[Path, ...]:
    """The steps of a bake, in order."""
    return tuple(sorted(path for path in (data.tree("images") / "steps").iterdir() if path.is_file()))


def run(machine: Machine, step: Path) -> str:
    """Run one step as Packer does: from memory, by root. Returns what it said."""
    argv = machine.argv(["sh", "-c", 'cat >/dev/shm/step && sh /dev/shm/step; code=$?; rm /dev/shm/step; exit "$code"'])
    return process.run(argv, stdin=step.read_bytes(), timeout=900).stdout


def upload(machine: Machine, wanted: Payload, scratch: Path) -> None:
    """Bring the upload to where the first step made room for it."""
    payload.write(wanted, scratch)
    process.run(["cp", "--recursive", f"{scratch}/.", str(machine.path(UPLOAD))])


def bake(wanted: Payload, target: Path, scratch: Path) -> dict[str, str]:
    """Bake a stock image; `target` is the tree that comes out. Returns what each step said."""
    said = {}
    with Machine(base.tree(), b"#cloud-config\nusers: []\n", name="bake") as machine:
        machine.boot_and_wait()
        for step in steps():
            if step.name > FIRST and not scratch.exists():
                upload(machine, wanted, scratch)
            said[step.name] = run(machine, step)
        machine.poweroff()
        copy(machine, target)
    return said


def copy(machine: Machine, target: Path) -> None:
    """The disk of a machine that is off, as a tree."""
    process.run(["cp", "--archive", f"{machine.files.tree}/.", f"{target}/"])
    for path in disk.REAL:
        (target / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        process.run(["cp", "--archive", f"{machine.disk.top(path)}/.", str(target / path.lstrip("/"))])
    for path in _LAB:
        process.run(["rm", "-rf", str(target / path.lstrip("/"))])
