"""`er` as a process of its own that need not load what it stands on: it is forked from one that has.

Loading Python, typer, pydantic, Rich, YAML and Jinja takes most of a short `er`, and a run of the tests has some
thousand of them. What `er` itself says and does is loaded anew each time: `builder.cli` is no part of that.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from functools import cache, partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping

LOADED: Final = (
    "typer._adapters", "typer.core", "typer.main", "rich.console", "rich.table", "yaml", "jinja2", "http.client",
    "concurrent.futures.thread", "builder.spec", "builder.host", "builder.packer", "builder.userdata",
    "builder.server.apply", "builder.server.connection", "builder.server.deploy_login", "builder.server.move",
    "builder.server.push", "builder.server.releases",
)  # fmt: skip
_ROOT: Final = Path(__file__).parents[1]
_MOST: Final = 1 << 17


def run(
    words: list[str],
    *,
    env: Mapping[str, str] = os.environ,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 400,
    module: str = "builder.cli",
) -> subprocess.CompletedProcess[str]:
    """Run `er` with these words to its end, as subprocess.run does; `module` is what has its `main`."""
    request = json.dumps({"words": words, "env": dict(env), "cwd": str(cwd or Path.cwd()), "module": module}).encode()
    scratch = partial(tempfile.TemporaryFile, "w+", encoding="utf-8")
    with scratch() as given, scratch() as out, scratch() as err:
        given.write(stdin)
        given.seek(0)
        reading, writing = os.pipe()
        try:
            socket.send_fds(_parent(), [request], [given.fileno(), out.fileno(), err.fileno(), writing])
        finally:
            os.close(writing)
        with os.fdopen(reading) as ended:
            code = _code(ended, ["er", *words], timeout)
        return subprocess.CompletedProcess(["er", *words], code, _text(out), _text(err))


def _code(ended: IO[str], argv: list[str], timeout: float) -> int:
    """The exit code. A process that does not end in time is killed."""
    pid = int(ended.readline())
    late = threading.Timer(timeout, os.kill, (pid, signal.SIGKILL))
    late.daemon = True
    late.start()
    since = time.monotonic()
    try:
        code = int(ended.readline())
    finally:
        late.cancel()
    if code == -signal.SIGKILL and time.monotonic() - since >= timeout:
        raise subprocess.TimeoutExpired(argv, timeout)
    return code


def _text(file: IO[str]) -> str:
    file.seek(0)
    return file.read()


@cache
def _parent() -> socket.socket:
    """The way to the process that they are forked from: it ends when this one does, and nobody holds the way open."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        argv = [sys.executable, "-m", __name__, str(its.fileno())]
        running = subprocess.Popen(argv, pass_fds=(its.fileno(),), cwd=_ROOT)

    def end() -> None:
        ours.close()
        running.wait()

    atexit.register(end)
    return ours


def main(way: socket.socket) -> None:
    """Fork for each request, and say how each has ended."""
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    # What is never looked at again is not copied for each.
    gc.freeze()
    running = selectors.DefaultSelector()
    running.register(way, selectors.EVENT_READ)
    while True:
        for key, _ in running.select():
            if key.data:
                running.unregister(key.fileobj)
                _tell(*key.data)
            else:
                _fork(way, running)


def _fork(way: socket.socket, running: selectors.BaseSelector) -> None:
    content, fds, _, _ = socket.recv_fds(way, _MOST, 4)
    if not content:
        raise SystemExit
    *streams, ended = fds
    pid = os.fork()
    if pid == 0:
        way.close()
        os.close(ended)
        _be_er(json.loads(content), streams)
    for fd in streams:
        os.close(fd)
    os.write(ended, b"%d\n" % pid)
    handle = os.pidfd_open(pid)
    running.register(handle, selectors.EVENT_READ, (pid, handle, ended))


def _tell(pid: int, handle: int, ended: int) -> None:
    _, status = os.waitpid(pid, 0)
    os.write(ended, b"%d\n" % os.waitstatus_to_exitcode(status))
    os.close(handle)
    os.close(ended)


def _be_er(request: dict[str, Any], streams: list[int]) -> NoReturn:
    """With the environment, the directory and the streams of the request."""
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    time.tzset()
    sys.argv = ["er", *request["words"]]
    os._exit(_ended(request["module"]))


def _ended(module: str) -> int:
    """The exit code of `er`, once all that ends with it has ended."""
    code: Any = 0
    try:
        importlib.import_module(module).main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:
        traceback.print_exc()
        code = 1
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return int(code)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
