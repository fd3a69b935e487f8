"""What a spec is once it has been read: checked, complete, without a trace of YAML."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from builder.stack.model import Login, Stack

Base = Literal["debian-13", "ubuntu-24.04"]
Arch = Literal["amd64", "arm64"]
Dns = Literal["route53"]
Jail = Literal["web-scan", "web-flood"]
EdgeName = Literal["cloudflare", "aws-nlb", "hetzner-lb", "digitalocean-lb"]


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
class Storage:
    """Where several hosts share certificates: a directory of an NFS server, or the path of a mount of the host's.

    `server` is a name, or an address without brackets.
    """

    server: str | None
    path: str

    @property
    def source(self) -> str:
        """What is mounted, as mount(8) writes it."""
        server = f"[{self.server}]" if self.server and ":" in self.server else self.server
        return f"{server}:{self.path}" if server else self.path


@dataclass(frozen=True, slots=True)
class Tls:
    """Who signs certificates: `ca` is a name or a URL, `ca_root` the PEM root of an own directory's HTTPS.

    Without `storage` certificates are the host's own.
    """

    email: str | None
    ca: str
    ca_root: bytes | None = None
    storage: Storage | None = None


@dataclass(frozen=True, slots=True)
class Edge:
    """What stands before the host and says who the visitor is: by a header, or by the PROXY protocol.

    `networks` (CIDR) are those that it comes from; nobody else is believed. `name` is None for one of the user's own.
    With `only`, ports 80 and 443 are closed to everybody else.
    """

    name: EdgeName | None
    networks: tuple[str, ...]
    header: str | None = None  # None with the PROXY protocol
    only: bool = False

    @property
    def proxy_protocol(self) -> bool:
        """Whether a line of the PROXY protocol stands before each connection."""
        return self.header is None


@dataclass(frozen=True, slots=True)
class ProxyUpdate:
    """The proxy takes patch releases by itself, once its registry has had one for `min_age` seconds, unchanged."""

    min_age: float


@dataclass(frozen=True, slots=True)
class Proxy:
    """The reverse proxy's image, normalised; `body_timeout` in seconds, 0 for none, None for the default.

    `logins` are those to the registries that the image comes from; `edge` is what stands before the host. Without an
    `update` the image stays.
    """

    image: str
    body_timeout: float | None = None
    logins: tuple[Login, ...] = ()
    edge: Edge | None = None
    update: ProxyUpdate | None = None


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
class Keep:
    """How many snapshots of a stack are kept: of the newest days, weeks and months that have any, one each."""

    daily: int = 7
    weekly: int = 4
    monthly: int = 6


@dataclass(frozen=True, slots=True)
class Backup:
    """Where the host's backups go, as the spec writes it, when (`HH:MM`), and what is kept; None: others decide that.

    `bandwidth` in Mbit/s. `host_key` is the public key of an SFTP server.
    """

    to: str
    at: str = "03:30"
    keep: Keep | None = Keep()
    bandwidth: float | None = None
    append_only: bool = False
    host_key: str | None = None
    restores: bool = False  # a new machine's data comes from there before anything starts

    @property
    def repository(self) -> str:
        """The same as restic writes it."""
        return f"s3:s3.amazonaws.com/{self.to.removeprefix('s3://')}" if self._is_aws else self.to

    @property
    def _is_aws(self) -> bool:
        return self.to.startswith("s3://")

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets of the host without which there is no backup."""
        kind = "aws" if self._is_aws else self.to.partition(":")[0]
        return ("restic-password", *_BACKUP_SECRETS.get(kind, ()))

    @property
    def optional_secrets(self) -> tuple[str, ...]:
        """Those that it can do without: the server's role may open the bucket, and a REST server everybody in."""
        return _BACKUP_SECRETS["s3"] if self._is_aws else _REST_SECRETS if self.to.startswith("rest:") else ()


_BACKUP_SECRETS: Final = {"s3": ("s3-access-key", "s3-secret-key"), "sftp": ("sftp-key",)}
_REST_SECRETS: Final = ("rest-username", "rest-password")


@dataclass(frozen=True, slots=True)
class Data:
    """The disk of its own that outlives the machine: `auto`, LABEL=er-data, or a path below /dev/disk/by-id."""

    disk: str


WebhookFormat = Literal["json", "ntfy", "slack"]


@dataclass(frozen=True, slots=True)
class Email:
    """Who is told by e-mail, and the server that takes it: over TLS from the start on port 465, else by STARTTLS."""

    to: tuple[str, ...]
    sender: str
    server: str
    port: int = 587
    username: str = ""


@dataclass(frozen=True, slots=True)
class Notify:
    """Where the host tells what is wrong: `webhook` is what its receiver takes, `auto` by the receiver's address.

    `quiet` is a time of day, from and to as `HH:MM`, in which only what cannot wait is told. `allow_exec` are stacks
    that run programs out of their data.
    """

    webhook: WebhookFormat | Literal["auto"] | None = None
    email: Email | None = None
    heartbeat: bool = False
    quiet: tuple[str, str] | None = None
    allow_exec: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The secrets of the host without which nothing is told."""
        names = {"webhook": self.webhook, "smtp-password": self.email, "heartbeat": self.heartbeat}
        return tuple(f"notify-{name}" for name, is_wanted in names.items() if is_wanted)


@dataclass(frozen=True, slots=True)
class Fleet:
    """The spec's host, `min` to `max` times; more are added above `cpu` per cent of their processors' time."""

    min: int
    max: int
    cpu: int


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
    backup: Backup | None = None
    data: Data | None = None  # None where the data lies on the machine's own disk
    notify: Notify | None = None
    fleet: Fleet | None = None  # None where there is one host

    @property
    def updates_itself(self) -> bool:
        """Whether any image of it does."""
        return self.proxy.update is not None or any(stack.update for stack in self.stacks)

    @property
    def logins(self) -> tuple[tuple[str, Login], ...]:
        """Each login to a registry, by the stack that has it, or `proxy`."""
        owners = (("proxy", self.proxy.logins), *((stack.name, stack.logins) for stack in self.stacks))
        return tuple((owner, login) for owner, logins in owners for login in logins)
