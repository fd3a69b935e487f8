"""The connection to a host: the system's ssh, so that its config, agent and known_hosts count.

What runs there is `builder.server.remote`, of which the host keeps no version but this client's: it is named by its
digest with each call, and sent to a host that lacks it. It goes through stdin, since sudo logs command lines.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import re
import shlex
import subprocess
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from builder import facts, process
from builder.problems import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    Ended = Generator[bytes, None, subprocess.CompletedProcess[str]]

_SOURCES: Final = Path(__file__).resolve().parents[1]
# What `builder.server.remote` imports besides the standard library.
_SHARED: Final = ("facts", "files", "problems")
# It reads from stdin: a line with the size of the archive, then the archive, and leaves what the command itself reads.
# With a size of 0 it takes what an earlier call has left in a directory of root's, by the digest, which is a word.
# There Python keeps what it has compiled. Else it imports from the archive in memory, once that has this digest.
_LOADER: Final = (
    "import os,sys;i=sys.stdin.buffer;d=sys.argv.pop(1);n=int(i.readline());c=i.read(n);"
    f"p='{facts.REMOTE}/'+d;f=os.memfd_create('er');os.write(f,c);"
    "(__import__('hashlib').sha256(c).hexdigest()==d if n else os.path.isdir(p)) or sys.exit('er-code: wanted');"
    "sys.path.insert(0,'/proc/self/fd/%d'%f if n else p);"
    "from builder.server.remote.main import main;main(d if n else '')"
)
_WANTED: Final = "er-code: wanted"


# Seconds that a verb which waits does so: it ends before anything on the way takes the connection for dead.
CALL_SECONDS: Final = 20
# Seconds without a word, of a change that is followed: its state is said again each 20.
_SILENT: Final = 120.0


class UnreachableError(UserError):
    """The host could not be reached; a later attempt may succeed."""


class KeyRefusedError(UnreachableError):
    """The host answers and accepts none of the keys. Fail2Ban counts each attempt."""


class KeyChangedError(UnreachableError):
    """The host key is not the one in known_hosts."""


class Server(Protocol):
    """Whoever takes a verb of the remote part: the admin's connection, or a deploy key's; see `Remote.ask`."""

    def ask(
        self,
        verb: str,
        *words: str,
        stdin: bytes | Iterable[bytes] = b"",
        fresh: bool = False,
        compress: bool = False,
        timeout: float = 120,
    ) -> Any:
        """The answer of a verb."""


class Following(Server, Protocol):
    """Whoever can follow a change as well; see `Remote.follow`."""

    def follow(self, verb: str, *words: str, phase: str) -> Iterator[dict[str, Any]]:
        """The states of a change that a verb waits for."""


@dataclass(frozen=True, slots=True)
class Remote:
    """A host as ssh names it; `options` are arguments of ssh that stand before it, `shared` those of `connection`."""

    host: str
    options: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def ask(
        self,
        verb: str,
        *words: str,
        stdin: bytes | Iterable[bytes] = b"",
        fresh: bool = False,
        compress: bool = False,
        timeout: float = 120,
    ) -> Any:
        """Run a verb of the remote part as root; returns the value that it prints as JSON.

        `stdin` that comes in pieces may be long: ssh notices a dead connection then, and with `compress` it compresses.
        `timeout` is in seconds; of pieces, from when the last one is on its way. Raises UnreachableError, or UserError
        with what the remote part says.
        """
        options = () if isinstance(stdin, bytes) else long_options(compress=compress)
        digest, archive = package()
        argv = self.argv(remote_command(digest, verb, words), fresh=fresh, options=options)
        if isinstance(stdin, bytes):
            done = call(self.host, argv, b"0\n" + stdin, timeout)
            if done.returncode != 0 and _WANTED in done.stderr:
                done = call(self.host, argv, archive + stdin, timeout)
        else:
            # Pieces are there once: a host that may lack the code gets it with them.
            first = b"0\n" if self.host in _HAVE_CODE else archive
            done = call(self.host, argv, itertools.chain((first,), stdin), timeout)
            if done.returncode != 0 and _WANTED in done.stderr:
                _HAVE_CODE.discard(self.host)
                raise UnreachableError(f"{self.host} has been restarted meanwhile", "try again")
        if done.returncode == 0:
            _HAVE_CODE.add(self.host)
        if done.returncode != 0:
            raise explain_failure(self.host, done.returncode, done.stderr)
        way = "a login script on the host prints text; it should do so in interactive shells only"
        return value(self.host, done.stdout, way)

    def read(self, verb: str, *words: str, stdin: bytes = b"") -> Iterator[bytes]:
        """The bytes that a verb writes, as they come. Raises as `ask` does, where it fails in the middle too."""
        digest, archive = package()
        argv = self.argv(remote_command(digest, verb, words), options=long_options(compress=False))
        done = yield from process.chunks(argv, archive + stdin)
        if done.returncode != 0:
            raise explain_failure(self.host, done.returncode, done.stderr)

    def follow(self, verb: str, *words: str, phase: str, fresh: bool = False) -> Iterator[dict[str, Any]]:
        """The states of a change after this phase, by a verb that waits for each, as they come over one connection.

        It goes on until the change is over or waits for the client, and may say a state again. Raises as `ask` does.
        """
        digest, archive = package()
        options = () if self.shared and not fresh else _ALIVE
        argv = self.argv(remote_command(digest, "follow", (verb, *words, phase)), fresh=fresh, options=options)
        for code in (b"0\n", archive):
            done = yield from _values(self.host, process.chunks(argv, code, silence=_SILENT))
            if done.returncode == 0 or _WANTED not in done.stderr:
                break
        if done.returncode != 0:
            raise explain_failure(self.host, done.returncode, done.stderr)

    def argv(self, command: Sequence[str], *, fresh: bool = False, options: Sequence[str] = ()) -> list[str]:
        """The call of ssh; `fresh` opens a connection of its own even where the user's config shares one.

        So do `options` but for that: they are those of a connection.
        """
        own = [*(fresh_options() if fresh else ()), *options, *self.options]
        own += self.shared if not fresh and not options else ()
        return ["ssh", "-T", "-o", "ConnectTimeout=15", *own, "--", self.host, shlex.join(command)]

    def session(self, request: Mapping[str, Any], *, tty: bool, woken: Callable[[list[str]], object]) -> NoReturn:
        """Go on as the ssh of a command in a container; see `remote/session.py` for the request.

        `woken` is told which services were asleep. Raises as `ask` does, before anything of the command runs.
        """
        prepared = self.ask("session", stdin=json.dumps({**request, "tty": tty}).encode())
        if prepared["woken"]:
            woken(prepared["woken"])
        process.become(self.session_argv(prepared["path"], tty=tty))

    def session_argv(self, path: str, *, tty: bool) -> list[str]:
        """The call of ssh that runs a prepared session. Without the log level it shows the banner, and its farewell."""
        command = shlex.join(["sudo", "-n", "python3", "-I", path])
        own = ["-t" if tty else "-T", "-o", "ConnectTimeout=15", *self.options, "-o", "LogLevel=ERROR"]
        return ["ssh", *own, "--", self.host, command]


def call(
    host: str, argv: Sequence[str], stdin: bytes | Iterable[bytes], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run ssh to its end, whatever that is; stdin at once or in pieces. Raises UserError where there is no end."""
    try:
        if isinstance(stdin, bytes):
            return process.run(argv, stdin=stdin, timeout=timeout, check=False)
        return process.feed(argv, stdin, timeout=timeout)
    except FileNotFoundError:
        raise UnreachableError("the program ssh is not installed", "apt-get install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{host} did not answer within {timeout:.0f} s", "try again; is it busy?") from None


