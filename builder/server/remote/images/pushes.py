"""Images that come over this connection, without a registry: only the layers that the stack's storage lacks are sent.

`push-target` says for whom an image has to be, `push-missing` takes its description and says which layers are wanted
and how many bytes of each are here from a push that was cut, `push-layers` receives them, `push-finish` has Podman
take the image. What arrives is trusted in nothing: see `pushed_image` and `image_storage`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NoReturn

from builder import facts, files
from builder.server.remote import common, locks, release_record
from builder.server.remote.common import RemoteError
from builder.server.remote.images import image_storage, pushed_image

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from builder.server.remote.common import Value
    from builder.server.remote.images.pushed_image import Image, Layer

DIRECTORY: Final = Path(facts.STATE, "pushes")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Seconds without a byte, after which a push is over and the next one for the service may begin.
_SILENCE: Final = 60
# How long the end of a push waits for somebody else who changes the stack, in seconds.
_TURN: Final = 600
# Seconds after which what is left of a push is removed.
_LEFT: Final = 86_400
# How many times its size a compressed layer unpacks to, at a guess.
_UNPACKED: Final = 3


def push_target(stack: str, service: str = "") -> Value:
    """The `service` that is meant, where only one can be, and the `architecture` that its image has to be of."""
    common.stack_user(stack)
    return {"service": _service(stack, service), "architecture": pushed_image.architecture()}


def push_missing(stack: str, service: str, *words: str) -> Value:
    """The layers to send for the image that stdin describes: `missing`, each with the bytes that are `here`.

    With the word `own` nothing is taken from other stacks' storage, nor said of it. With `look` nothing is begun.
    """
    user = common.stack_user(stack)
    place = _Place(stack, _service(stack, service))
    described = sys.stdin.buffer.read(pushed_image.MAX_TEXT + 1)
    image = pushed_image.parsed(described, pushed_image.architecture())
    own = image_storage.layers_of(user)
    wanted = {layer.digest: layer for layer in image.layers if layer.diff_id not in own}
    if "look" not in words:
        remove_leftovers()
        with place.locked():
            place.begin(image, wanted.values())
            _check_room(place, wanted.values())
            if "own" not in words:
                _take_from_others(place, wanted.values())
    missing = [digest for digest, layer in wanted.items() if not place.has(layer)]
    return {"missing": [{"digest": digest, "here": place.here(digest)} for digest in missing]}


def push_layers(stack: str, service: str) -> Value:
    """Receive layers from stdin: for each a line `DIGEST OFFSET LENGTH`, then so many bytes."""
    common.stack_user(stack)
    place = _Place(stack, _service(stack, service))
    received = 0
    with place.locked(), _ends_in_silence():
        sizes = {layer.digest: layer.size for layer in place.image().layers}
        while line := sys.stdin.buffer.readline(200):
            received += _receive(place, sizes, line)
    return {"bytes": received}


def push_finish(stack: str, service: str, tag: str) -> Value:
    """Podman takes the image as the stack's user; returns the name of the `image` there, and its `id`."""
    user = common.stack_user(stack)
    place = _Place(stack, _service(stack, service))
    if not _TAG.fullmatch(tag):
        raise RemoteError(f"{pushed_image.shown(tag)} is no tag of an image")
    name = f"{release_record.repository(stack, place.service)}:{tag}"
    with place.locked(), locks.stack(stack, "er server push", _TURN):
        image = place.image()
        own = image_storage.layers_of(user)
        if any(layer.diff_id not in own and not place.has(layer) for layer in image.layers):
            raise RemoteError("some of its layers have not come", "push it again: it goes on from here")
        place.lay_out(image, own)
        found = image_storage.pull(user, place.layout, place.scratch(), f"easyrunner-push-{place.service}")
        if found != image.id:
            raise RemoteError(f"Podman made {found[:12]} of {image.id[:12]}", "is the image whole? build it anew")
        common.as_user(user, ["podman", "tag", found, name], timeout=common.PODMAN_TIMEOUT)
        place.clear()
    return {"image": name, "id": image.id}


def _service(stack: str, service: str) -> str:
    """The service, or the only one that has an image without a registry, or the only one. Raises RemoteError."""
    known = release_record.services(stack)
    if service in known:
        return service
    there = f"there are: {', '.join(f'{stack}/{name}' for name in known)}"
    if service:
        raise RemoteError(f"the stack {stack} has no service {pushed_image.shown(service)}", there)
    pushed = [name for name in known if release_record.of_spec(stack, name) == release_record.repository(stack, name)]
    for found in (known, pushed):
        if len(found) == 1:
            return found[0]
    raise RemoteError(f"the stack {stack} has several services: say which one the image is for", there)


