"""Bakes on this machine without a virtual machine: the disk's root is booted as a container, and Packer works in it.

The same disk, Packer, steps and checks as in a virtual machine, at this machine's own speed. The disk's kernel and boot
loader run for the first time when the image is proved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.disk import image_file as images
from builder.lab.machine import Machine
from builder.localhost import requirements
from builder.packer import base_image, work_directory
from builder.packer import run as jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from builder.packer.artifact import Inside
    from builder.packer.base_image import Stock
    from builder.packer.progress import Run
    from builder.packer.run import Told

# The name of the source's file, and what the template's variable `source` is to be.
SOURCE: Final = "container"
LABEL: Final = "null.host"
_BOOT: Final = 120.0


def check() -> None:
    """Raise one UserError for what is lacking here to boot a container, or return."""
    requirements.check_booting()


def variables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The template's values for a container, from those for a virtual machine; the address is known when it is on."""
    kept = {name: values[name] for name in ("name", "base", "arch", "tags") if name in values}
    return {**kept, "source": LABEL, "ssh_private_key_file": work_directory.KEY}


def bake(
    run: Run, disk: Stock, size: str, look: Callable[[Path], Inside]
) -> Generator[Told, None, tuple[Path, Inside]]:
    """Boot the disk's root, have Packer work in it, switch it off, and look at it while it is still mounted.

    Returns the raw disk, baked, and what was seen. `size` is the disk's for the image, such as 10G; empty leaves it.
    """
    raw = run.places.root / "disk.raw"
    key = run.places.root / work_directory.KEY
    yield from run.clock.phase("copy", lambda: _copy(disk.path, raw, size))
    public = base_image.keygen(key)
    with Machine(raw, base_image.user_data(public), name="localhost") as machine:
        yield from run.clock.phase("container", lambda: _boot(machine))
        jobs.lay(run.job, run.places, ssh_host=machine.ipv4)
        yield from run.clock.through(jobs.run(run.job, run.places, run.log, run.tell))
        yield from run.clock.phase("shut down", lambda: _shut_down(machine))
        seen = yield from run.clock.phase("check", lambda: look(machine.files.tree))
        machine.eject()
    return raw, seen


def _copy(disk: Path, raw: Path, size: str) -> None:
    images.convert(disk, raw, to="raw")
    if size:
        process.run(["qemu-img", "resize", "-q", "-f", "raw", str(raw), size])


def _boot(machine: Machine) -> None:
    machine.boot()
    machine.wait(machine.systemd_up, timeout=_BOOT, what="systemd")


def _shut_down(machine: Machine) -> None:
    machine.poweroff(timeout=_BOOT)
    machine.remove_lab_files()
