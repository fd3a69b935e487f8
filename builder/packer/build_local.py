"""Bakes on this machine: a stock disk in, a proven disk out. By Packer in a virtual machine, or in a container."""

from __future__ import annotations

import platform
import re
import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import disk as disks
from builder import host as hosts
from builder import process
from builder.disk import image_file as images
from builder.host.model import Part
from builder.lab.events import Note
from builder.localhost import requirements
from builder.packer import artifact, base_image, build_container, convert, work_directory
from builder.packer import run as jobs
from builder.packer.artifact import Baked
from builder.problems import UserError
from builder.qemu import acceleration, hardware
from builder.qemu import verify as verification
from builder.qemu.acceleration import PROGRAM
from builder.qemu.serial_console import SILENCE, SilentError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from builder.packer.artifact import Inside
    from builder.packer.base_image import Stock
    from builder.packer.progress import Clock, Run
    from builder.packer.request import Request
    from builder.packer.run import Job, Told
    from builder.qemu.acceleration import Accelerator
    from builder.qemu.verify import Proof

_PROGRAMS: Final = ("qemu-img", "mformat", "mcopy", "ssh-keygen", "fuse2fs")
# Of the template's variables, those that follow from the accelerator: the machine that bakes can tell, or has to try.
ACCELERATOR: Final = ("accelerator", "cpu", "cpus")
Builder = Literal["machine", "container"]


def check(order: Request) -> None:
    """Raise one UserError for what is lacking here, or return."""
    base_image.check(order.base_image, order.checksum)
    programs = [PROGRAM[order.spec.server.arch], *_PROGRAMS, *order.form.compressor[:1]]
    requirements.check_programs("baking here", programs, root=True, fuse=True)
    if order.builder == "container":
        if not _native(order):
            arch = order.spec.server.arch
            raise UserError(
                f"a container of {arch} cannot run on this {platform.machine()} machine",
                "leave out --builder container",
            )
        build_container.check()


def variables(order: Request) -> dict[str, Any]:
    """The template's values that do not depend on the disk; paths are in the work directory."""
    return {
        **_firmware(order),
        "seed": work_directory.SEED,
        "ssh_private_key_file": work_directory.KEY,
        "output_directory": work_directory.OUTPUT,
        "serial": f"file:{work_directory.CONSOLE}",
        # It is converted in any case, and a compressed disk is slower to check and to boot.
        "compress": False,
        "disk_size": order.size,
        **(_accelerated(order, found) if (found := _told(order)) else {}),
    }


def _firmware(order: Request) -> dict[str, Any]:
    """UEFI for a machine that has no other way to boot; its variables are this bake's own."""
    if order.spec.server.arch == "amd64":
        return {}
    code, _ = hardware.find_firmware(order.spec.server.arch)
    flash = [f"if=pflash,format=raw,readonly=on,file={code}", f"if=pflash,format=raw,file={work_directory.FLASH}"]
    return {"qemu_args": [["-drive", word] for word in flash]}


def _accelerated(order: Request, found: Accelerator) -> dict[str, Any]:
    cpus = acceleration.processors(order.spec.server.arch, found)
    return dict(zip(ACCELERATOR, (found.name, found.cpu, cpus), strict=True))


def _told(order: Request) -> Accelerator | None:
    """The accelerator that was asked for, if one was."""
    if order.accelerator == "tcg":
        return acceleration.emulation(order.spec.server.arch, "as told")
    return acceleration.native("as told") if order.accelerator == "kvm" else None


def known(order: Request) -> Accelerator | None:
    """The accelerator, where no trial has to be made for it."""
    return _told(order) or acceleration.known(order.spec.server.arch)


def accelerator(order: Request, clock: Clock) -> Generator[Told, None, Accelerator]:
    """What was asked for; by default the faster one, which is tried out once with the base disk's kernel."""
    server = order.spec.server
    if found := known(order):
        return found
    kernel = yield from clock.phase("base disk", lambda: disks.kernel(server.base, server.arch))
    return (yield from clock.phase("accelerator", lambda: acceleration.accelerator(server.arch, lambda: kernel)))


def builder(order: Request, found: Accelerator) -> Builder:
    """What was asked for; by default a container where a virtual machine would be emulated and a container can be."""
    if order.builder != "auto":
        return order.builder
    return "container" if found.emulated and _contained(order) else "machine"


def _contained(order: Request) -> bool:
    """Whether a container of this architecture can be had here."""
    try:
        build_container.check()
    except UserError:
        return False
    return _native(order)


def _native(order: Request) -> bool:
    return requirements.native_arch() == order.spec.server.arch


