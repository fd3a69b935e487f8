"""Releases of a stack: the switch to images that its store has or its registry gives, and the way back.

The host does the work in a unit of its own (builder/server/remote/releases.py); this follows it to its end.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.problems import UserError
from builder.server.ssh import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from builder.server.ssh import Following, Server


def switch(
    server: Following, stack: str, images: Mapping[str, str], *, source: str, by: str = "", timeout: float = 300
) -> Iterator[dict[str, Any]]:
    """Let services run these images, by name; yields each state once, the last is how it ended.

    It ends in `done` with the new `release`, or in `rolled back` or `failed` with `why` and what containers `said`.
    Without `by` it is who is logged in there. `timeout` is how long the services have to become ready, in seconds.
    """
    request = {"images": dict(images), "source": source, "by": by, "timeout": timeout}
    content = json.dumps(request).encode()
    yield from follow(server, stack, "release", lambda: server.ask("release-start", stack, stdin=content))


def roll_back(
    server: Following, stack: str, release: str = "", *, by: str = "", timeout: float = 300
) -> Iterator[dict[str, Any]]:
    """Back to a release by its number, without one to that before, with `spec` to the spec's images; as `switch`."""
    content = json.dumps({"by": by, "timeout": timeout}).encode()
    words = [stack, *([release] if release else [])]
    yield from follow(server, stack, "release", lambda: server.ask("release-rollback", *words, stdin=content))


def releases(server: Server, stack: str) -> list[dict[str, Any]]:
    """The releases of a stack, the newest first; `current` is the one that runs."""
    found: list[dict[str, Any]] = server.ask("release-list", stack)
    return found


def deployed(server: Server) -> list[dict[str, Any]]:
    """Each service of the host that runs by a release: `stack`, `service`, `image`, what is `of_spec`, its `unit`."""
    found: list[dict[str, Any]] = server.ask("release-state")
    return found


_WAITING: Final = "waiting for its turn"
# How long another change of the stack is waited for, and between two looks, in seconds.
_TURN, _PAUSE = 600.0, 2.0
# How long a host that does not answer is tried, in seconds.
_RECONNECT_WITHIN: Final = 300.0


def follow(server: Following, stack: str, kind: str, start: Callable[[], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The states of a change of a stack that `start` begins, in its turn; `kind` is what its verbs begin with."""
    deadline = time.monotonic() + _TURN
    state, shown = start(), ""
    while state["phase"] == _WAITING:
        if state["holder"] != shown:
            shown = state["holder"]
            yield state
        if time.monotonic() > deadline:
            raise UserError(f"{stack} is still being changed: {shown}", "wait for its end, then try again")
        time.sleep(_PAUSE)
        state = start()
    yield state
    yield from states(server, f"{kind}-wait", stack, phase=state["phase"])


def states(server: Following, verb: str, *words: str, phase: str) -> Iterator[dict[str, Any]]:
    """Each state of a change after this phase, once, by the verb that waits; the last is how it ended.

    A connection that is lost is made anew, as the host goes on by itself.
    """
    deadline = time.monotonic() + _RECONNECT_WITHIN
    while phase not in facts.APPLY_ENDS:
        try:
            for state in server.follow(verb, *words, phase=phase):
                deadline = time.monotonic() + _RECONNECT_WITHIN
                if state["phase"] != phase:
                    yield state
                phase = state["phase"]
        except UnreachableError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE)
