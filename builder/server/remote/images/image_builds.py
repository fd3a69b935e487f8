"""Images that are made on the server: by a user and in a slice of their own, and given up before anybody else suffers.

`build-start` takes what an image is made of, and begins the work in a unit of its own (`build-run`), which a lost
connection does not end; `build-wait` returns what has been printed, and how it ended. Nothing of what came is unpacked
by root, nor anything of what was made of it: the one is done by the build's user, the other by the stack's.

/var/lib/easyrunner/builds/STACK has

request.json  what to make, and who asked
context.tar   what to make it of, as it came
state.json    how far it is
output        what it printed, up to a limit
anew.json     when which image was last built without a cache
git/          the repository that deploy keys push to, the build user's
home/         the build's own: its image store, which is the cache of later builds
layout/       the image on its way to the stack's store
"""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import re
import secrets as random
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import background, changed_files, common, held
from builder.server.remote.changed_files import Change
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.server.remote.common import Value

MIB: Final = 1 << 20
# The first line of what comes, in bytes; and of what it is made of, which is unpacked beside it.
_LONGEST_REQUEST: Final = MIB
LARGEST_CONTEXT: Final = 2048 * MIB
# Of the disk: without so much free no build begins.
_FREE_TO_BEGIN: Final = 0.12
# What is sent of the output at once, in bytes.
_CHUNK: Final = MIB
ENDS: Final = frozenset({"done", "failed"})


@dataclass(frozen=True)
class Build:
    """Where and as whom a stack's images are built."""

    stack: str
    user: str

    @property
    def directory(self) -> Path:
        """Root's, but what is in it."""
        return Path(facts.BUILDS, self.stack)

    @property
    def home(self) -> Path:
        """The build user's."""
        return self.directory / "home"

    @property
    def layout(self) -> Path:
        """Where the build leaves the image, and the stack finds it."""
        return self.directory / "layout"

    @property
    def record(self) -> Path:
        """When the layers of each service's images were last built without a cache, in seconds since 1970."""
        return self.directory / "anew.json"

    def empty(self) -> None:
        """Remove the image store, and what is known of it."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.record.unlink(missing_ok=True)

    @property
    def unit(self) -> str:
        """The work of root's, without its ending: it looks after the other one, and hands over what that has made."""
        return f"easyrunner-build-{self.stack}"

    @property
    def inner_unit(self) -> str:
        """Not below that name: a stack may be called so."""
        return f"build@{self.stack}.service"

    @property
    def change(self) -> Change:
        """Keeps the state."""
        return Change(self.directory)

    def state(self) -> Value:
        """The state of the last build; its phase is `none` when there was none."""
        return self.change.state()

    def set_state(self, phase: str, **more: object) -> None:
        """Write the state that clients read."""
        self.change.set_state(phase, **{name: value for name, value in self.state().items() if name in _KEPT}, **more)

    def is_running(self) -> bool:
        """Whether its work is under way."""
        return background.is_running(self.unit)


# Of a state, what stays the same from one phase to the next.
_KEPT: Final = ("build", "service", "by", "since")


def of(stack: str, service: str = "") -> Build:
    """Raises RemoteError where there is no such stack or service, or nothing of it is built here."""
    common.stack_user(stack)
    if service and service not in (known := [name for _, name, _ in common.services(stack)]):
        raise RemoteError(f"the stack {stack} has no service {service}", f"it has: {', '.join(known)}")
    lines = Path(facts.STACKS, stack, "subids").read_text().splitlines()
    users = [line.partition(":")[0] for line in lines[1:]]
    if not users or not _exists(users[0]):
        raise RemoteError(f"nothing of {stack} is built here", "write build: into its spec, then: er server apply")
    return Build(stack, users[0])


def _exists(user: str) -> bool:
    try:
        common.uid(user)
    except KeyError:
        return False
    return True


def build_start(stack: str, service: str, by: str = "") -> Value:
    """Begin to make the image of a service; returns the state, with the number of the build.

    stdin has a line of JSON, what the near side's image_builds.py calls a `Request`, with the `size` of the tar archive
    behind it. `by` is who asks for it, whatever the request says.
    """
    of(stack, service)
    request = _checked(_read_request())
    return begin(stack, service, {**request, "by": by or request.get("by", "")}, sys.stdin.buffer)


def begin(stack: str, service: str, request: Value, stream: IO[bytes]) -> Value:
    """The same of this request; the archive is what comes next from the stream."""
    held.refuse()
    build, request = of(stack, service), _checked(request)
    build.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    Path(facts.BUILDS).chmod(0o711)
    with _locked(build):
        if build.is_running():
            raise _busy(build)
        if build.state()["phase"] not in {*ENDS, "none"}:
            build.empty()  # the power was cut, and its images may be damaged
        check_room(int(request["size"]))
        _receive(build.directory / "context.tar", int(request["size"]), stream)
        number = random.token_hex(6)
        by = printable(request.get("by", ""))
        changed_files.write(build.directory / "request.json", json.dumps(request).encode())
        changed_files.write(build.directory / "output", b"")
        build.change.set_state("started", build=number, service=service, by=by, since=int(time.time()))
        background.start(build.unit, f"build {stack}", build.change, "build-run", stack)
    return build.state()


def build_state(stack: str) -> Value:
    """The state of the build that is under way; the phase is `none` where none is."""
    build = of(stack)
    return build.state() if build.is_running() else {"phase": "none"}


def _busy(build: Build) -> RemoteError:
    state = build.state()
    since = time.strftime("%H:%M:%S", time.localtime(state.get("since", time.time())))
    by = f" by {state['by']}" if state.get("by") else ""
    return RemoteError(f"{build.stack} is being built{by} since {since}", "wait for its end; then try again")