class _Place:
    """Where the image of one service is put together: below a directory of root's that the stack may read.

    `plan` is the image as described. A blob is a whole layer, checked by its digest; a part is the beginning of one.
    """

    def __init__(self, stack: str, service: str) -> None:
        self.stack, self.service = stack, service
        self.directory = DIRECTORY / stack / service
        self.layout = self.directory / "image"
        self._blobs = self.layout / "blobs/sha256"
        self._parts = self.directory / "parts"
        self._plan = self.directory / "plan"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One push of a service at a time: the next waits until one whose connection is dead has been given up.

        A disk that fills in the block ends the push: what is here goes. Raises RemoteError.
        """
        self._make()
        with (self.directory / "lock").open("wb") as lock:
            deadline = time.monotonic() + _SILENCE + 15
            while not _lock(lock):
                if time.monotonic() > deadline:
                    raise RemoteError(f"another push to {self.stack}/{self.service} is under way", "wait for its end")
                time.sleep(0.2)
            try:
                yield
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                self.clear()
                raise RemoteError(_NO_ROOM, _NO_ROOM_HINT) from None

    def _make(self) -> None:
        DIRECTORY.mkdir(exist_ok=True)
        DIRECTORY.chmod(0o711)
        group = common.gid(common.user_of(self.stack))
        for path in (self.directory.parent, self.directory, self.layout, self._blobs.parent, self._blobs):
            path.mkdir(mode=0o700, exist_ok=True)
            os.chown(path, 0, group)
            path.chmod(0o750)
        self._parts.mkdir(mode=0o700, exist_ok=True)

    def begin(self, image: Image, wanted: Iterable[Layer]) -> None:
        """Write the plan; what is here of another image's layers goes."""
        names = {digest.partition(":")[2] for layer in wanted for digest in (layer.digest, layer.diff_id)}
        for path in (*self._blobs.iterdir(), *self._parts.iterdir()):
            if path.name not in names:
                path.unlink()
        files.replace(self._plan, image.described(), 0o600)

    def image(self) -> Image:
        """The image of the plan. Raises RemoteError where there is none."""
        try:
            return pushed_image.parsed(self._plan.read_bytes(), pushed_image.architecture())
        except FileNotFoundError:
            raise RemoteError("no push has begun here", "push it again") from None

    def blob(self, digest: str) -> Path:
        """Where a whole layer is."""
        return self._blobs / digest.partition(":")[2]

    def part(self, digest: str) -> Path:
        """Where the beginning of a layer is."""
        return self._parts / digest.partition(":")[2]

    def has(self, layer: Layer) -> bool:
        """Whether the whole layer is here, as it comes or as its tar."""
        return self.blob(layer.digest).exists() or self.blob(layer.diff_id).exists()

    def here(self, digest: str) -> int:
        """How many bytes of a layer are here."""
        for path in (self.blob(digest), self.part(digest)):
            with contextlib.suppress(FileNotFoundError):
                return path.stat().st_size
        return 0

    def finish(self, digest: str) -> None:
        """The whole of a layer has come: it is checked, and becomes a blob. Raises RemoteError."""
        part = self.part(digest)
        with part.open("rb") as stream:
            found = f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"
            os.fsync(stream.fileno())
        if found != digest:
            part.unlink()
            raise RemoteError(f"the layer {digest[7:19]} came as {found[7:19]}: it is not taken", "push it again")
        os.chown(part, 0, common.gid(common.user_of(self.stack)))
        part.chmod(0o640)
        part.replace(self.blob(digest))

    def lay_out(self, image: Image, own: Collection[str]) -> None:
        """Write the rest of the layout. The layers that Podman has, `own`, stand in its manifest by their tars."""
        every = {layer.diff_id for layer in image.layers}
        tars = {one: self.here(one) for one in every if one in own or self.blob(one).exists()}
        owner = (0, common.gid(common.user_of(self.stack)))
        for path, content in pushed_image.layout(image, tars).items():
            files.replace(self.layout / path, content, 0o640, owner=owner)

    def scratch(self) -> Path:
        """Where there is to be a directory of the stack's; what is there of one is removed."""
        path = self.directory / "tmp"
        shutil.rmtree(path, ignore_errors=True)
        return path

    def clear(self) -> None:
        """Remove all of it, but the lock that somebody may wait for."""
        self._plan.unlink(missing_ok=True)
        for path in (self.layout, self._parts, self.scratch()):
            shutil.rmtree(path, ignore_errors=True)


