"""The proxy's image: which one runs here, which releases its registry has, and bringing one before it is needed."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts, files
from builder.server.remote import common, services
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.server.remote.common import Value


UNIT: Final = f"{facts.QUADLETS}/{facts.PROXY_UID}/er-proxy.container"
# A name of an image that came as an archive: no registry has it.
_LOCAL: Final = "localhost/"
_RELEASE: Final = re.compile(r"(v?)(\d+(?:\.\d+)*)(.*)")
# How long a registry may take to name its tags, and to give an image, in seconds.
_ASK, _FETCH = 10, 900


class Reference(NamedTuple):
    """An image's name, tag and digest; what is not there is empty."""

    name: str
    tag: str
    digest: str


def split(image: str) -> Reference:
    """The parts of a fully qualified reference."""
    rest, _, digest = image.partition("@")
    head, slash, tail = rest.rpartition("/")
    tail, _, tag = tail.partition(":")
    return Reference(f"{head}{slash}{tail}", tag, digest)


def of_unit(text: str) -> str:
    """The image that a unit names."""
    found = re.search(r"^Image=(.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def proxy() -> Value:
    """The image of the proxy's unit, its digest here, the newest release beside it, and why that is not known."""
    image = of_unit(Path(UNIT).read_text())
    digest = _podman(_ASK, "image", "inspect", "--format", "{{.Digest}}", image, check=False).strip()
    try:
        newest, why = newest_release(image), ""
    except RemoteError as error:
        newest, why = None, str(error)
    return {"image": image, "digest": digest, "newest": newest, "unknown": why}


def newest_release(image: str) -> str | None:
    """The image of the newest release that the registry has; None when this is it. Raises RemoteError."""
    name, tag, _ = split(image)
    if image.startswith(_LOCAL):
        raise RemoteError("it came as an archive, no registry has it")
    if not _RELEASE.fullmatch(tag):
        raise RemoteError("it is not named by a release, as in caddy:2.11.7")
    said = _podman(_ASK, "search", "--list-tags", "--limit", "100000", "--format", "{{.Tag}}", name)
    newer = newest(tag, said.split())
    return f"{name}:{newer}" if newer else None


def newest(tag: str, offered: Iterable[str]) -> str | None:
    """The highest release above `tag` of the same major version and the same form: `2.11.7-alpine` has its own line."""
    mine = _version(tag)
    found = {version[1]: text for text in offered if (version := _version(text)) and version[0] == mine[0]}
    return found[highest] if found and (highest := max(found)) > mine[1] else None


def _version(tag: str) -> tuple[tuple[str, int, int, str], tuple[int, ...]]:
    """What two tags must share to be compared, and the numbers by which they are; nothing is shared by no release."""
    match = _RELEASE.fullmatch(tag)
    if match is None:
        return ("", 0, 0, tag), ()
    numbers = tuple(int(number) for number in match[2].split("."))
    return (match[1], len(numbers), numbers[0], match[3]), numbers


def proxy_newest(image: str, bring: str) -> Value:
    """The newest release of an image, which may be itself; with `bring` it is fetched, and pinned by its digest."""
    found = newest_release(image) or image.partition("@")[0]
    return {"image": _pinned(found) if bring == "bring" else found}


def _pinned(image: str) -> str:
    # Also where it is here: the registry may have made the release anew.
    _podman(_FETCH, "pull", "--quiet", image)
    known: list[str] = json.loads(_podman(_ASK, "image", "inspect", "--format", "{{json .RepoDigests}}", image))
    digests = [one.partition("@")[2] for one in known]
    # The registry's own name is that of the list for all processors, where there is one.
    listed = _podman(_ASK, "manifest", "inspect", image, check=False)
    whole = [digest for digest in digests if digest not in listed]
    return f"{image}@{(whole or digests)[0]}"


def fetch(image: str) -> None:
    """Have an image here before anything that runs is touched; raises RemoteError."""
    here = _podman(_ASK, "image", "inspect", "--format", "{{.Id}}", image, check=False)
    if not here and not image.startswith(_LOCAL):
        _podman(_FETCH, "pull", "--quiet", image)


def _podman(seconds: int, *words: str, check: bool = True) -> str:
    """As the proxy's user, in a unit of its own manager, which ends it in time."""
    unit = ["systemd-run", "--user", "--quiet", "--wait", "--pipe", "--collect", f"--property=RuntimeMaxSec={seconds}"]
    try:
        return common.as_user(facts.PROXY_USER, [*unit, "podman", "--log-level=error", *words], check=check)
    except RemoteError as error:
        said = str(error).partition("Error: ")[2] or str(error).partition(" failed: ")[2]
        raise RemoteError(f"podman {words[0]} failed: {said}") from None


# How long Podman has to answer, in seconds; a stack may hold its lock.
_ANSWER: Final = 30


def archives_missing() -> list[str]:
    """Of the JSON list of [stack, image, path] on stdin, the paths whose image is neither loaded nor lying here."""
    wanted = [(stack, image, path) for stack, image, path in json.load(sys.stdin.buffer) if not Path(path).exists()]
    loaded = {stack: _loaded(stack) for stack in {stack for stack, _, _ in wanted}}
    return [path for stack, image, path in wanted if (there := loaded[stack]) is not None and image not in there]


def _loaded(stack: str) -> list[str] | None:
    """The images of a stack; None where its Podman does not answer, and an archive would not help."""
    if stack != "proxy" and not services.uids([stack]):
        return []
    argv = ["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"]
    try:
        return common.as_user(f"{facts.STACK_USER_PREFIX}{stack}", argv, limit=_ANSWER).split()
    except RemoteError:
        return None


def archive_put(path: str) -> Value:
    """Take an archive from stdin to `path`, whole or not at all."""
    target = Path(path)
    if target.parent != Path(facts.IMAGES):
        raise RemoteError(f"{path} is not a place for archives")
    with files.aside(target, 0o644, name=f".{target.name}.part") as stream:
        shutil.copyfileobj(sys.stdin.buffer, stream)
    return {"bytes": target.stat().st_size}
