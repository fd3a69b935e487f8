"""A `git push` to a stack: what comes in is built here and runs, or is refused and what runs runs on.

`git receive-pack` is the builds' user's, in a unit without a network that may write its repository alone; it speaks
with the client itself. Before it moves the branch it runs our hook (git_hook.py), which asks here over a connection of
its own. So all that reads what was pushed is done there, and all that decides and changes the host is done here.
"""

from __future__ import annotations

import calendar
import fcntl
import hashlib
import json
import os
import re
import shlex
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from builder import facts
from builder.server.remote import locks, release_record, releases
from builder.server.remote.common import RemoteError
from builder.server.remote.deploy import git_repository
from builder.server.remote.images import image_builds

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.server.remote.common import Value
    from builder.server.remote.images.image_builds import Build

VERB: Final = "git-receive-pack"
# What else Git's clients ask for.
READS: Final = ("git-upload-pack", "git-upload-archive")
_GIT: Final = Path("/usr/bin/git")
# Seconds: for the turn, for a build, for the services to become ready; all of it is less than the unit has.
_TURN: Final = 1800
_BUILD: Final = 3000
_READY: Final = 300


def stack_of(request: str) -> str | None:
    """The stack that a client of Git names in its command line, as a path; None when this is no request to push."""
    try:
        verb, *words = shlex.split(request) or [""]
    except ValueError:
        return None
    if verb in READS:
        raise RemoteError("a deploy key pushes, and reads nothing with Git", "git push is what it may")
    if verb != VERB:
        return None
    return words[0].removeprefix("/") if len(words) == 1 else ""


def receive(stack: str, by: str, log: Callable[[str], None]) -> None:
    """Serve a client of Git on stdin and stdout to its end. Raises RemoteError before that begins."""
    settings = _settings(stack)
    build = image_builds.of(stack)
    Path(facts.BUILDS).mkdir(mode=0o711, exist_ok=True)
    image_builds.check_room(0)
    repository = git_repository.prepare(build)
    ours, theirs = socket.socketpair()
    # The client's program takes this for the request's success; from here on the protocol is Git's.
    os.write(1, b"0")
    unit = git_repository.receive_pack(build, repository, settings["branch"])
    # Its turn ends with the unit, which moves the branch after all else.
    with ExitStack() as turn, ours, subprocess.Popen(unit, stdin=0, stdout=1, stderr=theirs.fileno()):
        theirs.close()
        _Push(stack, settings, by, log, ours, turn).serve()
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)


def _settings(stack: str) -> Value:
    try:
        found: Value = json.loads(Path(facts.STACKS, stack, facts.GIT).read_bytes())
    except FileNotFoundError:
        way = "write deploy: {git: main} into its spec, then: er server apply"
        raise RemoteError(f"the stack {stack} takes no git push", way) from None
    if not _GIT.exists():
        raise RemoteError("git is not installed here yet", "er server apply installs it")
    return found


# What the hook asks, and is told.

_OBJECT: Final = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
# A line of the hook's, in bytes: the text of a Containerfile may be in it.
_LONGEST: Final = 1 << 20