def placed(job: Job, chosen: Builder) -> Job:
    """The job, for the builder that was chosen."""
    if chosen == "machine":
        return job
    files = work_directory.template(job.packer, build_container.SOURCE)
    return replace(job, files=files, variables=build_container.variables(job.variables))


def bake(run: Run, found: Accelerator, chosen: Builder) -> Generator[Told, None, Baked]:
    """Base disk, Packer's run, a look inside, the format that is wanted."""
    order, clock, root = run.order, run.clock, run.places.root
    yield from clock.through(jobs.init(run.job, run.places, run.log))
    disk = yield from clock.phase("base disk", lambda: base_image.find(order))
    baked = _in_container(run, disk) if chosen == "container" else _in_machine(run, disk, found)
    made, seen = yield from baked
    proof = (yield from verify(order, made, found, clock)) if order.verify else None
    image = yield from clock.phase("convert", lambda: _convert(order, made, root))
    return Baked(
        order.name,
        image,
        inputs=(disk.as_input,),
        packages=seen.packages,
        containers=seen.containers,
        checks=seen.checks,
        versions={"qemu": _version(order)},
        proof=proof,
    )


def _look(run: Run, image: Path) -> Inside:
    return artifact.look(image, hosts.build(run.order.spec).only(Part.BAKED))


def _in_container(run: Run, disk: Stock) -> Generator[Told, None, tuple[Path, Inside]]:
    raw, seen = yield from build_container.bake(run, disk, run.order.size, partial(_look, run))
    made = run.places.root / work_directory.OUTPUT / run.order.name
    made.parent.mkdir()
    yield from run.clock.phase("disk", lambda: images.convert(raw, made, to="qcow2"))
    raw.unlink()
    return made, seen


def _in_machine(run: Run, disk: Stock, found: Accelerator) -> Generator[Told, None, tuple[Path, Inside]]:
    """Once more, emulated, when the accelerator lets the machine hang."""
    root = run.places.root
    base_image.make(root / work_directory.KEY, root / work_directory.SEED)
    try:
        yield from _packer(run, disk, found)
    except SilentError as error:
        if found.emulated:
            raise
        yield Note(f"{error.message}: once more, emulated")
        shutil.rmtree(root / work_directory.TEMPLATE)
        shutil.rmtree(root / work_directory.OUTPUT, ignore_errors=True)
        (root / work_directory.CONSOLE).unlink(missing_ok=True)
        yield from _packer(run, disk, acceleration.emulation(run.order.spec.server.arch))
    made = root / work_directory.OUTPUT / run.order.name
    return made, (yield from run.clock.phase("check", lambda: _look(run, made)))


def _packer(run: Run, disk: Stock, found: Accelerator) -> Generator[Told, None, None]:
    speaks_within = None if found.emulated else SILENCE
    values = {**_accelerated(run.order, found), "disk_image": str(disk.path), "disk_image_checksum": disk.checksum}
    jobs.lay(run.job, run.places, **values)
    if "qemu_args" in run.job.variables:
        _, template = hardware.find_firmware(run.order.spec.server.arch)
        shutil.copyfile(template, run.places.root / work_directory.FLASH)
    build = jobs.run(run.job, run.places, run.log, run.tell, speaks_within=speaks_within)
    yield from run.clock.through(build)


def verify(
    order: Request, image: Path, found: Accelerator, clock: Clock, *, booted: bool = False
) -> Generator[Told, None, Proof]:
    """Boot it twice with this host's user-data. Images that are not baked in are brought on a disk beside it.

    Where a virtual machine would be emulated and a container can be had, the second boot is in one; so is the first of
    an image that its own kernel has `booted` before, and that lacks nothing.
    """
    contained = found.emulated and _contained(order)
    first: Builder = "container" if contained and booted and order.with_stacks else "machine"
    if first == "container":
        yield Note("this image has been booted by its own kernel before: now both boots are a container's")
    trial = verification.Request(
        image=image.absolute(),
        spec=order.spec,
        bring=not order.with_stacks,
        accelerator=found,
        first=first,
        second="container" if contained else "machine",
    )
    return (yield from clock.through(verification.verify(trial)))


def _convert(order: Request, made: Path, root: Path) -> Path:
    """Made aside, in the work directory."""
    aside = root / "image"
    for argv in convert.commands(made, aside, order.form, images.virtual_size(made)):
        process.run(argv)
    made.unlink()
    return aside.with_name(f"{aside.name}{order.form.suffix}")


def _version(order: Request) -> str:
    found = re.search(r"version (\S+)", acceleration.qemu_version(order.spec.server.arch))
    return found[1] if found else ""
