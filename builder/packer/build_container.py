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
from builder.packer import run, work_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from builder.lab.events import Progress
    from builder.packer.artifact import Contents
    from builder.packer.run import Bake

# The name of the source's file, and what the template's variable `source` is to be.
SOURCE: Final = "container"
LABEL: Final = "null.host"
_BOOT_SECONDS: Final = 120.0


def check() -> None:
    """Raise one UserError for what is missing here to boot a container, or return."""
    requirements.check_booting()


def variables(values: Mapping[str, Any]) -> dict[str, Any]:
    """The template's values for a container, from those for a virtual machine; the address is known when it is on."""
    kept = {name: values[name] for name in ("name", "base", "arch", "tags") if name in values}
    return {**kept, "source": LABEL, "ssh_private_key_file": work_directory.KEY}


def build(
    bake: Bake, disk: Path, size: str, user_data: bytes, check_contents: Callable[[Path], Contents]
) -> Generator[Progress, None, tuple[Path, Contents]]:
    """Boot the disk's root, run Packer in it, switch it off, and check it while it is still mounted.

    Returns the raw disk, baked, and its contents. `size` is the disk's for the image, such as 10G; empty leaves it.
    """
    raw = bake.work.root / "disk.raw"
    yield from bake.clock.step("copy", lambda: _copy(disk, raw, size))
    with Machine(raw, user_data, name="localhost") as machine:
        yield from bake.clock.step("container", lambda: _boot(machine))
        run.write_files(bake.job, bake.work, ssh_host=machine.ipv4)
        yield from bake.clock.follow(run.build(bake.job, bake.work, bake.log, bake.report))
        yield from bake.clock.step("shut down", lambda: _shut_down(machine))
        contents = yield from bake.clock.step("check", lambda: check_contents(machine.files.tree))
        machine.eject()
    return raw, contents


def _copy(disk: Path, raw: Path, size: str) -> None:
    images.convert(disk, raw, to="raw")
    if size:
        process.run(["qemu-img", "resize", "-q", "-f", "raw", str(raw), size])


def _boot(machine: Machine) -> None:
    machine.boot()
    machine.wait(machine.systemd_up, timeout=_BOOT_SECONDS, what="systemd")


def _shut_down(machine: Machine) -> None:
    machine.poweroff(timeout=_BOOT_SECONDS)
    machine.remove_lab_files()
