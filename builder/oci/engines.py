"""Images of the local Docker or Podman, saved to an archive."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import process
from builder.oci import local_images, messages

if TYPE_CHECKING:
    from builder.oci.local_images import LocalImage

ENGINES: Final = ("docker", "podman")
# Prefixes of a path, as containers-transports(5) has them.
_TRANSPORTS: Final = ("oci:", "oci-archive:", "docker-archive:")
# How long an engine may take to answer, in seconds: its daemon may not run.
_ANSWER: Final = 60
_DOCKER_FORMAT: Final = "application/vnd.docker."


def find(image: str, architecture: str, scratch: Path) -> LocalImage:
    """The image that somebody names: a path, with its transport or without, or an image of Docker or Podman.

    What an engine has is saved into the directory `scratch`, which the image needs as long as its layers are read.
    Raises UserError.
    """
    if named := _file(image):
        return local_images.read(named.path, architecture, named.name)
    return local_images.read(_saved(_one(image), scratch), architecture)


class _File(NamedTuple):
    path: Path
    name: str


def _file(image: str) -> _File | None:
    transport = next((one for one in _TRANSPORTS if image.startswith(one)), "")
    text = image.removeprefix(transport)
    path = Path(text).expanduser()
    if path.is_file() or (path / "index.json").is_file():
        return _File(path, "")
    if not transport:
        return None
    head, colon, name = text.partition(":")
    if colon and Path(head).exists():
        return _File(Path(head).expanduser(), name)
    if not path.exists():
        raise messages.no_file(path)
    return _File(path, "")


class _Image(NamedTuple):
    """An image of an engine: its id, and the media type of its manifest, where the engine says."""

    engine: str
    name: str
    id: str
    kind: str


def _one(image: str) -> _Image:
    engine, colon, name = image.partition(":")
    asked = (engine,) if colon and engine in ENGINES else ENGINES
    name = name if len(asked) == 1 else image
    installed = [one for one in asked if shutil.which(one)]
    if not installed:
        raise messages.no_engine(image)
    answers = [_inspected(one, name) for one in installed]
    found = [one for one in answers if isinstance(one, _Image)]
    if not found:
        raise messages.not_here(name, installed, "; ".join(str(one) for one in answers if one))
    if len({one.id for one in found}) > 1:
        raise messages.in_both(name)
    return found[0]


def _inspected(engine: str, name: str) -> _Image | str:
    """The image, or what the engine says of having none: nothing where it is just not there."""
    kind = " {{.ManifestType}}" if engine == "podman" else ""
    done = process.run(
        [engine, "image", "inspect", "--format", f"{{{{.Id}}}}{kind}", "--", name], timeout=_ANSWER, check=False
    )
    if done.returncode == 0:
        digest, _, kind = done.stdout.strip().partition(" ")
        return _Image(engine, name, digest.removeprefix("sha256:"), kind)
    said = (done.stderr.strip().splitlines() or [""])[-1]
    return "" if "no such image" in said.lower() or "not known" in said else f"{engine} says: {said}"


def save_argv(image: _Image) -> list[str]:
    """The call that writes it to stdout, with its configuration as it is.

    Podman would make another image of one in Docker's format, and lose its health check, if it wrote OCI's.
    """
    if image.engine == "docker":
        return ["docker", "save", image.name]
    if image.kind.startswith(_DOCKER_FORMAT):
        return ["podman", "save", "--quiet", "--format", "docker-archive", image.name]
    return ["podman", "save", "--quiet", "--format", "oci-archive", "--uncompressed", image.name]


def _saved(image: _Image, scratch: Path) -> Path:
    path = scratch / "image.tar"
    with path.open("wb") as stream:
        process.into(save_argv(image), stream)
    return path
