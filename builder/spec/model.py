"""What a spec is once it has been read: checked, complete, without a trace of YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from builder.stack.model import Login, Stack

Base = Literal["debian-13", "ubuntu-24.04"]
Arch = Literal["amd64", "arm64"]
Dns = Literal["route53"]
Jail = Literal["web-scan", "web-flood"]


@dataclass(frozen=True, slots=True)
class Server:
    """The machine: its name and what it is made from."""

    name: str
    base: Base
    arch: Arch
    timezone: str


@dataclass(frozen=True, slots=True)
class Admin:
    """The person who logs in; `ssh_keys` are whole lines of authorized_keys."""

    name: str
    ssh_keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ssh:
    """From which networks SSH is reachable."""

    allow_from: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """Who signs certificates: `ca` is a name or a URL, `ca_root` the PEM root of an own directory's HTTPS."""

    email: str | None
    ca: str
    ca_root: bytes | None = None


@dataclass(frozen=True, slots=True)
class Proxy:
    """The reverse proxy's image, normalised; `body_timeout` in seconds, 0 for none, None for the default.

    `logins` are those to the registries that the image comes from.
    """

    image: str
    body_timeout: float | None = None
    logins: tuple[Login, ...] = ()


@dataclass(frozen=True, slots=True)
class Fail2ban:
    """Networks that are never banned, web jails that are not wanted, and by domain how a site's own paths begin."""

    ignore: tuple[str, ...] = ()
    disable: tuple[Jail, ...] = ()
    allow: tuple[tuple[str, tuple[str, ...]], ...] = ()


@dataclass(frozen=True, slots=True)
class Aws:
    """Where `er launch` puts the server, and its size; None is what the account or er has as default."""

    region: str | None = None
    type: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """The disk of its own that outlives the machine: `auto`, LABEL=er-data, or a path below /dev/disk/by-id."""

    disk: str


@dataclass(frozen=True, slots=True)
class Spec:
    """One host and the app stacks on it."""

    server: Server
    admin: Admin
    ssh: Ssh
    tls: Tls
    proxy: Proxy
    fail2ban: Fail2ban
    stacks: tuple[Stack, ...]
    mirrors: tuple[tuple[str, tuple[str, ...]], ...] = ()  # by registry, in the order in which they are asked
    aws: Aws = Aws()
    dns: Dns | None = None
    data: Data | None = None  # None where the data lies on the machine's own disk

    @property
    def logins(self) -> tuple[tuple[str, Login], ...]:
        """Each login to a registry, by the stack that has it, or `proxy`."""
        owners = (("proxy", self.proxy.logins), *((stack.name, stack.logins) for stack in self.stacks))
        return tuple((owner, login) for owner, logins in owners for login in logins)
