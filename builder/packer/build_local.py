"""Bakes on this machine: from a base image to a proven one, by Packer in a virtual machine or in a container."""

from __future__ import annotations

import json
import platform
import re
import shutil
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import disk as disks
from builder import host as hosts
from builder import manifest, process
from builder.disk import cloud_image
from builder.disk import image_file as images
from builder.disk.base import base_disk
from builder.host.model import Part
from builder.lab.events import Note
from builder.localhost import requirements
from builder.packer import artifact, build_container, convert, run, work_directory
from builder.packer.artifact import Baked
from builder.problems import UserError
from builder.qemu import acceleration, hardware, seed
from builder.qemu import verify as verification
from builder.qemu.acceleration import PROGRAM
from builder.qemu.power import SILENCE, SilentError

if TYPE_CHECKING:
    from collections.abc import Generator

    from builder.lab.events import Progress
    from builder.manifest import Input
    from builder.packer.artifact import Contents
    from builder.packer.request import Request
    from builder.packer.run import Bake, Clock, Job
    from builder.qemu.acceleration import Accelerator
    from builder.qemu.verify import Proof

Builder = Literal["machine", "container"]
_PROGRAMS: Final = ("qemu-img", "mformat", "mcopy", "ssh-keygen", "fuse2fs")


def check(request: Request) -> None:
    """Raise one UserError for what is missing here, or return."""
    _check_base_image(request.base_image, request.checksum)
    programs = [PROGRAM[request.spec.server.arch], *_PROGRAMS, *request.image_format.compressor[:1]]
    requirements.check_programs("baking here", programs, root=True, fuse=True)
    if request.builder == "container":
        if not _is_native(request):
            arch = request.spec.server.arch
            raise UserError(
                f"a container of {arch} cannot run on this {platform.machine()} machine",
                "leave out --builder container",
            )
        build_container.check()


def _check_base_image(base_image: str, checksum: str) -> None:
    """Raise UserError for options that cannot name an image."""
    if checksum and not base_image:
        raise UserError("--checksum says what --base-image must be, and there is none")
    if base_image and not checksum:
        raise UserError("--base-image needs its --checksum sha256:…", "publishers give it beside the image")
    if checksum:
        cloud_image.digest(checksum)


def variables(request: Request) -> dict[str, Any]:
    """The template's values that do not depend on the disk; paths are in the work directory."""
    accelerator = _requested_accelerator(request)
    return {
        **_firmware(request),
        "seed": work_directory.SEED,
        "ssh_private_key_file": work_directory.KEY,
        "output_directory": work_directory.OUTPUT,
        "serial": f"file:{work_directory.CONSOLE}",
        # It is converted in any case, and a compressed disk is slower to check and to boot.
        "compress": False,
        "disk_size": request.size,
        **(_accelerator_variables(request, accelerator) if accelerator else {}),
    }


def _firmware(request: Request) -> dict[str, Any]:
    """UEFI for a machine that has no other way to boot; its variables are this bake's own."""
    if request.spec.server.arch == "amd64":
        return {}
    code, _ = hardware.find_firmware(request.spec.server.arch)
    flash = [f"if=pflash,format=raw,readonly=on,file={code}", f"if=pflash,format=raw,file={work_directory.FLASH}"]
    return {"qemu_args": [["-drive", word] for word in flash]}


# Variables of the template that follow from the accelerator, which may have to be tried out first.
ACCELERATOR_VARIABLES: Final = ("accelerator", "cpu", "cpus")


def _accelerator_variables(request: Request, accelerator: Accelerator) -> dict[str, Any]:
    cpus = acceleration.processors(request.spec.server.arch, accelerator)
    return dict(zip(ACCELERATOR_VARIABLES, (accelerator.name, accelerator.cpu, cpus), strict=True))


def _requested_accelerator(request: Request) -> Accelerator | None:
    """The accelerator that was asked for, if one was."""
    if request.accelerator == "tcg":
        return acceleration.emulation(request.spec.server.arch, "as told")
    return acceleration.native("as told") if request.accelerator == "kvm" else None


