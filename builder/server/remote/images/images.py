"""Images of the stacks and of the proxy: archives that a spec brings, and the proxy's releases in its registry."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts, files
from builder.server.remote import common
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.server.remote.common import Value


def archives_missing() -> list[str]:
    """The paths whose image and archive are both missing here, of a JSON list of [stack, image, path] on stdin."""
    absent = [(stack, image, path) for stack, image, path in json.load(sys.stdin.buffer) if not Path(path).exists()]
    loaded = {stack: _loaded(stack) for stack in {stack for stack, _, _ in absent}}
    return [path for stack, image, path in absent if (images := loaded[stack]) is not None and image not in images]


def _loaded(stack: str) -> list[str] | None:
    """The images of a stack; None where its Podman does not answer, and an archive would not help."""
    if stack != "proxy" and not common.uids([stack]):
        return []
    argv = ["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        return common.as_user(common.user_of(stack), argv, timeout=common.PODMAN_TIMEOUT).split()
    except RemoteError:
        return None


def archive_put(path: str) -> Value:
    """Write an archive from stdin to `path`, whole or not at all."""
    target = Path(path)
    if target.parent != Path(facts.IMAGES):
        raise RemoteError(f"{path} is not a place for archives")
    with files.aside(target, 0o644, name=f".{target.name}.part") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return {"bytes": target.stat().st_size}


PROXY_UNIT: Final = f"{facts.QUADLETS}/{facts.PROXY_UID}/er-proxy.container"
# Where it has updated itself: the release that it runs, and not its unit's.
PROXY_RELEASE: Final = f"{PROXY_UNIT}.d/{facts.RELEASE_DROP_IN}"
# An image that came as an archive has such a name: no registry has it.
LOCAL: Final = "localhost/"
_RELEASE: Final = re.compile(r"(v?)(\d+(?:\.\d+)*)(.*)")
# How long Podman may take to ask a registry, and to pull an image, in seconds.
_ASK, _PULL = 10, 900


def proxy_image() -> Value:
    """The proxy's `image`, its `digest`, what is `of_spec` if another, the `newest` or why that is `unknown`."""
    image = running_proxy()
    of_spec = image_of_unit(Path(PROXY_UNIT).read_text())
    digest = _podman(_ASK, "image", "inspect", "--format", "{{.Digest}}", image, check=False).strip()
    try:
        newest, why = _newest_release(image), ""
    except RemoteError as error:
        newest, why = None, str(error)
    other = of_spec if of_spec != image else ""
    return {"image": image, "of_spec": other, "digest": digest, "newest": newest, "unknown": why}


def running_proxy() -> str:
    """The image that the proxy's unit runs, by its own file or by a release."""
    release = Path(PROXY_RELEASE)
    found = image_of_unit(release.read_text()) if release.exists() else ""
    return found or image_of_unit(Path(PROXY_UNIT).read_text())


def image_of_unit(text: str) -> str:
    """The image that a .container file names."""
    found = re.search(r"^Image=(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def proxy_newest(image: str, bring: str) -> Value:
    """The newest release of an image, which may be itself; with `bring` it is pulled, and pinned by its digest."""
    found = _newest_release(image) or image.partition("@")[0]
    return {"image": pinned(found) if bring == "bring" else found}


def _newest_release(image: str) -> str | None:
    """The image of the newest release that the registry has; None when this is it. Raises RemoteError."""
    name, tag, _ = split_reference(image)
    newer = newest_tag(tag, _offered(image))
    return f"{name}:{newer}" if newer else None


def patches(image: str) -> list[str]:
    """The releases above an image of its minor version that the registry has, the highest first. Raises RemoteError."""
    name, tag, _ = split_reference(image)
    return [f"{name}:{one}" for one in patch_tags(tag, _offered(image))]


def _offered(image: str) -> list[str]:
    """The tags that the registry has. Raises RemoteError, also for an image that is no release."""
    name, tag, _ = split_reference(image)
    if image.startswith(LOCAL):
        raise RemoteError("it came as an archive, no registry has it")
    if not _RELEASE.fullmatch(tag):
        raise RemoteError("it is not named by a release, as in caddy:2.11.7")
    return _podman(_ASK, "search", "--list-tags", "--limit", "100000", "--format", "{{.Tag}}", name).split()


class Reference(NamedTuple):
    """An image's name, tag and digest; what is missing is empty."""

    name: str
    tag: str
    digest: str


def split_reference(image: str) -> Reference:
    """The parts of a fully qualified reference."""
    rest, _, digest = image.partition("@")
    head, slash, tail = rest.rpartition("/")
    tail, _, tag = tail.partition(":")
    return Reference(f"{head}{slash}{tail}", tag, digest)


def newest_tag(tag: str, offered: Iterable[str]) -> str | None:
    """The highest release above `tag` of the same major version and form: `2.11.7-alpine` is compared with -alpine."""
    current = _version(tag)
    found = {version[1]: text for text in offered if (version := _version(text)) and version[0] == current[0]}
    return found[highest] if found and (highest := max(found)) > current[1] else None


_PATCH: Final = 3  # of major, minor and patch


def patch_tags(tag: str, offered: Iterable[str]) -> list[str]:
    """The releases above `tag` of the same minor version and form, the highest first."""
    form, current = _version(tag)
    if len(current) != _PATCH:
        return []
    found = {version[1]: text for text in offered if (version := _version(text))[0] == form}
    return [found[one] for one in sorted(found, reverse=True) if one[:2] == current[:2] and one > current]


def _version(tag: str) -> tuple[tuple[str, int, int, str], tuple[int, ...]]:
    """What two tags must share to be compared, and the numbers to compare; what is no release shares nothing."""
    match = _RELEASE.fullmatch(tag)
    if match is None:
        return ("", 0, 0, tag), ()
    numbers = tuple(int(number) for number in match[2].split("."))
    return (match[1], len(numbers), numbers[0], match[3]), numbers


def pinned(image: str) -> str:
    """An image of the proxy by its digest as well, pulled. Raises RemoteError."""
    # It is pulled even where it is here: the registry may have another image by this tag.
    _podman(_PULL, "pull", "--quiet", image)
    known: list[str] = json.loads(_podman(_ASK, "image", "inspect", "--format", "{{json .RepoDigests}}", image))
    digests = [one.partition("@")[2] for one in known]
    # The digest to name is that of the list for all processors, where there is one.
    manifest = _podman(_ASK, "manifest", "inspect", image, check=False)
    of_list = [digest for digest in digests if digest not in manifest]
    return f"{image}@{(of_list or digests)[0]}"


def pull(image: str) -> None:
    """Pull an image of the proxy unless it is here. Raises RemoteError."""
    existing = _podman(_ASK, "image", "inspect", "--format", "{{.Id}}", image, check=False)
    if not existing and not image.startswith(LOCAL):
        _podman(_PULL, "pull", "--quiet", image)


def _podman(seconds: int, *words: str, check: bool = True) -> str:
    """Run Podman as the proxy's user in a transient unit, which ends it after so many seconds."""
    unit = ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", f"--property=RuntimeMaxSec={seconds}"]
    try:
        return common.as_user(facts.PROXY_USER, [*unit, "podman", "--log-level=error", *words], check=check)
    except RemoteError as error:
        text = str(error).partition("Error: ")[2] or str(error).partition(" failed: ")[2]
        raise RemoteError(f"podman {words[0]} failed: {text}") from None
