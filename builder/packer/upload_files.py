"""What is uploaded to /var/tmp/er-bake while an image is baked: a value, and how it is written to a directory.

rootfs.tar              the files that every host has, with owners and modes
images/<user>.list      what goes into the container storage of that user: NAME ARCHIVE, or NAME of a registry's image
images/*.tar            the archives of those lists
store-images            the program that reads the lists
packages                what the hosts of the spec need beside the packages of every host, a line each
stacks/                 with stacks: sysusers.d and subids of their users
apt-sources.list        for this bake only: where packages come from
check.pyz               the program by which the image checks itself
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from builder import data, facts
from builder.host import Host, Part
from builder.oci import image_reference
from builder.stack import user
from builder.stack.model import Service

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from builder.host import File
    from builder.spec import Spec

# The same inputs make the same bytes: 2020-01-01.
_MTIME: Final = 1_577_836_800
_SYSUSERS: Final = "/etc/sysusers.d/er-"
_SUBIDS: Final = "/subids"


@dataclass(frozen=True, slots=True)
class Upload:
    """Paths below the upload: content made here, and archives of this machine."""

    files: Mapping[str, bytes] = field(repr=False)
    archives: Mapping[str, Path]


def collect(spec: Spec, host: Host, *, check: bytes, with_stacks: bool = False, apt_sources: str = "") -> Upload:
    """What the bake of `host` needs.

    `check` is the zipapp that ends the bake. `apt_sources` are lines of a sources.list; empty leaves the image's own.
    """
    lists = dict(_images(spec, with_stacks=with_stacks))
    files = {
        "rootfs.tar": rootfs(host.only(Part.BAKED)),
        "store-images": (data.tree("images") / "steps/lib/store-images").read_bytes(),
        "check.pyz": check,
        **{f"images/{user}.list": _image_list(images) for user, images in lists.items()},
        **({"packages": "".join(f"{name}\n" for name in host.extra_packages).encode()} if host.extra_packages else {}),
        **(_stack_files(host) if with_stacks else {}),
        **({"apt-sources.list": apt_sources.encode()} if apt_sources else {}),
    }
    archives = {_archive(image): image.archive for images in lists.values() for image in images if image.archive}
    return Upload(files, {f"images/{name}": path for name, path in archives.items()})


def write(upload: Upload, directory: Path) -> None:
    """Write the upload to a new directory that only this user can read; archives are linked where that can be done."""
    directory.mkdir(mode=0o700)
    for name, content in upload.files.items():
        target = directory / name
        target.parent.mkdir(exist_ok=True, parents=True)
        target.write_bytes(content)
    for name, source in upload.archives.items():
        try:
            os.link(source, directory / name)
        except OSError:
            shutil.copyfile(source, directory / name)


def rootfs(files: Iterable[File]) -> bytes:
    """Files of every host as a tar. Raises ValueError for one that is not root's: there is no other user yet."""
    for file in files:
        if (file.owner, file.group) != ("root", "root"):
            raise ValueError(f"{file.path}: the baked files are root's")
    return archive(files)


def archive(files: Iterable[File]) -> bytes:
    """Files as a tar without directories: those that are missing become root's, 0755, as with cloud-init."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for file in files:
            tar.addfile(_member(file), io.BytesIO(file.content))
    return stream.getvalue()


def _member(file: File) -> tarfile.TarInfo:
    member = tarfile.TarInfo(file.path.lstrip("/"))
    member.uname, member.gname = (name if name != "root" else "" for name in (file.owner, file.group))
    member.size, member.mode, member.mtime = len(file.content), int(file.mode, 8), _MTIME
    return member


@dataclass(frozen=True, slots=True)
class _Image:
    name: str
    archive: Path | None


def _images(spec: Spec, *, with_stacks: bool) -> Iterator[tuple[str, tuple[_Image, ...]]]:
    """User, and the images that its storage is to have."""
    yield facts.PROXY_USER, (_image("proxy", Service("caddy", spec.proxy.image)),)
    for stack in spec.stacks if with_stacks else ():
        there = (one for one in stack.services if one.build is None or one.built_archive)
        images = (_image(stack.name, service) for service in there)
        yield user.user(stack.name), tuple(dict.fromkeys(images))


def _image(stack: str, service: Service) -> _Image:
    archive = image_reference.archive_of(service.image, service.built_archive)
    return _Image(image_reference.host_name(stack, service.name, service.image), archive)


def _image_list(images: Iterable[_Image]) -> bytes:
    lines = (f"{image.name} {_archive(image)}" if image.archive else image.name for image in images)
    return "".join(f"{line}\n" for line in lines).encode()


def _archive(image: _Image) -> str:
    """By content, which the tag of an archive says: the same one of several services is uploaded once.

    An image that was built has no tag yet, and is of one service.
    """
    own = hashlib.sha256(image.name.encode()).hexdigest()[:12]
    return f"{image.name.rpartition(':')[2] if ':' in image.name else own}.tar"


def _stack_files(host: Host) -> dict[str, bytes]:
    """The users of the stacks: files of the first boot, which the bake reads and does not write to the image."""
    files = host.only(Part.FIRST_BOOT)
    named = {
        f"stacks/sysusers.d/{PurePosixPath(file.path).name}": file.content
        for file in files
        if file.path.startswith(_SYSUSERS)
    }
    subids = b"".join(f.content for f in files if f.path.startswith(facts.STACKS) and f.path.endswith(_SUBIDS))
    return {**named, "stacks/subids": subids} if subids else {}
