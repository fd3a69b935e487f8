"""Images that came without a registry, kept with a stack's data: they travel with its disk, and with a backup.

Below /var/lib/easyrunner/data/stacks/STACK/images is what services run by a release: an OCI layout with layers as tars,
so that a layer of several images is there once. All in it is the stack's own user's, who writes and reads it. Which
images those are says the stack's record, in `copies`. On the machine that takes over /usr/lib/easyrunner/kept-images
reads them from the disk, or `take` what has come from a backup. A host whose data stays, without a disk for it and
without backups, keeps none.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder import facts
from builder.server.remote import common, locks, release_record
from builder.server.remote.common import RemoteError
from builder.server.remote.images import image_storage, pushed_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.server.remote.images.pushed_image import Image

# Seconds that writing one may take.
_TIMEOUT: Final = 1800


def travels() -> bool:
    """Whether this host's data may come to another machine."""
    return Path(facts.DATA_MOUNT).exists() or Path(facts.BACKUP).exists()


class Missing(NamedTuple):
    """Services whose image would not come along, and why, where that is known."""

    services: list[str]
    why: str


def missing(stack: str) -> Missing | None:
    """None where all that the stack runs by a release is kept, or nothing travels."""
    if not travels():
        return None
    record = release_record.read(stack)
    kept, why = record.get("copies", {}), record.get("uncopied", "")
    found = [service for service, name in release_record.deployed(stack).items() if why or _name(kept, service) != name]
    return Missing(found, why) if found else None


def _name(copies: Mapping[str, Any], service: str) -> str:
    return str(copies.get(service, {}).get("name", ""))


def lost(stack: str, *, built: bool = False) -> list[str]:
    """Services that ran another image by a release, on the machine that their data has come from, and do not here.

    Those whose image is built are left out: they say themselves that they wait.
    """
    if not travels() or not common.uids([stack]):
        return []
    copies, runs = release_record.read(stack).get("copies", {}), release_record.deployed(stack)
    ours = [service for service in release_record.services(stack) if service in copies and service not in runs]
    return [
        service
        for service in ours
        if release_record.of_spec(stack, service) == copies[service].get("of_spec")
        and (built or not release_record.waits(stack, service))
    ]


def keep(stack: str, *, decided: bool = False) -> None:
    """Keep what a stack runs by a release, and nothing else. What goes wrong is noted, and fails nothing.

    What has not come along is still noted, unless it has just been decided what the stack runs. For who holds its lock.
    """
    if not travels() or not common.uids([stack]):
        return
    old = release_record.read(stack).get("copies", {})
    copies = {} if decided else {service: old[service] for service in lost(stack, built=True)}
    why = ""
    try:
        current = _current(stack)
        copies |= current
        _keep(stack, current, same=old == copies)
    except (RemoteError, OSError, ValueError, LookupError) as error:
        why = str(error) or type(error).__name__
    _note(stack, copies, why)


def described() -> str:
    """What is missing, and lost, of all stacks."""
    every = {stack: missing(stack) for stack in common.stacks()}
    found = [
        f"another machine would lack the image of {stack}/{service}{': ' * bool(one.why)}{one.why}"
        for stack, one in every.items()
        if one
        for service in one.services
    ]
    found += [f"that of {stack}/{service}'s release has not come along" for stack in every for service in lost(stack)]
    return ", ".join(found)


def keep_all() -> None:
    """The same of every stack that lacks some, each with its lock."""
    for stack in common.stacks():
        if missing(stack):
            with locks.stack(stack, "keeping its images with its data"):
                keep(stack)


def take(stack: str, tell: Callable[[str], None]) -> None:
    """What a stack ran by a release on another machine, and has come with its data, it runs here; before it starts."""
    for service in lost(stack, built=True):
        copy = release_record.read(stack)["copies"][service]
        try:
            _take(stack, service, copy["id"], copy["name"])
        except RemoteError:
            way = f"er server push HOST {stack}/{service} IMAGE"
            tell(f"{stack}/{service}: its image has not come with its data: {way}")
        else:
            release_record.install(stack, {service: copy["name"]})


# $1 the layout, $2 the service, $3 the image's id, $4 its name.
_TAKE: Final = """cd ~/.local/share/containers
rm -rf come
mkdir come
cp "$1/oci-layout" come
cp "$1/index.$2" come/index.json
ln -s "$1/blobs" come
found=$(timeout 800 podman --log-level=error pull -q "oci:$PWD/come") || :
rm -r come
[ "$found" = "$3" ]
podman tag "$3" "$4"
: >precious
sync -f ."""


def _take(stack: str, service: str, number: str, name: str) -> None:
    """The stack's user has no session yet: its runtime directory is there for this alone."""
    user = common.user_of(stack)
    unit = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect"]
    unit += [f"--property={key}=user-runtime-dir@{common.uid(user)}.service" for key in ("Requires", "After")]
    words = [str(Path(facts.STACK_DATA, stack, "images")), service, number, name]
    common.run([*unit, "--", *common.in_session(user), "sh", "-ec", _TAKE, "sh", *words])


def _note(stack: str, copies: Mapping[str, Any], why: str = "") -> None:
    old = release_record.read(stack)
    new = {**old, "copies": dict(copies), "uncopied": why}
    if new != {"copies": {}, "uncopied": "", **old}:
        release_record.write(stack, new)


def _current(stack: str) -> dict[str, Any]:
    """What a stack runs by a release: by service `name` and `id`, and the image `of_spec` that this stands for."""
    names = release_record.deployed(stack)
    store = release_record.store(stack) if names else []
    found = {service: release_record.find(store, name) for service, name in names.items()}
    if lost := [names[service] for service, image in found.items() if image is None]:
        raise RemoteError(f"{lost[0]} is not in its store")
    return {
        service: {"name": names[service], "id": image.id, "of_spec": release_record.of_spec(stack, service)}
        for service, image in found.items()
        if image
    }