def _lock(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# Of a copy of layers out of another stack's storage.
_COPY: Final = ".from-"


def leftovers() -> list[Path]:
    """What pushes have left that did not come to their end within a day."""
    every = [*DIRECTORY.glob("[!.]*/*/"), *DIRECTORY.glob(f"{_COPY}*/")]
    return [path for path in every if _newest(path) < time.time() - _LEFT]


def _newest(directory: Path) -> float:
    times = [0.0]
    for path in (directory, *directory.glob("parts/*"), directory / "plan"):
        with contextlib.suppress(FileNotFoundError):
            times.append(path.lstat().st_mtime)
    return max(times)


def remove_leftovers() -> None:
    """Remove them, but what somebody is at just now."""
    for directory in leftovers():
        with (directory / "lock").open("ab") as lock:
            if _lock(lock):
                shutil.rmtree(directory, ignore_errors=True)


_NO_ROOM: Final = "the server's disk has become full meanwhile: the push was ended, what runs goes on"
_NO_ROOM_HINT: Final = "er server doctor HOST --fix removes what nobody needs; then push it again"


def _check_room(place: _Place, wanted: Iterable[Layer]) -> None:
    """Room for what is to come, for Podman's copy of each layer, and for what is in it. Raises RemoteError."""
    need = sum(
        layer.size - place.here(layer.digest) + layer.size + layer.size * (_UNPACKED if layer.compression else 1)
        for layer in wanted
    )
    if need > (free := image_storage.free()):
        raise RemoteError(
            f"this image needs {_mib(need)} MiB on the server's disk until it is unpacked, and {_mib(free)} are there: "
            "nothing was sent, what runs goes on",
            "er server doctor HOST --fix removes what nobody needs; or give the server a larger disk",
        )


def _mib(size: int) -> str:
    return f"{max(-(-size >> 20), 0):,}"


@contextmanager
def _ends_in_silence() -> Iterator[None]:
    """A connection that has died is not waited for: each byte sets the alarm anew. Raises RemoteError."""

    def give_up(*_: object) -> NoReturn:
        raise RemoteError(f"nothing came for {_SILENCE} s", "push it again: it goes on from here")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_SILENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _receive(place: _Place, sizes: dict[str, int], line: bytes) -> int:
    """One layer, or the rest of one, that begins with this line; returns its number of bytes. Raises RemoteError."""
    digest, offset, length = _header(line)
    if digest not in sizes or place.blob(digest).exists():
        raise RemoteError(f"nobody has asked for the layer {digest[7:19]}", "push it again")
    if offset != place.here(digest) or not 0 < length <= sizes[digest] - offset:
        raise RemoteError(f"of the layer {digest[7:19]} other bytes are wanted", "push it again: it goes on from here")
    with place.part(digest).open("ab", buffering=0) as part:
        for chunk in _chunks(length):
            _write(part, chunk)
    if offset + length == sizes[digest]:
        signal.alarm(0)
        place.finish(digest)
        signal.alarm(_SILENCE)
    return length


def _header(line: bytes) -> tuple[str, int, int]:
    found = re.fullmatch(rb"(sha256:[0-9a-f]{64}) ([0-9]{1,15}) ([0-9]{1,15})\n", line)
    if not found:
        raise RemoteError("what came through is no layer", "push it again")
    return found[1].decode(), int(found[2]), int(found[3])


def _chunks(length: int) -> Iterator[bytes]:
    while length:
        chunk: bytes = sys.stdin.buffer.read1(min(length, 1 << 18))  # type: ignore[union-attr]
        if not chunk:
            raise RemoteError("the connection was cut", "push it again: it goes on from here")
        signal.alarm(_SILENCE)
        length -= len(chunk)
        yield chunk


def _write(part: IO[bytes], chunk: bytes) -> None:
    """Whatever else fills the disk meanwhile: this does not take the last of it. Raises OSError (ENOSPC)."""
    if image_storage.free() < 0:
        raise OSError(errno.ENOSPC, "the disk is nearly full")
    rest = memoryview(chunk)
    while rest:
        rest = rest[part.write(rest) :]


# Smaller layers are sent sooner than every stack's Podman has answered, in bytes.
_LARGE: Final = 1 << 20


def _take_from_others(place: _Place, wanted: Collection[Layer]) -> None:
    """Take layers out of the storage of other stacks and of the proxy. It only saves sending: what fails is sent."""
    for stack in ("proxy", *common.stacks()):
        lacking = {layer.diff_id for layer in wanted if layer.size > _LARGE and not place.has(layer)}
        if stack == place.stack or not lacking:
            continue
        with contextlib.suppress(RemoteError, ValueError):
            user = common.user_of(stack)
            for image, layers in image_storage.images_of(user).items():
                if found := lacking & {*layers}:
                    _take(place, user, image, found, {*layers} - found)
                    lacking -= found


def _take(place: _Place, user: str, image: str, found: Collection[str], others: Collection[str]) -> None:
    """Copy layers of another user's image, each verified by the digest of its tar. Raises RemoteError or OSError."""
    directory = Path(tempfile.mkdtemp(dir=DIRECTORY, prefix=_COPY))
    try:
        os.chown(directory, common.uid(user), common.gid(user))
        image_storage.export(user, image, others, directory)
        for diff_id in found:
            with place.part(diff_id).open("wb", buffering=0) as part:
                for chunk in image_storage.read(user, directory / "blobs/sha256" / diff_id.partition(":")[2]):
                    _write(part, chunk)
            place.finish(diff_id)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
