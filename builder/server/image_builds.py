"""Building on the server: what an image is made of goes there, and what the build prints comes back as it is printed.

The work is `remote/images/image_builds.py`'s, in a unit that a lost connection does not end: this side finds it again.
"""

from __future__ import annotations

import getpass
import json
import re
import socket
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from builder.problem_report import printable
from builder.problems import UserError
from builder.server.ssh import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from builder.server.ssh import Server
    from builder.stack.model import Build


@dataclass(frozen=True, slots=True)
class Request:
    """What `podman build` is told, beside what it is made of.

    `containerfile` is a path inside of that; `inline` is the text of one that is not. `args` and `labels` are
    NAME=VALUE, `extra_hosts` NAME:ADDRESS. `digest` becomes a part of the image's tag. `anew`: without a cache, and
    from the newest base images, as also when the last such build was `max_age` seconds ago. `seconds` and `writes`
    (bytes) are limits below the server's own. `by` is who is shown to others meanwhile.
    """

    digest: str

    containerfile: str = ""
    inline: str | None = None
    target: str | None = None
    args: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    network: str = "default"
    anew: bool = False
    max_age: int = 0
    by: str = ""
    seconds: int | None = None
    writes: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """What has happened: `text` that the build printed, or `waiting` for somebody else's to end."""

    text: str = ""
    waiting: str = ""


def request(build: Build, digest: str, max_age: float) -> Request:
    """What a build of the spec asks for. Raises UserError where its Containerfile cannot be read."""
    inside = not build.containerfile.startswith("../")
    inline = build.inline
    try:
        if inline is None and not inside:
            inline = (build.context / build.containerfile).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{build.context / build.containerfile} cannot be read: {error}") from None
    return Request(
        digest,
        containerfile=build.containerfile if inside else "",
        inline=inline,
        **build.options,
        max_age=int(max_age),
        by=f"{getpass.getuser()}@{socket.gethostname()}",
    )


def build(server: Server, stack: str, service: str, request: Request, context: bytes) -> Generator[Progress, None, str]:
    """Build it there of this tar archive; the generator's value is the name of the image in the stack's own store.

    Raises UserError with what was wrong with it.
    """
    yield from _wait_for_others(server, stack)
    said = {name: value for name, value in asdict(request).items() if value}
    header = json.dumps({**said, "size": len(context)}).encode()
    state = server.ask("build-start", stack, service, stdin=(header, b"\n", context), compress=True, timeout=600)
    return (yield from _follow(server, stack, state["build"]))


# Seconds that one call waits on the server: it ends before anything on the way takes the connection for dead.
_CALL_SECONDS: Final = 20
# How long a server that does not answer is tried, in seconds, and how often; the build goes on meanwhile.
_RECONNECT_WITHIN, _RETRY = 360.0, 3.0


def _wait_for_others(server: Server, stack: str) -> Iterator[Progress]:
    """Until no build of the stack is under way; what another one prints is not shown."""
    said = ""
    while (state := server.ask("build-state", stack))["phase"] != "none":
        if said != state["build"]:
            since = time.strftime("%H:%M:%S", time.localtime(state["since"]))
            by = f" by {printable(state['by'])}" if state["by"] else ""
            yield Progress(waiting=f"{stack} is being built{by} since {since}")
            said = state["build"]
        time.sleep(_RETRY)


def _follow(server: Server, stack: str, number: str) -> Generator[Progress, None, str]:
    offset, deadline = 0, time.monotonic() + _RECONNECT_WITHIN
    while True:
        try:
            state = server.ask("build-wait", stack, str(offset), str(_CALL_SECONDS), number)
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY)
            continue
        deadline = time.monotonic() + _RECONNECT_WITHIN
        if state["text"]:
            yield Progress(text=_plain(state["text"]))
        elif state["phase"] == "done":
            return str(state["image"])
        elif state["phase"] == "failed":
            raise UserError(f"{stack} was not built: {printable(state['why'])}", printable(state["hint"]) or None)
        offset = state["offset"]


_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*[mK]")


def _plain(text: str) -> str:
    """What a build printed, with nothing that a terminal obeys; lines that were to replace each other stand below."""
    return printable(_COLOURS.sub("", text).replace("\r\n", "\n").replace("\r", "\n"), keep="\n\t")