@dataclass
class _Push:
    """One push, from what the hook says of it to the state of its release. What `turn` holds keeps others waiting."""

    stack: str
    settings: Value
    by: str
    log: Callable[[str], None]
    hook: socket.socket
    turn: ExitStack

    def __post_init__(self) -> None:
        self.ref = f"refs/heads/{self.settings['branch']}"
        self._answers = self.hook.makefile("rb")

    def serve(self) -> None:
        """Until the hook has its answer, or there is none: the client had nothing to push, or is gone."""
        try:
            asked = self._read()
            if asked is None:
                return
            try:
                self._take(asked)
                self._tell(end=0)
            except RemoteError as error:
                self.log(f"refused: {error}")
                self.say(f"refused: {error}", *([error.hint] if error.hint else []))
                self._tell(end=1)
        except Exception as error:
            # The hook sees the end of the connection, and refuses the push; on stdout Git has the word.
            self.log(f"broken off: {type(error).__name__}: {error}")

    def _take(self, asked: Value) -> None:
        old, new = update(asked["updates"], self.stack, self.settings["branch"])
        self.log(f"pushes {new} to {self.settings['branch']}")
        self._wait_for_turn()
        at = self.ask(at=self.ref)["at"] or "0" * len(old)
        if at != old:
            raise RemoteError(
                f"{self.settings['branch']} has moved to {at[:10]} since: another push came first",
                "git pull, or the commits that came in between some other way; then push again",
            )
        images = {name: self._image(name, one, new) for name, one in self.settings["services"].items()}
        changed = {name: image for name, image in images.items() if image}
        if changed:
            self._release(changed, new)
        self.log(f"{new} runs")

    def _wait_for_turn(self) -> None:
        """One push after the other: each sees what the one before has come to."""
        lock = self.turn.enter_context(Path(facts.BUILDS, self.stack, "push.lock").open("ab+"))  # noqa: SIM115 - it is
        deadline, said = time.monotonic() + _TURN, False
        while not _is_taken(lock):
            if not said:
                self.say(f"another push to {self.stack} is under way{_holder(lock)}; this one waits its turn")
                said = True
            if time.monotonic() > deadline:
                raise RemoteError("it is still under way", "try again")
            time.sleep(0.5)
            self._tell()  # with nobody there any more it has no turn
        lock.truncate(0)
        lock.write(f" by {self.by} since {time.strftime('%H:%M:%S UTC', time.gmtime())}".encode())
        lock.flush()

    # The build.

    def _image(self, service: str, settings: Value, commit: str) -> str:
        """The name of the image that a service is to run; empty where it runs that already."""
        found = self.ask(find=commit, **{key: settings[key] for key in ("context", "containerfile", "never")})
        name, where = f"{self.stack}/{service}", str(found["place"] or "the commit")
        digest = _digest(settings, found)
        names = [one["images"].get(service, {}).get("image", "") for one in release_record.releases(self.stack)]
        good = [name for name in names if _is_current(name, digest, settings["max_age"])]
        if good and names[-1] in good:
            self.say(f"{name} runs what it is built from ({digest})")
            return ""
        if good:
            self.say(f"{name} goes back to what it was built from before: {good[-1]}")
            return str(good[-1])
        for path in found["withheld"]:
            self.say(f"{name}: {image_builds.printable(path)} is no part of the build, it may hold passwords")
        self.say(f"{name} is built of {where}, {found['files']:,} files ({digest})")
        return self._built(service, _request(settings, found, digest), found["tree"], settings["never"])

    def _built(self, service: str, request: Value, tree: str, never: list[str]) -> str:
        build = image_builds.of(self.stack)
        self._wait_for_others(build)
        size = self.ask(give=tree, never=never)["size"]
        if type(size) is not int or not 0 <= size <= image_builds.LARGEST_CONTEXT:
            raise RemoteError("what came of it has no size")
        begun = image_builds.begin(self.stack, service, {**request, "size": size, "by": self.by}, self._answers)
        offset = 0
        while True:
            state = image_builds.build_wait(self.stack, str(offset), "20", begun["build"])
            if state["text"]:
                self.say(*(f"  {line}" for line in _lines(state["text"])))
            elif state["phase"] == "done":
                return str(state["image"])
            elif state["phase"] == "failed":
                raise RemoteError(f"{self.stack}/{service} was not built: {state['why']}", state["hint"] or None)
            self._tell()  # with nobody there any more it is built, and does not run
            offset = state["offset"]

    def _wait_for_others(self, build: Build) -> None:
        """Until no build is under way that somebody else has begun."""
        deadline, said = time.monotonic() + _TURN, False
        while build.is_running():
            if not said:
                self.say(f"{self.stack} is being built by {build.state().get('by') or 'somebody else'}; this waits")
                said = True
            if time.monotonic() > deadline:
                raise RemoteError(f"{self.stack} is still being built", "try again")
            time.sleep(1)

    # The release.

    def _release(self, images: dict[str, str], commit: str) -> None:
        request = releases.Request(images, "git", self.by, _READY, commit=commit)
        deadline = time.monotonic() + _TURN
        state, shown = releases.begin(self.stack, request), ""
        while state["phase"] == locks.WAITING:
            if state["holder"] != shown:
                shown = state["holder"]
                self.say(f"{shown} goes first")
            if time.monotonic() > deadline:
                raise RemoteError(f"{self.stack} is still being changed: {shown}", "wait for its end, then try again")
            time.sleep(1)
            state = releases.begin(self.stack, request)
        while state["phase"] not in facts.APPLY_ENDS:
            self.say(f"{state['phase']} ...")
            state = self._next(state["phase"])
        if state["phase"] != "done":
            self._failed(state)
        self.say(f"{self.stack} runs release {state['release']['number']}, commit {commit[:10]}")
        if state["lacking"]:
            self.say(f"{self.stack} waits for {', '.join(state['lacking'])}")

    def _next(self, phase: str) -> Value:
        while (state := releases.release_wait(self.stack, phase, "5"))["phase"] == phase:
            self._tell()  # a client that is gone is noticed
        return state

    def _failed(self, state: Value) -> None:
        if state.get("said"):
            self.say("its containers said:", *(f"  {line}" for said in state["said"] for line in _lines(said)))
        then = f"; then: {state['then']}" if state.get("then") else ""
        if state["phase"] == "rolled back":
            raise RemoteError(f"{self.stack} did not come up and runs what it ran before: {state['why']}")
        raise RemoteError(f"{self.stack}: the switch failed: {state['why']}{then}", "see: er server doctor")

    # Lines to and from the hook.

    def say(self, *lines: str) -> None:
        """Show whoever pushes these lines."""
        if lines:
            self._tell(say="\n".join(lines))

    def ask(self, **question: Any) -> Value:
        """The hook's answer. Raises RemoteError where it has found something wrong."""
        self._tell(**question)
        answer = self._read()
        if answer is None:
            raise OSError("the hook is gone")
        if "refused" in answer:
            raise RemoteError(image_builds.printable(answer["refused"]), image_builds.printable(answer["hint"]))
        return answer

    def _tell(self, **message: Any) -> None:
        self.hook.sendall(json.dumps(message or {"say": ""}).encode() + b"\n")

    def _read(self) -> Value | None:
        """The next line; what Git itself says on the way goes to the journal."""
        while line := self._answers.readline(_LONGEST):
            if line.startswith(b"{"):
                return dict(json.loads(line))
            self.log(f"git: {line.decode(errors='replace').strip()}")
        return None


