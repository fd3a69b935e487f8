"""The way into a host: the system's ssh, so that its config, agent and known_hosts count.

What runs there is `builder.server.remote`, sent along with each call: the host keeps no agent, and client and remote
part are of one version. It goes through stdin, since sudo logs command lines.
"""

from __future__ import annotations

import io
import json
import shlex
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from builder import process
from builder.problems import UserError
from builder.server import failures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUILDER: Final = Path(__file__).resolve().parents[1]
# A line with the size of the archive, the archive, then what the command itself reads. Python imports from the archive
# in memory; nothing is written on the host.
_LOADER: Final = (
    "import os,sys;i=sys.stdin.buffer;f=os.memfd_create('er');os.write(f,i.read(int(i.readline())));"
    "sys.path.insert(0,'/proc/self/fd/%d'%f);from builder.server.remote.main import main;main()"
)


@dataclass(frozen=True, slots=True)
class Remote:
    """A host as ssh names it; `options` are words for ssh that stand before it."""

    host: str
    options: tuple[str, ...] = ()

    def argv(self, command: Sequence[str], *, fresh: bool = False) -> list[str]:
        """How ssh is called; `fresh` takes a connection of its own even where the user's config shares one."""
        own = ["-o", "ControlMaster=no", "-o", "ControlPath=none"] if fresh else []
        return ["ssh", "-T", "-o", "ConnectTimeout=15", *own, *self.options, "--", self.host, shlex.join(command)]

    def ask(self, verb: str, *words: str, stdin: bytes = b"", fresh: bool = False, timeout: float = 120) -> Any:
        """Run a verb of the remote part as root; returns the value that it prints as JSON."""
        argv = self.argv(remote_command(verb, words), fresh=fresh)
        try:
            done = process.run(argv, stdin=package() + stdin, timeout=timeout, check=False)
        except FileNotFoundError:
            way = "apt-get install openssh-client"
            raise failures.UnreachableError("the program ssh is not installed", way) from None
        except subprocess.TimeoutExpired:
            raise UserError(f"{self.host} did not answer within {timeout:.0f} s", "try again; is it busy?") from None
        if done.returncode != 0:
            raise failures.explain(self.host, done.returncode, done.stderr)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise UserError(
                f"{self.host} answered something that is no JSON: {done.stdout[:80]!r}",
                "a login script on the host prints text; it should do so in interactive shells only",
            ) from error


def remote_command(verb: str, words: Sequence[str]) -> list[str]:
    """The command line on the host; sudo does nothing for who is root already."""
    return ["sudo", "-n", "python3", "-I", "-c", _LOADER, verb, *words]


def _modules() -> Iterator[tuple[str, bytes]]:
    """The remote part under its own name, and what it shares; the packages above it are empty there."""
    yield from (("builder/__init__.py", b""), ("builder/server/__init__.py", b""))
    shared = (_BUILDER / f"{name}.py" for name in ("facts", "files", "problems"))
    for path in (*shared, *(_BUILDER / "server" / "remote").glob("*.py")):
        yield f"builder/{path.relative_to(_BUILDER)}", path.read_bytes()


def package() -> bytes:
    """The remote part, with its size before it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(_modules()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return b"%d\n%s" % (buffer.tell(), buffer.getvalue())
