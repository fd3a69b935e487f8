"""Bakes on this machine, in QEMU: a stock disk in, a proven disk out."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

from builder import host as hosts
from builder import process, qemu
from builder.disk import image as images
from builder.disk import needs
from builder.host.model import Part
from builder.packer import convert, inside, login, stock, workdir
from builder.packer import job as jobs
from builder.packer.deliver import Baked
from builder.qemu import accel, firmware
from builder.qemu import verify as verification

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from builder.packer.clock import Clock
    from builder.packer.order import Order
    from builder.packer.run import Run
    from builder.packer.stock import Stock
    from builder.packer.watch import Told
    from builder.qemu.verify import Proof


def check(order: Order) -> None:
    """Raise one UserError for what is lacking here, or return."""
    stock.check(order.base_image, order.checksum)
    programs = [accel.PROGRAM[order.spec.server.arch], "qemu-img", "mformat", "mcopy", "ssh-keygen", "fuse2fs"]
    needs.check("baking here", [*programs, *order.form.compressor[:1]], root=True, fuse=True)


def variables(order: Order) -> dict[str, Any]:
    """The template's values that do not depend on the disk; paths are in the work directory."""
    found = accelerator(order)
    return {
        **_firmware(order),
        "seed": workdir.SEED,
        "ssh_private_key_file": workdir.KEY,
        "output_directory": workdir.OUTPUT,
        "serial": f"file:{workdir.CONSOLE}",
        # It is converted in any case, and a compressed disk is slower to check and to boot.
        "compress": False,
        "disk_size": order.size,
        "accelerator": found.name,
        "cpu": found.cpu,
        "cpus": accel.processors(order.spec.server.arch, found),
    }


def _firmware(order: Order) -> dict[str, Any]:
    """UEFI for a machine that has no other way to boot; its variables are this bake's own."""
    if order.spec.server.arch == "amd64":
        return {}
    code, _ = firmware.find(order.spec.server.arch)
    flash = [f"if=pflash,format=raw,readonly=on,file={code}", f"if=pflash,format=raw,file={workdir.FLASH}"]
    return {"qemu_args": [["-drive", word] for word in flash]}


def accelerator(order: Order) -> qemu.Accelerator:
    """What was asked for; by default the fastest that works."""
    arch = order.spec.server.arch
    if order.accelerator == "tcg":
        return accel.emulation(arch)
    if order.accelerator == "kvm":
        return qemu.Accelerator("kvm", "kvm", "host")
    return qemu.accelerator(arch)


def bake(run: Run) -> Generator[Told, None, Baked]:
    """Base disk, Packer's run, a look inside, the format that is wanted."""
    order, clock, root = run.order, run.clock, run.places.root
    disk = yield from clock.phase("base disk", lambda: stock.find(order))
    _lay(run, disk)
    yield from clock.through(jobs.run(run.job, run.places, run.log, run.tell))
    made = root / workdir.OUTPUT / order.name
    files = hosts.build(order.spec).only(Part.BAKED)
    found = yield from clock.phase("check", lambda: inside.look(made, files))
    proof = (yield from verify(order, made, clock)) if order.verify else None
    image = yield from clock.phase("convert", lambda: _convert(order, made, root))
    return Baked(
        order.name,
        image,
        inputs=(disk.as_input,),
        packages=found.packages,
        containers=found.containers,
        checks=found.checks,
        versions={"qemu": _version(order)},
        proof=proof,
    )


def verify(order: Order, image: Path, clock: Clock) -> Generator[Told, None, Proof]:
    """Boot it twice with this host's user-data. Images that are not baked in are brought on a disk beside it."""
    trial = verification.Trial(
        image=image.absolute(), spec=order.spec, bring=not order.with_stacks, accelerator=accelerator(order)
    )
    return (yield from clock.through(verification.verify(trial)))


def _lay(run: Run, disk: Stock) -> None:
    jobs.lay(run.job, run.places, disk_image=str(disk.path), disk_image_checksum=disk.checksum)
    if "qemu_args" in run.job.variables:
        _, variables = firmware.find(run.order.spec.server.arch)
        shutil.copyfile(variables, run.places.root / workdir.FLASH)
    login.make(run.places.root / workdir.KEY, run.places.root / workdir.SEED)


def _convert(order: Order, made: Path, root: Path) -> Path:
    """Made aside, in the work directory."""
    aside = root / "image"
    for argv in convert.commands(made, aside, order.form, images.virtual_size(made)):
        process.run(argv)
    made.unlink()
    return aside.with_name(f"{aside.name}{order.form.suffix}")


def _version(order: Order) -> str:
    said = process.run([accel.PROGRAM[order.spec.server.arch], "--version"]).stdout
    found = re.search(r"version (\S+)", said)
    return found[1] if found else ""
