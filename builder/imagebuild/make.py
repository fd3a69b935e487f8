"""An image of a service, made here: what it would be made of, and the build where that is not what runs already.

The tag says both: the digest of what the image is made of, and when its layers were last built without a cache. So the
same content is the same digest on any machine, and an image that has become too old is seen by its name.
"""

from __future__ import annotations

import calendar
import hashlib
import json
import platform as machine
import re
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import files, process
from builder.imagebuild import build_programs, context
from builder.localhost import cache
from builder.oci import containerfile, local_images
from builder.problems import UserError
from builder.stack import names

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from builder.imagebuild.build_programs import Program
    from builder.imagebuild.context import Context
    from builder.oci.local_images import LocalImage
    from builder.stack.model import Build, Service, Stack

_TIME: Final = "%Y%m%d%H%M"
_TAG: Final = re.compile(r"([0-9a-f]{12})-([0-9]{12})")


@dataclass(frozen=True, slots=True)
class Source:
    """What an image of a service is made of, as `digest` says, for a platform as in linux/amd64."""

    stack: str
    service: str
    build: Build
    platform: str
    context: Context
    images: Mapping[str, str]
    digest: str

    @property
    def max_age(self) -> float:
        """Seconds until it is built anew."""
        return self.build.oldest

    def is_current(self, image: str, now: float) -> bool:
        """Whether an image of this name was made of the same, and not too long ago."""
        found = _TAG.fullmatch(image.rpartition(":")[2])
        return found is not None and found[1] == self.digest and now - _seconds(found[2]) < self.max_age


def _seconds(text: str) -> float:
    try:
        return calendar.timegm(time.strptime(text, _TIME))
    except ValueError:
        return 0


def services(stacks: Iterable[Stack]) -> list[tuple[Stack, Service]]:
    """The services that are built."""
    return [(stack, service) for stack in stacks for service in stack.services if service.build]


def platform_of(service: Service, arch: str) -> str:
    """The platform of a service on a server of this architecture."""
    return service.platform or f"linux/{arch}"


def read(program: Program | None, stack: str, service: str, build: Build, platform: str) -> Source:
    """What an image would be made of now; registries are asked for the base images. Raises UserError.

    Without a program the server builds it, which alone knows its base images.
    """
    text = _containerfile(build)
    said = containerfile.read(text, {**_automatic(platform), **dict(build.args)}, build.target)
    found = context.read(build)
    images = dict.fromkeys(said.images, "")
    if program:
        _check_runs(said.runs, platform)
        images = {image: build_programs.base_digest(program, image, platform) for image in said.images}
    settings = {**asdict(replace(build, context=Path(), containerfile="", inline=text, never=(), archive=None)),
                "max_age": None, "context": found.digest(), "images": images, "platform": platform}  # fmt: skip
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
    return Source(stack, service, build, platform, found, images, digest)


def _containerfile(build: Build) -> str:
    if build.inline is not None:
        return build.inline
    path = build.context / build.containerfile
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _automatic(platform: str) -> dict[str, str]:
    """The build arguments that every build has, where they may name an image."""
    system, arch, *variant = platform.split("/")
    return {
        "TARGETPLATFORM": platform,
        "TARGETOS": system,
        "TARGETARCH": arch,
        "TARGETVARIANT": "".join(variant),
        "BUILDPLATFORM": f"linux/{_ARCHITECTURES.get(machine.machine(), machine.machine())}",
        "BUILDOS": "linux",
        "BUILDARCH": _ARCHITECTURES.get(machine.machine(), machine.machine()),
    }


_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
_INTERPRETERS: Final = {"amd64": "qemu-x86_64", "arm64": "qemu-aarch64"}


def is_emulated(platform: str) -> bool:
    """Whether programs of this platform run here by emulation; elsewhere than on Linux the engine's machine knows."""
    arch = platform.split("/")[1]
    return machine.system() == "Linux" and arch not in _native()


def _native() -> tuple[str, ...]:
    return (_ARCHITECTURES.get(machine.machine(), machine.machine()),)


def _check_runs(runs: bool, platform: str) -> None:
    """Refuse a build that runs programs of another processor, which nothing here can."""
    arch = platform.split("/")[1]
    interpreter = Path("/proc/sys/fs/binfmt_misc", _INTERPRETERS.get(arch, arch))
    if runs and is_emulated(platform) and not interpreter.exists():
        raise UserError(
            f"the Containerfile runs programs of {arch}, and this machine is {_native()[0]}",
            "apt-get install qemu-user-static binfmt-support emulates them; or let the server build: --on-server",
        )


@dataclass(frozen=True, slots=True)
class Made:
    """An image that was made: as a file of Docker's form, opened, and its tag."""

    archive: Path
    image: LocalImage
    tag: str


def make(program: Program, source: Source, directory: Path, *, anew: bool = False) -> Generator[str, None, Made]:
    """Build it; yields what the program prints. The image is saved into `directory`. Raises UserError.

    What an image is made of may be the same and its packages older than allowed: then it is made `anew`, as when
    somebody asks for it, without a cache.
    """
    record = _Record(source)
    now = time.time()
    anew = anew or now - record.fresh(now) >= source.max_age
    with tempfile.TemporaryDirectory(prefix="er-build-", dir=_beside(source.context.root)) as scratch:
        identity = yield from _run(program, source, Path(scratch), anew=anew)
    if anew or record.is_new:
        record.write(now)
    archive = directory / f"{source.stack}-{source.service}-{source.digest}.tar"
    process.run(program.save(identity, archive))
    stamp = time.strftime(_TIME, time.gmtime(now if anew else record.fresh(now)))
    image = local_images.read(archive, source.platform.split("/")[1])
    return Made(archive, image, f"{source.digest}-{stamp}")


def _run(program: Program, source: Source, scratch: Path, *, anew: bool) -> Generator[str, None, str]:
    """Run the program on the files that count; returns the image's id."""
    source.context.copy(scratch / "context")
    (scratch / "Containerfile").write_text(_containerfile(source.build), "utf-8")
    request = build_programs.Request(
        source.build,
        scratch / "context",
        scratch / "Containerfile",
        source.platform,
        names.own_image(source.stack, source.service),
        scratch / "id",
        anew,
    )
    with process.Session(program.build(request)) as running:
        yield from running.lines()
    if running.code or not request.id_file.exists():
        raise UserError(
            f"{source.stack}/{source.service} was not built: {program.name} ended with exit code {running.code}",
            "what it said last is above",
        )
    return request.id_file.read_text().strip()


def _beside(root: Path) -> Path | None:
    """Where files of the context can be linked rather than copied: a directory on the same file system."""
    try:
        near = [Path(tempfile.gettempdir()), cache.root()]
        return next(place for place in near if place.is_dir() and place.stat().st_dev == root.stat().st_dev)
    except (OSError, StopIteration):
        return None


class _Record:
    """When the layers of a service's images were last built without a cache on this machine, or first of all."""

    def __init__(self, source: Source) -> None:
        self._file = cache.root() / "builds.json"
        self._key = f"{source.stack}/{source.service} {source.platform} {source.context.root}"
        self._found = self._read().get(self._key)

    @property
    def is_new(self) -> bool:
        """Nothing is known of it."""
        return self._found is None

    def fresh(self, now: float) -> float:
        """Seconds since 1970."""
        return now if self._found is None else min(self._found, now)

    def write(self, now: float) -> None:
        """Note that it was just now."""
        with cache.locked(self._file.with_suffix(".lock")):
            files.write(self._file, json.dumps({**self._read(), self._key: now}, indent=1).encode())

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}
