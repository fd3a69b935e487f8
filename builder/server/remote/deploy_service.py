"""What a deploy key may do: one request, from the forced command of its login, answered as root.

systemd starts this for each connection to the socket that only the group of that login can open. The request is the
command line that ssh was given, up to a NUL; what follows is the input of its verb. Which stack it is about is the
key's: see `deploy_key`. The answer is a digit, 0 or 1, and then JSON or the lines of an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import re
import shlex
import signal
import socket
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import facts
from builder.problems import UserError
from builder.server.remote import deploy_key, stack_status
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from builder.server.remote.deploy_key import DeployKey

# What words may look like; they are whole words of a command line, and no name may begin like an option.
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}"
_NUMBER: Final = r"[0-9]{1,15}"
# Verb, what it runs, and its words after the stack, each of which may be left out from the end if it says so.
REQUESTS: Final[dict[str, tuple[Callable[..., Any], tuple[str, ...]]]] = {
    "stack-status": (stack_status.stack_status, ()),
    "stack-logs": (stack_status.stack_logs, (_NUMBER, f"(?:{_NAME})?")),
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
            _answer(b"0", json.dumps(_run(key, request)).encode())
    except (RemoteError, UserError) as error:
        _log(f"{who}: refused: {error}")
        _answer(b"1", (f"er-error: {error}\n" + (f"er-hint: {error.hint}\n" if error.hint else "")).encode())
    except Exception:
        _answer(b"1", b"er-error: the server could not do this\ner-hint: its admin finds the reason in its journal\n")
        raise


def _run(key: DeployKey, request: str) -> Any:
    verb, words = parsed(request, key.stack)
    return REQUESTS[verb][0](*words)


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
    pairs = itertools.zip_longest(REQUESTS[verb][1], words[1:])
    if not all(form is not None and word is not None and re.fullmatch(form, word) for form, word in pairs):
        raise RemoteError(f"{verb} does not take these words", "is er of the same version here as on the server?")
    return verb, tuple(words)


# A request is short, and is there at once; in bytes and in seconds.
_LONGEST: Final = 4096
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
