"""Commands on a server over the system's ssh, with host keys that are known already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from builder import facts, process

if TYPE_CHECKING:
    from pathlib import Path

CA: Final = f"{facts.STATE}/caddy/caddy/pki/authorities/local/root.crt"


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in where, and by which files; `identity` None leaves the key to ssh and its agent."""

    user: str
    address: str
    known_hosts: Path
    identity: Path | None = None

    @property
    def argv(self) -> list[str]:
        """For er: asks nobody anything, and takes no host key that is not known."""
        options = {"BatchMode": "yes", "StrictHostKeyChecking": "yes", "ConnectTimeout": "10", "LogLevel": "ERROR"}
        options |= {"ServerAliveInterval": "5", "ServerAliveCountMax": "3"}
        listed = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", *listed, "-o", f"UserKnownHostsFile={self.known_hosts}", *self._key, self._target]

    def shown(self, default: Path) -> str:
        """For a person to type."""
        known = [] if self.known_hosts == default else ["-o", f"UserKnownHostsFile={self.known_hosts}"]
        return " ".join(["ssh", *known, *self._key, self._target])

    @property
    def _key(self) -> list[str]:
        return ["-i", str(self.identity)] if self.identity else []

    @property
    def _target(self) -> str:
        return f"{self.user}@{self.address}"


def internal_ca(login: Login) -> str | None:
    """The certificate of the host's own authority in PEM form; None when the login does not work from here."""
    done = process.run([*login.argv, "sudo", "cat", CA], check=False)
    return done.stdout if done.returncode == 0 and "BEGIN CERTIFICATE" in done.stdout else None