@contextmanager
def _locked(build: Build) -> Iterator[None]:
    """One request at a time: while one receives what to build, no other writes to the same place."""
    with (build.directory / "lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RemoteError(f"somebody else sends what {build.stack} is built of", "try again in a moment") from None
        yield


_USER: Final = re.compile(rf"{facts.STACK_USER_PREFIX}\d+-build")


def remove_unused() -> None:
    """Remove what is left of builds where nothing is built any more: what runs, the store, the user."""
    used = set()
    for directory in Path(facts.BUILDS).glob("*/"):
        try:
            used.add(of(directory.name).user)
            if not Path(facts.STACKS, directory.name, facts.GIT).exists():
                shutil.rmtree(directory / "git", ignore_errors=True)
        except RemoteError:
            build = Build(directory.name, "")
            common.run(["systemctl", "stop", f"{build.unit}.service", build.inner_unit], check=False)
            shutil.rmtree(directory, ignore_errors=True)
    stacks = (path.read_text() for path in Path(facts.STACKS).glob("*/subids"))
    used.update(line.partition(":")[0] for text in stacks for line in text.splitlines())
    for account in pwd.getpwall():
        if _USER.fullmatch(account.pw_name) and account.pw_name not in used:
            common.run(["userdel", account.pw_name], check=False)


# Of a request: what are lists of words, texts, and all that it may have.
LISTS: Final = ("args", "labels", "extra_hosts")
_TEXTS: Final = ("by", "containerfile", "inline", "target", "network")
_KEYS: Final = frozenset({"size", "digest", "anew", "max_age", "seconds", "writes", *_TEXTS, *LISTS})
_DIGEST: Final = re.compile(r"[0-9a-f]{12}")


def _read_request() -> Any:
    """The first line of stdin; nothing where that is no JSON."""
    try:
        return json.loads(sys.stdin.buffer.readline(_LONGEST_REQUEST + 1))
    except (ValueError, RecursionError):
        return None


def _checked(request: Any) -> Value:
    """The request, if it is one. Raises RemoteError for what no client of ours sends."""
    try:
        size = request["size"]
        texts = [request[name] for name in _TEXTS if name in request]
        texts += [word for name in LISTS for word in request.get(name, ())]
        good = request.keys() <= _KEYS and type(size) is int and size >= 0
        good = good and all(isinstance(text, str) and "\0" not in text for text in texts)
        good = good and _DIGEST.fullmatch(request["digest"]) is not None
    except (KeyError, TypeError, AttributeError):
        good, size = False, 0
    if not good:
        raise RemoteError("what came through is no request to build, nothing was changed", "is er here of its version?")
    if size > LARGEST_CONTEXT:
        raise RemoteError(
            f"what it is built of has {size // MIB} MiB; at most {LARGEST_CONTEXT // MIB} are taken",
            "name what the build does not need in .containerignore",
        )
    return dict(request)


def room() -> int:
    """Bytes that a build may take before there are too few to begin another."""
    free, total = disk()
    return free - int(common.wanted_free(total, _FREE_TO_BEGIN))


def check_room(size: int) -> None:
    """Whether so many bytes can be sent, and unpacked beside. Raises RemoteError."""
    if room() < 2 * size:
        raise RemoteError(
            f"of the server's disk {disk()[0] // MIB} MiB are free: too little to build, nothing was changed",
            "see what takes it: er server status; stacks are stopped where it gets full",
        )


def disk() -> tuple[int, int]:
    """Bytes that are free, and all; of a disk with few files left, as little as that is."""
    found = os.statvfs(facts.BUILDS)
    bytes_free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    files_free = found.f_favail / found.f_files if found.f_files else 1.0
    return min(bytes_free, int(files_free * total)), total


def _receive(path: Path, size: int, stream: IO[bytes]) -> None:
    path.unlink(missing_ok=True)
    left = size
    with path.open("xb") as target:
        path.chmod(0o600)
        while left and (block := stream.read(min(left, MIB))):
            target.write(block)
            left -= len(block)
    if left:
        path.unlink()
        raise RemoteError("what it is built of was cut off on its way, nothing was changed", "try again")


def build_wait(stack: str, offset: str, seconds: str, number: str = "") -> Value:
    """The state, with the `text` printed from this `offset` on and the offset of the next; as soon as there is either.

    After so many seconds it is as it was. With the number of a build RemoteError says that another one has come since.
    """
    build = of(stack)
    deadline = time.monotonic() + float(seconds)
    while True:
        # Also before the first look: what is printed in that time comes in one call.
        time.sleep(0.5)
        running, state = build.is_running(), build.state()
        if number and state.get("build") != number:
            raise RemoteError("another build has begun since", f"it is {state.get('by') or 'somebody else'}'s")
        text = _output(build, int(offset))
        if state["phase"] not in ENDS and not running:
            # It may have ended between the two looks.
            state = build.state()
            if state["phase"] not in ENDS:
                state = {**state, "phase": "failed", "why": "its unit is gone", "hint": "was the server restarted?"}
        if text or state["phase"] in ENDS or time.monotonic() > deadline:
            return {**state, "text": text.decode(errors="replace"), "offset": int(offset) + len(text)}


def _output(build: Build, offset: int) -> bytes:
    """Whole lines where there are any, so that no character is cut."""
    try:
        with (build.directory / "output").open("rb") as stream:
            stream.seek(offset)
            text = stream.read(_CHUNK)
    except FileNotFoundError:
        return b""
    end = text.rfind(b"\n") + 1
    return text[:end] if end else text


def printable(text: Any, length: int = 300) -> str:
    """On one line, and short."""
    return "".join(one for one in str(text) if one.isprintable())[:length]