def value(host: str, text: str, way_out: str) -> Any:
    """What a host has answered. Raises UserError where it is no JSON."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise UserError(f"{host} answered something that is no JSON: {text[:80]!r}", way_out) from error


def _values(host: str, run: Ended) -> Generator[Any, None, subprocess.CompletedProcess[str]]:
    """What a program prints as JSON, a value a line; returns how it has ended."""
    rest = b""
    while True:
        try:
            *lines, rest = (rest + next(run)).split(b"\n")
        except StopIteration as end:
            ended: subprocess.CompletedProcess[str] = end.value
            return ended
        except subprocess.TimeoutExpired:
            raise UnreachableError(f"{host} has said nothing for {_SILENT:.0f} s", "try again; is it busy?") from None
        for line in lines:
            yield value(host, line.decode(), "try again")


# A connection that waits: a host whose power is cut says nothing of it, and has a minute and a half to be confirmed.
_ALIVE: Final = ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=4")


def config(host: str, options: Sequence[str]) -> dict[str, str]:
    """What ssh's configuration says for a host, by its keywords in lower case."""
    said = process.run(["ssh", "-G", *options, "--", host]).stdout
    return dict(line.split(" ", 1) for line in said.splitlines() if " " in line)


def quoted(path: Path | str) -> str:
    """A path as the value of an option that knows tokens."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def fresh_options() -> list[str]:
    """Options for a connection of its own, also where the user's config shares one."""
    return ["-o", "ControlMaster=no", "-o", "ControlPath=none"]


def long_options(*, compress: bool) -> list[str]:
    """Options of a long transfer: a connection that has died is given up after a minute."""
    alive = ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"]
    return [*alive, "-o", f"Compression={'yes' if compress else 'no'}"]


# Hosts that have answered a call of this process.
_HAVE_CODE: Final = set[str]()


def remote_command(digest: str, verb: str, words: Sequence[str]) -> list[str]:
    """The command line on the host; sudo changes nothing for root."""
    return ["sudo", "-n", "python3", "-I", "-c", _LOADER, digest, verb, *words]


