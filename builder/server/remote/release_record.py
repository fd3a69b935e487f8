"""What a stack runs instead of the images that its spec names, and the record of its last five releases.

A release is a file beside the spec's unit, which stays as it is: a drop-in, or a whole copy of the unit where Podman's
generator reads no drop-ins (before 5.0). The record is in /var/lib/easyrunner/data/releases: with the stack's data, and
kept with that when the stack goes.
"""

from __future__ import annotations

import functools
import json
import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts, files
from builder.server.remote import common, sleepers
from builder.server.remote.common import RemoteError
from builder.server.remote.images import images

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from builder.server.remote.common import Value

_KEPT: Final = 5


def path(stack: str) -> Path:
    """The record of a stack."""
    return Path(facts.RELEASES, f"{stack}.json")


def releases(stack: str) -> list[Value]:
    """The releases of a stack, the oldest first: `number`, `when`, `source`, `by`, and its `images` by service.

    Each of those has the `image` as it was asked for, its `name` in the stack's store, its `id` and its `digest`. The
    last release is what runs. A roll-back says in `again` which release it is once more, a push of Git its `commit`.
    """
    return list(read(stack).get("releases", ()))


def read(stack: str) -> Value:
    """The whole record: the `releases`, and what others note there; empty where there is none."""
    try:
        found = json.loads(path(stack).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(stack: str, content: Value) -> None:
    """On the disk when this returns."""
    path(stack).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.replace(path(stack), json.dumps(content, indent=1).encode(), 0o600, owner=(0, 0), name=f".{stack}.part")


def append(
    stack: str, found: Mapping[str, Value], source: str, by: str, again: Value | None = None, *, commit: str = ""
) -> Value:
    """A new release of a stack; the record keeps its last five that differ in an image."""
    content = read(stack)
    every = with_release(content.get("releases", ()), found, source, by, again, commit=commit)
    write(stack, {**content, "releases": every})
    return every[-1]


def with_release(
    old: Sequence[Value],
    found: Mapping[str, Value],
    source: str,
    by: str,
    again: Value | None = None,
    *,
    commit: str = "",
) -> list[Value]:
    """The releases to keep once there is a new one. `again` is the release whose images it has once more."""
    number = max((one["number"] for one in old), default=0) + 1
    new = {"number": number, "when": int(time.time()), "source": source, "by": by, "images": dict(found)}
    if again is not None:
        new["again"] = {key: again[key] for key in ("number", "source", "by", "when", "commit") if key in again}
    if commit:
        new["commit"] = commit
    return [*[one for one in old if ids(one) != ids(new)][-(_KEPT - 1) :], new]


def ids(release: Value) -> dict[str, str]:
    """The images of a release by service."""
    return {service: image["id"] for service, image in release["images"].items()}


# The files that make a unit run another image.


def unit_path(stack: str, service: str) -> Path:
    """The spec's own unit of a service."""
    return Path(facts.QUADLETS, _uid(stack), f"{stack}-{service}.container")


def _uid(stack: str) -> str:
    return str(common.uid(common.user_of(stack)))


def override_path(stack: str, service: str) -> Path:
    """Where the release of a service is, if it has one."""
    unit = unit_path(stack, service)
    if _reads_drop_ins():
        return unit.with_name(f"{unit.name}.d") / facts.RELEASE_DROP_IN
    return Path(facts.RELEASE_UNITS, unit.parent.name, unit.name)


@functools.cache
def _reads_drop_ins() -> bool:
    version = re.search(r"(\d+)\.", common.run(["podman", "--version"]))
    return version is not None and int(version[1]) >= 5


# An image in the store of the stack alone: nothing asks a registry for it.
_LINES: Final = {"Image": "", "Pull": "never", "Label": "io.containers.autoupdate=disabled"}


def override(unit: str, name: str) -> bytes:
    """What lets the unit of this text run another image."""
    lines = [f"{key}={value or name}\n" for key, value in _LINES.items()]
    if _reads_drop_ins():
        return f"[Container]\n{''.join(lines)}".encode()
    rest = re.sub(r"^(?:Image|Pull)=.*\n", "", unit, flags=re.MULTILINE)
    rest = rest.replace("\n[Service]\n", f"{lines[-1]}\n[Service]\n", 1)
    return rest.replace("[Container]\n", f"[Container]\n{''.join(lines[:-1])}", 1).encode()


def current(stack: str) -> list[Value]:
    """What runs by a release and not as the spec says, a service each, with the image `of_spec` that it has instead."""
    last = next(iter(releases(stack)[-1:]), None)
    found = []
    for service, name in deployed(stack).items():
        image = last["images"].get(service, {}) if last else {}
        known = {key: last[key] for key in ("number", "when", "source", "by")} if last else {}
        found.append(
            {
                "stack": stack,
                "service": service,
                "image": image.get("image", name) if image.get("name") == name else name,
                "of_spec": of_spec(stack, service),
                "unit": str(unit_path(stack, service)),
                **known,
            }
        )
    return found


def deployed(stack: str) -> dict[str, str]:
    """The images that services run by a release, by service."""
    if not common.uids([stack]):
        return {}
    return {service: image for service in services(stack) if (image := _overridden(stack, service))}


def services(stack: str) -> list[str]:
    """The services of a stack."""
    return [service for _, service, _ in common.services(stack)]


def _overridden(stack: str, service: str) -> str:
    return _image_of(override_path(stack, service))


def of_spec(stack: str, service: str) -> str:
    """The image that the spec's unit names."""
    return _image_of(unit_path(stack, service))


def waits(stack: str, service: str) -> bool:
    """Whether the spec builds the image of a service, and no release has brought one yet."""
    return of_spec(stack, service) == repository(stack, service) and not _overridden(stack, service)


_OVERRIDE: Final = re.compile(
    rf"{facts.QUADLETS}/(?P<uid>\d+)/(?P<unit>[^/]+\.container)\.d/{re.escape(facts.RELEASE_DROP_IN)}"
    rf"|{facts.RELEASE_UNITS}/(?P<uid2>\d+)/(?P<unit2>[^/]+\.container)"
)


def unit_of(path: str) -> str | None:
    """The path of the spec's unit that this file overrides, when it is a release's."""
    found = _OVERRIDE.fullmatch(path)
    return f"{facts.QUADLETS}/{found['uid'] or found['uid2']}/{found['unit'] or found['unit2']}" if found else None


def kept(paths: Iterable[str], units: Mapping[str, bytes]) -> set[str]:
    """Of these paths the releases that stay when the spec's units become these: of the same image as now."""
    found = set()
    for path in paths:
        unit = unit_of(path) or ""
        if unit in units and images.image_of_unit(units[unit].decode()) == _image_of(Path(unit)):
            found.add(path)
    return found


def _image_of(unit: Path) -> str:
    try:
        return images.image_of_unit(unit.read_text())
    except FileNotFoundError:
        return ""


def refreshed(paths: Iterable[str], units: Mapping[str, bytes]) -> dict[str, bytes]:
    """Of the releases at these paths those that change with the spec's units: copies of the whole unit."""
    new = {path: override(units[unit].decode(), _image_of(Path(path))) for path in paths if (unit := unit_of(path))}
    return {path: content for path, content in new.items() if Path(path).read_bytes() != content}


def install(stack: str, names: Mapping[str, str]) -> None:
    """Let services run these images by a release; an empty name is the spec's own image."""
    for service, name in names.items():
        file = override_path(stack, service)
        if name:
            write_override(file, override(unit_path(stack, service).read_text(), name))
        else:
            file.unlink(missing_ok=True)
            if file.parent.exists() and not any(file.parent.iterdir()):
                file.parent.rmdir()


def write_override(file: Path, content: bytes) -> None:
    """Root's, and readable for the stack's group alone, as the unit is."""
    unit = unit_of(str(file)) or ""
    group = Path(unit).stat().st_gid
    files.replace(file, content, 0o640, owner=(0, group), name=f".{file.name}.part")
    os.chown(file.parent, 0, group)
    file.parent.chmod(0o750)


# The stack's own store of images.


class Image(NamedTuple):
    """An image of a store."""

    id: str
    names: tuple[str, ...]
    digest: str
    created: int


def store(stack: str) -> list[Image]:
    """The images that a stack has."""
    found = {}
    for one in json.loads(_podman(stack, "images", "--format", "json") or "[]"):
        found[one["Id"]] = Image(one["Id"], tuple(one.get("Names") or ()), one.get("Digest", ""), one["Created"])
    return list(found.values())


def running(stack: str) -> dict[str, str]:
    """The id of the image that each service's container runs; of one that is asleep, that it runs when it wakes."""
    units = {unit: service for _, service, unit in common.services(stack)}
    found = {}
    for one in json.loads(_podman(stack, "ps", "--format", "json") or "[]"):
        unit = (one.get("Labels") or {}).get("PODMAN_SYSTEMD_UNIT", "")
        if unit in units:
            found[units[unit]] = one["ImageID"]
    for service in sleepers.asleep(stack) - found.keys():
        if image := would_run(stack, service):
            found[service] = image["id"]
    return found


def would_run(stack: str, service: str) -> dict[str, str]:
    """The `name`, `id` and `digest` of the image that a service runs when it starts; empty where it is not here."""
    name = _asked(stack, service)
    image = find(store(stack), name)
    return {"name": name, "id": image.id, "digest": image.digest} if image else {}


def _podman(stack: str, *words: str, check: bool = True) -> str:
    argv = ["podman", "--log-level=error", *words]
    return common.as_user(common.user_of(stack), argv, check=check, timeout=common.PODMAN_TIMEOUT)


def find(found: Collection[Image], name: str) -> Image | None:
    """The image with this name."""
    return next((image for image in found if name in image.names), None)


def own_name(stack: str, service: str, image: Image) -> str:
    """A name that only this image has, in the store of its stack; given to it where it has none yet."""
    prefix = repository(stack, service)
    existing = next((name for name in image.names if name.startswith(f"{prefix}:")), "")
    if existing:
        return existing
    name = f"{prefix}:{image.id[:12]}"
    _podman(stack, "tag", image.id, name)
    return name


def repository(stack: str, service: str) -> str:
    """The name, without its tag, of the images of a service that came without a registry."""
    own = f"localhost/{stack}/"
    # Of a service that is built the unit has it: an image's name is not always the service's.
    named = of_spec(stack, service) if unit_path(stack, service).exists() else ""
    return named if named.startswith(own) and ":" not in named else f"{own}{service}"


def entry(stack: str, service: str, image: Image, asked: str) -> Value:
    """An image as the record has it."""
    return {"image": asked, "name": own_name(stack, service, image), "id": image.id, "digest": image.digest}


def observe(stack: str, by: str = "") -> None:
    """Take what runs into the record, where it is not what the last release says: an image that updated itself.

    For who holds the stack's lock.
    """
    found, now = store(stack), running(stack)
    last = next(iter(releases(stack)[-1:]), None)
    known = ids(last) if last else {}
    if not now or all(known.get(service) == image for service, image in now.items()):
        return
    by_id = {image.id: image for image in found}
    changed = [service for service, image in now.items() if known.get(service) != image and image in by_id]
    new = {service: entry(stack, service, by_id[now[service]], _asked(stack, service)) for service in changed}
    if not new:
        return
    itself = bool(last) and not by and all(_updates_itself(stack, service) for service in changed)
    source, who = ("registry", "podman auto-update") if itself else ("spec", by or "spec")
    append(stack, {**(last["images"] if last else {}), **new}, source, who)


def _updates_itself(stack: str, service: str) -> bool:
    """Whether Podman's own update looks after an image."""
    unit = unit_path(stack, service).read_text()
    return "io.containers.autoupdate=" in unit and not _overridden(stack, service)


def _asked(stack: str, service: str) -> str:
    return _overridden(stack, service) or of_spec(stack, service)


# What nobody has named for so long, in seconds, is not about to be switched to.
_LOOSE: Final = 3600


def prune(stack: str) -> list[str]:
    """Remove images that no release holds, no unit names and no container uses; returns their names.

    An image that no release ever held may be one that is just being deployed: it goes when it has been seen for an
    hour. What came as an archive has no other copy, and stays.
    """
    content, found = read(stack), store(stack)
    held = {image["id"] for one in content.get("releases", ()) for image in one["images"].values()}
    named = {_asked(stack, service) for service in services(stack)}
    named |= {of_spec(stack, service) for service in services(stack)}
    used = set(_podman(stack, "ps", "--all", "--no-trunc", "--format", "{{.ImageID}}").split())
    once, loose = set(content.get("held", ())), content.get("loose", {})
    gone: list[str] = []
    still: dict[str, int] = {}
    for image in found:
        if image.id in held | used or _stays(image, named):
            continue
        seen = loose.get(image.id, int(time.time()))
        if image.id not in once and time.time() - seen < _LOOSE:
            still[image.id] = seen
        elif _removed(stack, image):
            gone += image.names
    left = {image.id for image in store(stack)} if gone else {image.id for image in found}
    write(stack, {**content, "held": sorted((once | held) & left), "loose": still})
    return gone


# What came as an archive; see builder/oci/image_reference.py.
_ARCHIVES: Final = "localhost/er/"


def _stays(image: Image, named: Collection[str]) -> bool:
    return any(name in named or name.startswith(_ARCHIVES) for name in image.names)


def _removed(stack: str, image: Image) -> bool:
    try:
        _podman(stack, "rmi", *(image.names or (image.id,)))
    except RemoteError:
        return False
    return True
