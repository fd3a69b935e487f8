"""A host as a deploy key sees it: ssh as `deploy`, for which a forced command stands on the host.

The key sends no code. It asks for a verb of the host's own remote part, about the one stack that it is for; what it may
ask is in `remote/deploy_service.py`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from builder import facts
from builder.server.ssh import (
    CALL_SECONDS,
    KeyRefusedError,
    Remote,
    call,
    explain_failure,
    fresh_options,
    long_options,
    value,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from builder.problems import UserError


@dataclass(frozen=True, slots=True)
class DeployLogin:
    """A host as ssh names it, with `deploy@`; `options` and `shared` are as in Remote."""

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
        """As `Remote.ask`, by the host's own remote part; raises the same."""
        options = () if isinstance(stdin, bytes) else long_options(compress=compress)
        done = call(self.host, self.argv([verb, *words], fresh=fresh, options=options), stdin, timeout)
        if done.returncode != 0:
            raise self.explained(done.returncode, done.stderr)
        return value(self.host, done.stdout, "is it a host of er, and the stack one with deploy keys?")

    def follow(self, verb: str, *words: str, phase: str) -> Iterator[dict[str, Any]]:
        """As `Remote.follow`, one state: the host's own remote part may be an older one, and is asked as ever."""
        yield self.ask(verb, *words, phase, str(CALL_SECONDS))

    def argv(self, command: Sequence[str], *, fresh: bool = False, options: Sequence[str] = ()) -> list[str]:
        """The call of ssh; nobody is asked anything, and an unknown host key is refused."""
        own = fresh_options() if fresh else []
        own += ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=15", *options]
        own += self.shared if not fresh and not options else ()
        return ["ssh", "-T", *self.options, *own, "--", self.host, shlex.join(command)]

    def explained(self, code: int, stderr: str) -> UserError:
        """The error for a call of ssh that ended with this exit code and printed this to stderr."""
        error = explain_failure(self.host, code, stderr)
        if isinstance(error, KeyRefusedError):
            way = "is it a key of the stack's deploy.ssh_keys, and has er server apply brought that spec to the server?"
            return KeyRefusedError(error.message, way)
        return error


Login = Remote | DeployLogin
"""Who asks a host: its admin, or a deploy key."""


def is_deploy(host: str) -> bool:
    """Whether HOST names the login of those who may only deploy."""
    return host.partition("@")[0] == facts.DEPLOY_LOGIN and "@" in host
