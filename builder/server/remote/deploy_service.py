"""What a deploy key may do: one request, from the forced command of its login, answered as root.

systemd starts this for each connection to the socket that only the group of that login can open. The request is the
command line that ssh was given, up to a NUL; what follows is the input of its verb. Which stack it is about is the
key's: see `deploy_key`. The answer is a digit, 0 or 1, and then JSON or the lines of an error.

A deploy key sends no code: what serves it is the remote part that the admin's last `er server apply` has left.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import re
import shlex
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder import facts
from builder.problems import UserError
from builder.server.remote.common import RemoteError
from builder.server.remote.deploy import deploy_key, git_push
from builder.server.remote.main import function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.server.remote.deploy.deploy_key import DeployKey

# What words may look like; they are whole words of a command line, and none may begin like an option.
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_TAG: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_NUMBER: Final = r"[0-9]{1,9}"
_PHASE: Final = r"[a-z' ]{1,60}"
# The longest that one call may wait, in seconds.
_SECONDS: Final = r"[0-9]|[1-5][0-9]"
_BUILD: Final = r"[0-9a-f]{12}"


class Request(NamedTuple):
    """The words of a verb that follow its stack; of those at least so many have to be there.

    `tells` is for a verb whose input says who asks for it: that is the key. `signs` is for one that is told so by its
    last word. `adds` is what the service says as well.
    """

    words: tuple[str, ...] = ()
    least: int = 0
    tells: bool = False
    signs: bool = False
    adds: tuple[str, ...] = ()


# A push takes no layer from another stack's storage, nor says which are there: by naming digests, which are no secrets,
# somebody could get at images that are.
REQUESTS: Final = {
    "stack-status": Request(),
    "stack-logs": Request((_NUMBER, _NAME), 1),
    "push-target": Request((_NAME,)),
    "push-missing": Request((_NAME, "look"), 1, adds=("own",)),
    "push-layers": Request((_NAME,), 1),
    "push-finish": Request((_NAME, _TAG), 2),
    "build-start": Request((_NAME,), 1, signs=True),
    "build-state": Request(),
    "build-wait": Request((_NUMBER, _SECONDS, _BUILD), 3),
    "release-start": Request(tells=True),
    "release-wait": Request((_PHASE, _SECONDS), 2),
    "release-list": Request(),
    "release-rollback": Request((f"{_NUMBER}|spec",), tells=True),
}


def main() -> None:
    """Answer the request on stdin, which is the connection; the journal is told who asked, and what was refused."""
    who = "somebody"
    try:
        key = deploy_key.of_peer(socket.socket(fileno=os.dup(0)))
        who = f"{key.stack} {key.fingerprint} {_printable(key.comment)}"
        request = _read_request()
        _log(f"{who}: {_printable(request)}")
        with _place(key.stack):
            _serve(key, request, lambda text: _log(f"{who}: {text}"))
    except (RemoteError, UserError) as error:
        _log(f"{who}: refused: {error}")
        _answer(b"1", (f"er-error: {error}\n" + (f"er-hint: {error.hint}\n" if error.hint else "")).encode())
    except Exception:
        _answer(b"1", b"er-error: the server could not do this\ner-hint: its admin finds the reason in its journal\n")
        raise


def _serve(key: DeployKey, request: str, log: Callable[[str], None]) -> None:
    pushed = git_push.stack_of(request)
    if pushed is None:
        _answer(b"0", json.dumps(_run(key, request)).encode())
    elif pushed != key.stack:
        raise RemoteError(f"this key is for the stack {key.stack} alone", f"git push ssh://deploy@HOST/{key.stack}")
    else:
        git_push.receive(key.stack, _who(key), log)


def _run(key: DeployKey, request: str) -> Any:
    verb, words = parsed(request, key.stack)
    form = REQUESTS[verb]
    if form.tells:
        sys.stdin = io.TextIOWrapper(io.BytesIO(told(sys.stdin.buffer.read(_LONGEST), key)))
    return function(verb)(*words, *((_who(key),) if form.signs else ()), *form.adds)


def _who(key: DeployKey) -> str:
    """As others are shown it."""
    return key.comment or key.fingerprint


def parsed(request: str, stack: str) -> tuple[str, tuple[str, ...]]:
    """The verb of a request and its words, of which the first is the stack. Raises RemoteError for any other."""
    try:
        verb, *words = shlex.split(request) or [""]
    except ValueError:
        verb, words = "", []
    if verb not in REQUESTS:
        raise RemoteError("a deploy key has no shell, and may not do this", f"what it may: er deploy HOST {stack}")
    if words[:1] != [stack]:
        raise RemoteError(f"this key is for the stack {stack} alone")
    forms, rest = REQUESTS[verb].words, words[1:]
    fits = REQUESTS[verb].least <= len(rest) <= len(forms)
    if not fits or not all(re.fullmatch(form, word) for form, word in zip(forms, rest, strict=False)):
        raise RemoteError(f"{verb} does not take these words", "is er of the same version here as on the server?")
    return verb, tuple(words)


_SOURCES: Final = ("push", "build", "registry")


def told(text: bytes, key: DeployKey) -> bytes:
    """The input of a release: what it may say, and that this key asks for it. Raises RemoteError."""
    try:
        found = json.loads(text or b"{}")
        images = {str(service): str(name) for service, name in found.get("images", {}).items()}
        timeout = min(max(int(found.get("timeout", 300)), 1), 3600)
        source = found["source"] if found.get("source") in _SOURCES else ""
    except (ValueError, TypeError, AttributeError, OverflowError):
        raise RemoteError("what came through was cut short, nothing was changed", "try again") from None
    return json.dumps({"images": images, "source": source, "timeout": timeout, "by": _who(key)}).encode()


# A request is short, and is there at once; in bytes and in seconds.
_LONGEST: Final = 65_536
_WITHIN: Final = 20


def _read_request() -> str:
    """The command line, up to its NUL and no byte further: what follows is the verb's. Raises RemoteError."""
    signal.alarm(_WITHIN)
    read = bytearray()
    while (one := os.read(0, 1)) not in (b"", b"\0") and len(read) < _LONGEST:
        read += one
    signal.alarm(0)
    text = read.decode("ascii", "replace")
    if one != b"\0" or not text.isprintable() or not text.isascii():
        raise RemoteError("this is no request: it is too long, or has characters that no request has")
    return text


# Requests of one stack at the same time: `er deploy` has one, and somebody may look meanwhile.
_PLACES: Final = 4
_LOCKS: Final = Path(facts.RUN, "deploy")


@contextmanager
def _place(stack: str) -> Iterator[None]:
    """One of the places that a stack has, so that no key keeps out another stack's. Raises RemoteError."""
    _LOCKS.mkdir(mode=0o700, exist_ok=True)
    for number in range(_PLACES):
        with (_LOCKS / f"{stack}.{number}").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield
            return
    raise RemoteError(f"{_PLACES} requests for {stack} are under way already", "wait until one has ended")


def _answer(code: bytes, body: bytes) -> None:
    """Nobody may be there any more to read it."""
    with contextlib.suppress(OSError):
        sys.stdout.buffer.write(code + body)
        sys.stdout.buffer.flush()


def _log(text: str) -> None:
    """A line in the journal of this unit."""
    sys.stderr.write(f"{_printable(text)}\n")
    sys.stderr.flush()


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)[:600]