def update(updates: list[list[str]], stack: str, branch: str) -> tuple[str, str]:
    """What the branch is and what it is to be; nothing else may be pushed beside it. Raises RemoteError."""
    others = sorted({image_builds.printable(ref) for _, _, ref in updates if ref != f"refs/heads/{branch}"})
    if others:
        raise RemoteError(f"only the branch {branch} is taken, not {', '.join(others[:5])}", f"git push … {branch}")
    ((old, new, _),) = updates
    if not _OBJECT.fullmatch(old) or not _OBJECT.fullmatch(new):
        raise RemoteError("this is no push")
    if not int(new, 16):
        raise RemoteError(f"{branch} is what {stack} is built from, and stays", "push another commit to it")
    return old, new


def _is_taken(lock: IO[bytes]) -> bool:
    """Whether the lock could be taken."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(lock: IO[bytes]) -> str:
    lock.seek(0)
    return image_builds.printable(lock.read(300).decode(errors="replace"))


def _digest(settings: Value, found: Value) -> str:
    """Of all that an image is made of, as the near side's builds have it: the beginning of its tag."""
    made_of = {**settings, "max_age": None, "never": None, "tree": found["tree"], "text": found["text"]}
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]


_TAG: Final = re.compile(r"([0-9a-f]{12})-([0-9]{12})")


def _is_current(name: str, digest: str, max_age: int) -> bool:
    """Whether an image of this name was made of the same, and not too long ago."""
    found = _TAG.fullmatch(name.rpartition(":")[2])
    if found is None or found[1] != digest:
        return False
    try:
        made = calendar.timegm(time.strptime(found[2], "%Y%m%d%H%M"))
    except ValueError:
        return False
    return time.time() - made < max_age


def _request(settings: Value, found: Value, digest: str) -> Value:
    """What `podman build` is told."""
    own = {key: value for key, value in settings.items() if key not in ("context", "never")}
    if found["text"] is not None:
        own.update(containerfile="", inline=found["text"])
    return {**{key: value for key, value in own.items() if value}, "digest": digest, "seconds": _BUILD}


_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[mK]")


def _lines(text: str) -> list[str]:
    """What somebody else's program printed, with nothing that a terminal obeys."""
    plain = _COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return [image_builds.printable(line.expandtabs(), 2000) for line in plain.splitlines()]
