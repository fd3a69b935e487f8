"""`er server push`: an image that is here goes to a server's storage, and no layer that the server has.

`server` is whatever asks a host for a verb: the admin's `Remote`, or the login of a deploy key.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from builder.server.ssh import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.oci.local_images import Layer, LocalImage
    from builder.server.ssh import Server


class Target(NamedTuple):
    """The service that an image is for, and the architecture that it has to be of."""

    service: str
    architecture: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A layer that the server lacks, and how many bytes of it are there from a push that was cut."""

    layer: Layer
    here: int

    @property
    def size(self) -> int:
        """Bytes to send."""
        return self.layer.size - self.here


class Progress(NamedTuple):
    """Bytes that were sent, of how many, and the layer that is being sent, from 1, of how many."""

    sent: int
    bytes: int
    layer: int
    layers: int


# Seconds: Podman may take long to give another stack's layers, and to unpack an image.
_LONG: Final = 3600


def target(server: Server, stack: str, service: str = "") -> Target:
    """Raises UserError where it is not clear which service is meant."""
    return Target(**server.ask("push-target", stack, *([service] if service else [])))


def missing(server: Server, stack: str, service: str, image: LocalImage, *, look: bool = False) -> tuple[Missing, ...]:
    """The layers that the server lacks, in the image's order; with `look` nothing is begun there."""
    layers = [
        {"digest": one.digest, "diff_id": one.diff_id, "size": one.size, "compression": one.compression}
        for one in image.layers
    ]
    described = {"config": image.config.decode(), "docker": image.docker, "layers": layers}
    words = ["look"] if look else []
    answer = server.ask("push-missing", stack, service, *words, stdin=json.dumps(described).encode(), timeout=_LONG)
    here = {one["digest"]: one["here"] for one in answer["missing"]}
    every = {layer.digest: layer for layer in image.layers if layer.digest in here}
    return tuple(Missing(layer, here[digest]) for digest, layer in every.items())


def push(
    server: Server,
    stack: str,
    service: str,
    image: LocalImage,
    tag: str = "",
    *,
    report: Callable[[Progress], object] = str,
) -> str:
    """Send what the server lacks; returns the image's name in the stack's storage there.

    Without a tag it is the beginning of the image's id. `report` is told of each piece. What was cut goes on where it
    stopped when this is called again. Raises UserError.
    """
    send(server, stack, service, missing(server, stack, service, image), report)
    return finish(server, stack, service, image, tag)


def send(
    server: Server, stack: str, service: str, wanted: tuple[Missing, ...], report: Callable[[Progress], object] = str
) -> None:
    """Send layers. Raises UserError."""
    if not wanted:
        return
    try:
        pieces = _pieces(wanted, report)
        server.ask("push-layers", stack, service, stdin=pieces, compress=_is_compressible(wanted), timeout=_LONG)
    except UnreachableError as error:
        hint = "the same command goes on where it stopped"
        raise UnreachableError(error.message, f"{hint}; {error.hint}" if error.hint else hint) from None


def finish(server: Server, stack: str, service: str, image: LocalImage, tag: str = "") -> str:
    """Have the stack's Podman take an image whose layers are all there; returns its name in the storage there."""
    answer = server.ask("push-finish", stack, service, tag or image.id[:12], timeout=_LONG)
    return str(answer["image"])


_PIECE: Final = 1 << 18


def _pieces(wanted: tuple[Missing, ...], report: Callable[[Progress], object]) -> Iterator[bytes]:
    """For each layer a line with its digest, where to go on, and the number of bytes, which follow."""
    sent, every = 0, sum(one.size for one in wanted)
    for number, one in enumerate(wanted, 1):
        yield f"{one.layer.digest} {one.here} {one.size}\n".encode()
        with one.layer.open() as stream:
            stream.seek(one.here)
            while piece := stream.read(_PIECE):
                yield piece
                sent += len(piece)
                report(Progress(sent, every, number, len(wanted)))


# Of a layer, bytes that are tried.
_SAMPLE: Final = 1 << 18
# Compressing costs more than it saves, on most connections, when it leaves more than this share.
_WORTH: Final = 0.8


def _is_compressible(wanted: tuple[Missing, ...]) -> bool:
    """Whether most of what is to be sent would become smaller."""
    saved = sum(one.size for one in wanted if not one.layer.compression and _share(one) < _WORTH)
    return saved > sum(one.size for one in wanted) / 2


def _share(one: Missing) -> float:
    """What compressing leaves of the middle of what is to be sent."""
    with one.layer.open() as stream:
        stream.seek(one.here + max(one.size - _SAMPLE, 0) // 2)
        sample = stream.read(_SAMPLE)
    return len(zlib.compress(sample, 1)) / max(len(sample), 1)