def known_accelerator(request: Request) -> Accelerator | None:
    """The accelerator, where none has to be tried out for it."""
    return _requested_accelerator(request) or acceleration.known(request.spec.server.arch)


def choose_accelerator(request: Request, clock: Clock) -> Generator[Progress, None, Accelerator]:
    """What was asked for; by default the faster one, which is tried out once with the base disk's kernel."""
    server = request.spec.server
    if accelerator := known_accelerator(request):
        return accelerator
    kernel = yield from clock.step("base disk", lambda: disks.kernel(server.base, server.arch))
    return (yield from clock.step("accelerator", lambda: acceleration.accelerator(server.arch, lambda: kernel)))


def choose_builder(request: Request, accelerator: Accelerator) -> Builder:
    """What was asked for; by default a container where a virtual machine would be emulated and a container can be."""
    if request.builder != "auto":
        return request.builder
    return "container" if accelerator.emulated and _container_possible(request) else "machine"


def _container_possible(request: Request) -> bool:
    """Whether a container of this architecture can be had here."""
    try:
        build_container.check()
    except UserError:
        return False
    return _is_native(request)


def _is_native(request: Request) -> bool:
    return requirements.native_arch() == request.spec.server.arch


def for_builder(job: Job, builder: Builder) -> Job:
    """The job for this builder, from the one for a virtual machine."""
    if builder == "machine":
        return job
    files = work_directory.template(build_container.SOURCE, plugins=job.packer.takes_plugins)
    return replace(job, files=files, variables=build_container.variables(job.variables))


def build(bake: Bake, accelerator: Accelerator, builder: Builder) -> Generator[Progress, None, Baked]:
    """Take the base image, run Packer, check the contents, boot the result, and convert it to the format asked for."""
    request, clock = bake.request, bake.clock
    yield from clock.follow(run.init(bake.job, bake.work, bake.log))
    base_image = yield from clock.step("base disk", lambda: _base_image(request))
    if builder == "container":
        made, contents = yield from _in_container(bake, base_image)
    else:
        made, contents = yield from _in_machine(bake, base_image, accelerator)
    proof = (yield from verify(request, made, accelerator, clock)) if request.verify else None
    image = yield from clock.step("convert", lambda: _convert(request, made, bake.work.root))
    return Baked(
        request.name,
        image,
        inputs=(base_image.as_input,),
        packages=contents.packages,
        containers=contents.containers,
        checks=contents.checks,
        versions={"qemu": _qemu_version(request)},
        proof=proof,
    )


@dataclass(frozen=True, slots=True)
class BaseImage:
    """The disk that a bake starts from. `path` is a qcow2 or a raw disk on this machine."""

    path: Path
    as_input: Input

    @property
    def checksum(self) -> str:
        """As Packer's `disk_image_checksum`."""
        return f"sha256:{self.as_input.sha256}"


def _base_image(request: Request) -> BaseImage:
    """The user's own, or the base disk, which is made on first use: that takes a minute or two. Raises UserError."""
    path = _base_image_path(request).absolute()
    name = request.base_image.rpartition("/")[2] or path.parent.name
    return BaseImage(path, manifest.of_file(f"stock image {name}", path))


_URL: Final = re.compile(r"[a-z]+://", re.IGNORECASE)


def _base_image_path(request: Request) -> Path:
    if not request.base_image:
        return base_disk(request.spec.server.base, request.spec.server.arch)
    if _URL.match(request.base_image):
        return cloud_image.from_url(request.base_image, request.checksum)
    return cloud_image.from_file(Path(request.base_image), request.checksum)


def _in_container(bake: Bake, base_image: BaseImage) -> Generator[Progress, None, tuple[Path, Contents]]:
    user_data = _user_data(_keygen(bake.work.root / work_directory.KEY))
    size, check = bake.request.size, partial(_check_contents, bake)
    raw, contents = yield from build_container.build(bake, base_image.path, size, user_data, check)
    made = bake.work.root / work_directory.OUTPUT / bake.request.name
    made.parent.mkdir()
    yield from bake.clock.step("disk", lambda: images.convert(raw, made, to="qcow2"))
    raw.unlink()
    return made, contents