@cache
def package() -> tuple[str, bytes]:
    """The remote part: its digest; and the zip archive, with its size in bytes on a line before it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(_package_files()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    code = buffer.getvalue()
    return hashlib.sha256(code).hexdigest(), b"%d\n%s" % (len(code), code)


def _package_files() -> Iterator[tuple[str, bytes]]:
    """The remote part under its own name and what it shares; the packages above it are empty there."""
    yield from (("builder/__init__.py", b""), ("builder/server/__init__.py", b""))
    shared = (_SOURCES / f"{name}.py" for name in _SHARED)
    for path in (*shared, *(_SOURCES / "server" / "remote").rglob("*.py")):
        yield f"builder/{path.relative_to(_SOURCES)}", path.read_bytes()


# The exit code of ssh itself, when it could not connect or lost the connection.
_CANNOT_CONNECT: Final = 255
# The remote part's own errors: one line that begins like this, and a hint on the next.
_REMOTE_ERROR, _REMOTE_HINT = "er-error: ", "er-hint: "
# A host key that is known by its fingerprint: the one that is there instead.
SEEN_KEY: Final = "er-host-key: "
_KEY_CHANGED: Final = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_KEY_UNKNOWN: Final = "Host key verification failed"
_KEY_REFUSED: Final = "Permission denied"
# Where the key stands that was known: ssh prints it, under whatever name and in whatever file it is.
_KNOWN_AT: Final = re.compile(r"Offending \S+ key in (.+):(\d+)")
# A message of ssh or sudo, what it means, and the way out. The first that is found counts.
_CAUSES: Final = (
    (
        _KEY_CHANGED,
        "the host key is not the one that is known",
        "if the server was made anew, compare its fingerprint with the console's, then remove the old key: {known}",
    ),
    (
        _KEY_UNKNOWN,
        "the host key is not known",
        "compare the fingerprint with the one on the server's console, then log in once with: ssh {host}",
    ),
    (
        "Too many authentication failures",
        "your agent has more keys than the server tries",
        "name the right one: -o IdentitiesOnly=yes -o IdentityFile=PATH, or as IdentityFile in your ~/.ssh/config",
    ),
    (
        _KEY_REFUSED,
        "the server accepts none of your keys",
        "is it the key of admin.ssh_keys, and the user admin.name? as in: er@{host}",
    ),
    ("Could not resolve hostname", "there is no such name", "write user@address, or a Host of your ~/.ssh/config"),
    ("Connection refused", "nothing listens for SSH there", "the server may still be starting: look at its console"),
    (
        "timed out",
        "no answer",
        "is it on? does ssh.allow_from contain your address? Fail2Ban may have banned it: see the provider's console",
    ),
    (
        "No route to host",
        "there is no way to it",
        "is the address right, and has your network IPv4 or IPv6 as it needs?",
    ),
    (
        "Connection closed",
        "it closed the connection",
        "Fail2Ban or sshd's own limits may refuse your address for a while",
    ),
    ("a password is required", "sudo asks for a password", "use the admin user of the spec, whose sudo asks for none"),
    ("sudo: command not found", "it has no sudo", "this is no host of er: make one with er user-data"),
    ("python3: command not found", "it has no python3", "this is no host of er: make one with er user-data"),
)


def explain_failure(host: str, code: int, stderr: str) -> UserError:
    """The error for a call of ssh that ended with this exit code and printed this to stderr."""
    lines = [line.strip() for line in stderr.strip().splitlines() if line.strip()]
    if own := _after(_REMOTE_ERROR, lines):
        return UserError(f"{host}: {own}", _after(_REMOTE_HINT, lines))
    if code == _CANNOT_CONNECT and _KEY_UNKNOWN in stderr and (seen := _after(SEEN_KEY, lines)):
        way = "is it the right server? its console shows its fingerprint, and for its admin er server status"
        return KeyChangedError(f"{host}: the host key is {seen}, and not the one that was given", way)
    error = _error_class(code, stderr)
    for text, meaning, hint in _CAUSES:
        if text in stderr:
            return error(f"{host}: {meaning}", hint.format(host=host, known=_known_key(host, stderr)))
    # A connection that others share ends without a word.
    end = lines[-1] if lines else "the connection was lost" if code == _CANNOT_CONNECT else f"exit code {code}"
    return error(f"{host}: {end}", f"see what this says: ssh -v {host}" if code == _CANNOT_CONNECT else None)


def _after(prefix: str, lines: Sequence[str]) -> str | None:
    """The rest of the first line with this prefix."""
    return next((line.removeprefix(prefix) for line in lines if line.startswith(prefix)), None)


def _error_class(code: int, stderr: str) -> type[UserError]:
    if code != _CANNOT_CONNECT:
        return UserError
    if _KEY_CHANGED in stderr:
        return KeyChangedError
    return KeyRefusedError if _KEY_REFUSED in stderr else UnreachableError


def _known_key(host: str, stderr: str) -> str:
    found = _KNOWN_AT.search(stderr)
    return f"line {found[2]} of {found[1]}" if found else f"ssh-keygen -R {host}"
