"""Images as users write them: a reference, which becomes fully qualified, or the path of an OCI archive.

Also what else is known of an image by its name: file capabilities of its program, and its name in the host's store.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from builder import messages
from builder.oci import image_archive

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.messages import Text
    from builder.problems import Mark, Report

T = TypeVar("T")

ARCHIVE: Final = "oci-archive:"


def is_archive(image: str) -> bool:
    """True for a normalised image that is an archive on this machine."""
    return image.startswith(ARCHIVE)


def archive_of(image: str, built: Path | None) -> Path | None:
    """The archive of this machine that a normalised image comes from: one that was `built`, or the one it names."""
    return built or (Path(image.removeprefix(ARCHIVE)) if is_archive(image) else None)


def is_pulled(image: str) -> bool:
    """True for a normalised image that a registry has: it is no archive, and none that only a release brings."""
    return not is_archive(image) and not image.startswith("localhost/")


def normalise(text: str, base_dir: Path, where: str, mark: Mark | None, report: Report) -> str | None:
    """The image as the host will ask for it; None when it cannot be used, and the reason is added to the report.

    `nginx:1.27` becomes docker.io/library/nginx:1.27; an archive's path becomes absolute.
    """
    if text.startswith(ARCHIVE):
        return _archive(text.removeprefix(ARCHIVE), base_dir, where, mark, report)
    reference = split(text)
    fault = _fault(text, reference)
    if fault is not None:
        reason, values = fault
        reason.add_to(report, where, mark, **values)
        return None
    name = _qualified(reference)
    if reference.digest:
        # The digest decides; the tag stays for who reads it.
        tag = f":{reference.tag}" if reference.tag else ""
        return f"{name}{tag}@{reference.digest}"
    if reference.tag in ("", "latest"):
        reason = messages.IMAGE_LATEST if reference.tag else messages.IMAGE_UNTAGGED
        reason.add_to(report, where, mark, name=name)
    return f"{name}:{reference.tag or 'latest'}"


def _archive(name: str, base_dir: Path, where: str, mark: Mark | None, report: Report) -> str | None:
    if not name.strip():
        messages.IMAGE_ARCHIVE_EMPTY.add_to(report, where, mark)
        return None
    try:
        path = (base_dir / name).resolve()
        found = path.is_file()
    except (OSError, ValueError):
        found = False
    if not found:
        messages.IMAGE_ARCHIVE_MISSING.add_to(report, where, mark, path=name)
        return None
    return f"{ARCHIVE}{path}"


class Reference(NamedTuple):
    """The parts of a registry reference as written; a part that is not there is empty."""

    registry: str
    path: str
    tag: str
    digest: str


def split(text: str) -> Reference:
    """The parts of a reference, cut where Docker cuts it; nothing is checked."""
    rest, _, digest = text.partition("@")
    head, slash, tail = rest.rpartition("/")
    tail, _, tag = tail.partition(":")
    first, cut, path = f"{head}{slash}{tail}".partition("/")
    if cut and (first == "localhost" or "." in first or ":" in first):
        return Reference(first, path, tag, digest)
    return Reference("", f"{head}{slash}{tail}", tag, digest)


def known(image: str | None, table: Mapping[str, T]) -> T | None:
    """What a table says of an image by its name, from whichever registry; None for any other.

    The name is the last part of the path for images of docker.io/library, and of the mirrors of it, else the last two.
    """
    if image is None or not is_pulled(image):
        return None
    parts = split(image).path.split("/")
    official = len(parts) == 1 or parts[-2] == "library"
    return table.get("/".join(parts[-1:] if official else parts[-2:]))


def _qualified(reference: Reference) -> str:
    registry = reference.registry.lower()
    if registry in ("", "index.docker.io", "docker.io"):
        path = reference.path if "/" in reference.path else f"library/{reference.path}"
        return f"docker.io/{path}"
    return f"{registry}/{reference.path}"


Fault = tuple["Text", dict[str, str]]


def _fault(text: str, reference: Reference) -> Fault | None:
    """The first thing wrong with a reference, if any."""
    return _fault_as_text(text) or _fault_in_name(text, reference) or _fault_in_version(text, reference)


_TRANSPORTS: Final = ("https://", "http://", "docker://", "docker-archive:", "docker-daemon:")
_TRANSPORTS_LOCAL: Final = ("containers-storage:", "dir:", "oci:")
_EXAMPLE: Final = "docker.io/library/caddy:2.11"


def _fault_as_text(text: str) -> Fault | None:
    if not text.strip():
        return messages.IMAGE_EMPTY, {}
    if "$" in text:
        return messages.IMAGE_VARIABLE, {}
    for transport in _TRANSPORTS:
        if text.startswith(transport):
            example = text.removeprefix(transport) if transport.endswith("//") else "oci-archive:app.tar"
            return messages.IMAGE_TRANSPORT, {"transport": transport, "example": example or _EXAMPLE}
    for transport in _TRANSPORTS_LOCAL:
        if text.startswith(transport) and "/" in text:
            return messages.IMAGE_TRANSPORT, {"transport": transport, "example": "oci-archive:app.tar"}
    return None


_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::[0-9]{{1,5}})?")
_LONGEST_NAME: Final = 255


def _fault_in_name(text: str, reference: Reference) -> Fault | None:
    if reference.registry == "localhost":
        return messages.IMAGE_LOCAL, {}
    if reference.registry and not _REGISTRY.fullmatch(reference.registry):
        return messages.IMAGE_REGISTRY, {"registry": reference.registry}
    if _is_name(reference.path) and len(reference.path) <= _LONGEST_NAME:
        return None
    if _is_name(reference.path.lower()):
        return messages.IMAGE_CASE, {"lower": text.replace(reference.path, reference.path.lower())}
    return messages.IMAGE_NAME, {"name": reference.path or reference.registry}


_PART: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")


def _is_name(path: str) -> bool:
    return all(_PART.fullmatch(part) for part in path.split("/"))


_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def _fault_in_version(text: str, reference: Reference) -> Fault | None:
    colon = ":" in text.partition("@")[0].rpartition("/")[2]
    if colon and not _TAG.fullmatch(reference.tag):
        return messages.IMAGE_TAG, {"tag": reference.tag}
    if "@" in text and not _DIGEST.fullmatch(reference.digest):
        return messages.IMAGE_DIGEST, {"digest": reference.digest}
    return None


# Programs of well-known images that carry a file capability (setcap in their Dockerfiles), which the kernel refuses to
# execute without it. In a rootless container it counts in the container's own network only.
_FILE_CAPABILITIES: Final = {
    "docker.io/library/caddy": ("NET_BIND_SERVICE",),
    "docker.io/coredns/coredns": ("NET_BIND_SERVICE",),
    "docker.io/adguard/adguardhome": ("NET_BIND_SERVICE",),
}


def file_capabilities(image: str, entrypoint: str | None, command: str | None) -> tuple[str, ...]:
    """The file capabilities of the image's program; `entrypoint` and `command` replace the first words of its own."""
    if is_archive(image):
        return image_archive.file_capabilities(Path(image.removeprefix(ARCHIVE)), entrypoint, command)
    return _FILE_CAPABILITIES.get(re.sub(r"(?::[^:/@]*)?(?:@.*)?$", "", image), ())


def host_name(stack: str, service: str, image: str) -> str:
    """The name of a normalised image in the host's store: an archive's comes from its content."""
    if not is_archive(image):
        return image
    path = Path(image.removeprefix(ARCHIVE))
    return f"localhost/er/{stack}-{service}:{image_archive.digest(path, path.stat().st_mtime_ns)[:12]}"