def _in_machine(
    bake: Bake, base_image: BaseImage, accelerator: Accelerator
) -> Generator[Progress, None, tuple[Path, Contents]]:
    """Bake in a virtual machine; one that hangs under the accelerator is started once more under emulation."""
    root = bake.work.root
    _write_seed(root)
    try:
        yield from _run_packer(bake, base_image, accelerator)
    except SilentError as error:
        if accelerator.emulated:
            raise
        yield Note(f"{error.message}: once more, emulated")
        shutil.rmtree(root / work_directory.TEMPLATE)
        shutil.rmtree(root / work_directory.OUTPUT, ignore_errors=True)
        (root / work_directory.CONSOLE).unlink(missing_ok=True)
        yield from _run_packer(bake, base_image, acceleration.emulation(bake.request.spec.server.arch))
    made = root / work_directory.OUTPUT / bake.request.name
    return made, (yield from bake.clock.step("check", lambda: _check_contents(bake, made)))


def _write_seed(root: Path) -> None:
    """Write the key of this bake, and the disk that brings it to cloud-init."""
    user_data = _user_data(_keygen(root / work_directory.KEY))
    content = seed.files(user_data, instance=f"bake-{uuid.uuid4().hex[:12]}", name="localhost")
    seed.make(root / work_directory.SEED, content)


def _keygen(key: Path) -> str:
    """Write a key pair; returns the public one, as a line of authorized_keys."""
    process.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bake", "-f", str(key)])
    return key.with_name(f"{key.name}.pub").read_text().strip()


def _user_data(public_key: str) -> bytes:
    """Root and no other user, so that nobody has to be removed again."""
    config = {"users": [], "disable_root": False, "ssh_pwauth": False, "ssh_authorized_keys": [public_key]}
    return b"#cloud-config\n" + json.dumps(config).encode() + b"\n"


def _run_packer(bake: Bake, base_image: BaseImage, accelerator: Accelerator) -> Generator[Progress, None, None]:
    values = _accelerator_variables(bake.request, accelerator)
    values |= {"disk_image": str(base_image.path), "disk_image_checksum": base_image.checksum}
    run.write_files(bake.job, bake.work, **values)
    if "qemu_args" in bake.job.variables:
        _, template = hardware.find_firmware(bake.request.spec.server.arch)
        shutil.copyfile(template, bake.work.root / work_directory.FLASH)
    speaks_within = None if accelerator.emulated else SILENCE
    build = run.build(bake.job, bake.work, bake.log, bake.report, speaks_within=speaks_within)
    yield from bake.clock.follow(build)


def _check_contents(bake: Bake, image: Path) -> Contents:
    return artifact.check_contents(image, hosts.build(bake.request.spec).only(Part.BAKED))


def verify(
    request: Request, image: Path, accelerator: Accelerator, clock: Clock, *, booted: bool = False
) -> Generator[Progress, None, Proof]:
    """Boot it twice with this host's user-data. Images that are not baked in are brought on a disk beside it.

    Where a virtual machine would be emulated and a container can be had, the second boot is in one; so is the first of
    an image that its own kernel has `booted` before, and that misses nothing.
    """
    contained = accelerator.emulated and _container_possible(request)
    first: Builder = "container" if contained and booted and request.with_stacks else "machine"
    if first == "container":
        yield Note("this image has been booted by its own kernel before: now both boots are a container's")
    boots = verification.Request(
        image=image.absolute(),
        spec=request.spec,
        bring=not request.with_stacks,
        accelerator=accelerator,
        first=first,
        second="container" if contained else "machine",
    )
    return (yield from clock.follow(verification.verify(boots)))


def _convert(request: Request, made: Path, root: Path) -> Path:
    """Convert in the work directory; return the path there."""
    aside = root / "image"
    for argv in convert.commands(made, aside, request.image_format, images.virtual_size(made)):
        process.run(argv)
    made.unlink()
    return aside.with_name(f"{aside.name}{request.image_format.suffix}")


def _qemu_version(request: Request) -> str:
    found = re.search(r"version (\S+)", acceleration.qemu_version(request.spec.server.arch))
    return found[1] if found else ""