def _keep(stack: str, copies: Mapping[str, Any], *, same: bool) -> None:
    """Write them unless they are the `same` as those that are noted, and there."""
    user, directory = common.user_of(stack), Path(facts.STACK_DATA, stack, "images")
    if not copies and not directory.exists():
        return
    directory.mkdir(mode=0o700, exist_ok=True)
    os.chown(directory, common.uid(user), common.gid(user), follow_symlinks=False)
    every = image_storage.images_of(user) if copies else {}
    ids = {service: one["id"] for service, one in copies.items()}
    layers = {one: [layer.partition(":")[2] for layer in every[one]] for one in ids.values()}
    wanted = {name for one, found in layers.items() for name in (one, *found)}
    noted = same and not release_record.read(stack).get("uncopied")
    if not noted or not wanted <= _blobs(user, directory).keys():
        # What is there of an older one makes room first: nothing runs it.
        _run(user, _REMOVE, directory, *sorted(wanted))
        if copies:
            _write(user, directory, ids, layers)


def _write(user: str, directory: Path, ids: Mapping[str, str], layers: Mapping[str, list[str]]) -> None:
    here = _blobs(user, directory)
    lacking = {one: found for one, found in layers.items() if not {*found} <= here.keys()}
    _check_room(user, lacking, here)
    for one, found in lacking.items():
        known = [f"sha256:{name}" for name in {*found} & here.keys()]
        image_storage.export(user, one, known, directory / _NEW)
        _run(user, _SETTLE, directory, *found)
    sizes = _blobs(user, directory)
    images = {one: _image(user, one, sizes) for one in layers}
    _run(user, _LAY, directory, stdin=_tar(images, ids))


def _image(user: str, number: str, sizes: Mapping[str, int]) -> Image:
    """An image by its configuration as the store has it: what an OCI layout makes of it may be another image."""
    text = _run(user, _CONFIG, number, base64.b64encode(f"sha256:{number}".encode()).decode())
    if hashlib.sha256(text.encode()).hexdigest() != number:
        raise RemoteError(f"the configuration of {number[:12]} cannot be read")
    names = [str(name) for name in json.loads(text)["rootfs"]["diff_ids"]]
    layers = [
        {"digest": one, "diff_id": one, "size": sizes.get(one.partition(":")[2], 0), "compression": ""} for one in names
    ]
    described = json.dumps({"config": text, "docker": True, "layers": layers})
    return pushed_image.parsed(described.encode(), pushed_image.architecture())


def _tar(images: Mapping[str, Image], ids: Mapping[str, str]) -> bytes:
    """All of the layout but layers, as a tar; with an index for each service: Podman takes such an image by no name."""
    found: dict[str, bytes] = {}
    for service, number in ids.items():
        image = images[number]
        files = pushed_image.layout(image, {layer.diff_id: layer.size for layer in image.layers})
        found[f"index.{service}"] = files.pop("index.json")
        found |= files
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for path, content in found.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _check_room(user: str, lacking: Mapping[str, list[str]], here: Mapping[str, int]) -> None:
    """Raises RemoteError where these would leave less of the disk than is to be free."""
    need = 0
    for number, layers in lacking.items():
        said = common.as_user(user, ["podman", "image", "inspect", "--format", "{{.Size}}", number])
        need += max(int(said) - sum(here.get(name, 0) for name in layers), 0)
    disk = os.statvfs(facts.DATA)
    free = disk.f_bavail * disk.f_frsize - int(common.wanted_free(disk.f_blocks * disk.f_frsize))
    if need > free:
        raise RemoteError(f"they need {-(-need >> 20):,} MiB where the data is, and {max(free >> 20, 0):,} may be used")


# What the stack's user does, each with the directory as $1. What is written goes to a directory of its own, whole files
# move, and all is on the disk before it counts.
_NEW: Final = ".new"
_LIST: Final = 'cd "$1/blobs/sha256" 2>/dev/null || exit 0; exec find . -type f -size +0 -printf "%f %s\\n"'
_SETTLE: Final = f"""
cd "$1"
shift
mkdir -p blobs/sha256
sync -f .
for name; do [ ! -s {_NEW}/blobs/sha256/$name ] || mv {_NEW}/blobs/sha256/$name blobs/sha256/$name; done
rm -rf {_NEW}
"""
_LAY: Final = f"""
cd "$1"
rm -rf {_NEW}
mkdir -p {_NEW} blobs/sha256
tar --extract --no-same-owner --file=- --directory={_NEW}
sync -f .
mv {_NEW}/blobs/sha256/* blobs/sha256
mv {_NEW}/oci-layout {_NEW}/index.* .
rm -rf {_NEW}
sync -f .
"""
_REMOVE: Final = f"""
cd "$1"
shift
rm -rf {_NEW} index.*
cd blobs/sha256 2>/dev/null || exit 0
for name in *; do case " $* " in *" $name "*) ;; *) rm -rf -- "$name" ;; esac; done
"""
_CONFIG: Final = f'exec head -c {pushed_image.MAX_TEXT} ~/.local/share/containers/storage/*-images/"$1"/="$2"'


def _run(user: str, script: str, *words: object, stdin: bytes | None = None) -> str:
    argv = ["sh", "-ec", script, "sh", *map(str, words)]
    return common.as_user(user, argv, stdin=stdin, timeout=_TIMEOUT)


def _blobs(user: str, directory: Path) -> dict[str, int]:
    """What is there, by its digest, and how many bytes."""
    lines = (line.partition(" ") for line in _run(user, _LIST, directory).splitlines())
    return {name: int(size) for name, _, size in lines}
