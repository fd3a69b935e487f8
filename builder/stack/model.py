"""An app stack as values, of Compose files or the spec's short form. Paths are str, sizes bytes, times seconds."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from builder.problems import Mark
    from builder.stack.secret_references import EnvSecret, Secret

# Characters that no value may have. NUL ends a string in C; U+0080 alone is mangled by Podman's escaping; lone
# surrogates are not UTF-8; a unit with what Unicode calls noncharacters is not loaded by systemd.
UNENCODABLE: Final = re.compile(
    "[\x00\x80\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF))
    + "]"
)
# What Podman takes for a tmpfs: without uid= and gid=.
TMPFS_OPTION: Final = r"rw|ro|(?:no)?(?:exec|suid|dev)|mode=[0-7]{3,4}|size=[0-9]+[kmgKMG%]?"
BUILD_AGE: Final = 7 * 86_400  # seconds after which an image is built anew, where nothing is said of it

TMP: Final = "/tmp"  # noqa: S108 - a path inside the container
PORT: Final = 3000  # where a public service listens when nothing says more
LISTEN_FD: Final = "fd"  # it takes the listening socket that systemd passes: sd_listen_fds(3)
Kind = Literal["web", "internal", "worker"]
Hardening = Literal["standard", "strict", "off"]
Restart = Literal["no", "always", "on-failure", "unless-stopped"]
# What the app speaks: HTTP/1.1, or HTTP/2 without TLS, as gRPC servers do.
Protocol = Literal["http", "h2c"]
Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """A container health check. `test` is an argv, or one shell line when `shell`; times in seconds."""

    test: tuple[str, ...]
    shell: bool = False
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None
    start_interval: float | None = None
    disable: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """A volume or a bind mount. `source` is a volume's key, or for a bind a path relative to the stack's directory.

    `copy` False: a new volume starts empty, not with what the image has at `target`.
    """

    kind: Literal["volume", "bind"]
    source: str
    target: str
    read_only: bool = False
    copy: bool = True


@dataclass(frozen=True, slots=True)
class Tmpfs:
    """A tmpfs mount; `options` as mount(8) writes them, without the ones hardening sets."""

    target: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits; None where its stack's share and ceiling alone count.

    In bytes: `memory`, beside it `swap`, and `reserved`, which the stack's other services cannot press out. `cpus` in
    cores.
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    swap: int | None = None
    reserved: int | None = None


@dataclass(frozen=True, slots=True)
class Dependency:
    """This service starts after `service`; with `required` False it starts also when that one failed."""

    service: str
    condition: Condition = "service_started"
    required: bool = True
    restart: bool = False


@dataclass(frozen=True, slots=True)
class Attachment:
    """A private network this service joins, and its extra names there."""

    network: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Build:
    """What an image is made of, on the machine that er runs on: nothing of it but the image lands on the host.

    `containerfile` is relative to `context` and may leave it, as in ../web.Containerfile; `inline` is the text of one
    that is no file. `max_age` in seconds: an image older than that is built anew, also from the same content, or None
    for the default. `never` are files that are no part of the context, whatever is ignored: env files, secrets.
    """

    context: Path
    containerfile: str = ""
    inline: str | None = None
    target: str | None = None
    args: tuple[tuple[str, str], ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    network: Literal["default", "none"] = "default"
    max_age: float | None = None
    never: tuple[Path, ...] = ()
    archive: Path | None = None  # the image, once it has been built for a bake or a trial

    @property
    def options(self) -> dict[str, Any]:
        """What a server's `podman build` is told of it, beside its Containerfile, as JSON has it."""
        args = tuple(f"{name}={value}" if value is not None else name for name, value in self.args)
        labels = tuple(f"{name}={value}" for name, value in self.labels)
        hosts = tuple(f"{name}:{address}" for name, address in self.extra_hosts)
        return {"target": self.target, "args": args, "labels": labels, "extra_hosts": hosts, "network": self.network}

    @property
    def oldest(self) -> float:
        """Seconds after which an image is built anew."""
        return BUILD_AGE if self.max_age is None else self.max_age


@dataclass(frozen=True, slots=True)
class Service:
    """One container of a stack. `mark` is where it stands in the user's file."""

    name: str
    image: str  # of a service with `build`: names.own_image(), which nothing but a release puts there
    kind: Kind = "worker"
    domains: tuple[str, ...] = ()
    port: int = PORT
    framework: str | None = None
    hardening: Hardening = "standard"
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: tuple[tuple[str, str], ...] = ()
    unset_environment: tuple[str, ...] = ()  # names that the image may set and the container is not to have
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[Tmpfs, ...] = ()
    networks: tuple[Attachment, ...] = ()
    network_mode: str = "private"  # or "none", or "service:NAME" to share that service's network
    depends_on: tuple[Dependency, ...] = ()
    healthcheck: Healthcheck | None = None
    restart: Restart = "unless-stopped"
    restart_attempts: int | None = None
    user: str | None = None
    working_dir: str | None = None
    hostname: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only: bool = False
    init: bool = False
    stop_signal: str | None = None
    stop_grace_period: float | None = None
    shm_size: int | None = None
    sysctls: tuple[tuple[str, str], ...] = ()
    ulimits: tuple[tuple[str, str], ...] = ()
    extra_hosts: tuple[tuple[str, str], ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    platform: str | None = None
    tty: bool = False
    stdin_open: bool = False
    secrets: tuple[Secret, ...] = ()
    env_secrets: tuple[EnvSecret, ...] = ()
    limits: Limits = Limits()
    pull: Literal["always", "missing", "never"] = "missing"
    stop_first: bool = False  # it never runs twice, not even while it is changed
    build: Build | None = None
    max_body: int | None = None  # of a request, in bytes; 0 for no limit, None for the proxy's default
    response_timeout: float | None = None  # seconds until an answer begins; 0 and None the same
    paths: tuple[str, ...] = ()  # below which it answers on its domains; without any, below all
    strip_path: bool = False  # the app sees a request without the path
    redirect_from: tuple[str, ...] = ()  # names that lead to its first domain
    protocol: Protocol = "http"
    headers: tuple[tuple[str, str | None], ...] = ()  # of its answers; None removes one
    basic_auth: tuple[tuple[str, str], ...] = ()  # users, each with the bcrypt hash of the password
    local_cache: bool = False  # what it stores may differ from host to host of a fleet
    listen: str | None = None  # a socket of its own instead of a port: a path inside, or LISTEN_FD
    sleep: int | None = None  # seconds without a connection until it stops; 0 of a worker: with its stack
    wake: tuple[str, ...] = ()  # paths and methods that wake it; without any all that is no scanner's
    wake_timeout: int | None = None  # seconds that a visitor is held meanwhile
    mark: Mark | None = field(default=None, compare=False)

    @property
    def built_archive(self) -> Path | None:
        """The archive of its image, once that has been built for a bake or a trial."""
        return self.build.archive if self.build else None

    @property
    def targets(self) -> tuple[str, ...]:
        """The paths in the container where something is mounted."""
        return (*(mount.target for mount in self.mounts), *(tmpfs.target for tmpfs in self.tmpfs))

    @property
    def own_socket(self) -> tuple[str, str] | None:
        """The directory that it shares with the proxy, and what its socket is called there; None without such."""
        if self.listen in (None, LISTEN_FD):
            return None
        directory, _, name = str(self.listen).rpartition("/")
        return directory, name

    @property
    def drops_all(self) -> bool:
        """Whether it has no capability but those of `cap_add`."""
        return self.hardening == "strict" or "ALL" in self.cap_drop

    @property
    def tmp_executes(self) -> bool:
        """Whether code can be loaded from where the service has its temporary files: /tmp, or what a variable says."""
        if self.hardening == "off" or any("tmpdir" in f"{name}={value}".lower() for name, value in self.environment):
            return True
        return any(posixpath.normpath(mount.target) == TMP for mount in self.mounts) or any(
            posixpath.normpath(tmpfs.target) == TMP and "exec" in tmpfs.options for tmpfs in self.tmpfs
        )

    @property
    def secret_names(self) -> tuple[str, ...]:
        """The secrets that somebody has to set before it starts, each once."""
        sources = (name for secret in self.env_secrets for name in secret.sources)
        return tuple(dict.fromkeys((*(secret.name for secret in self.secrets), *sources)))


@dataclass(frozen=True, slots=True)
class StackFile:
    """A file that a bind mount brings along; `path` relative to the stack's directory, `mode` octal text."""

    path: str
    content: bytes = field(repr=False)
    mode: str = "0644"


@dataclass(frozen=True, slots=True)
class Network:
    """A private bridge network of the stack; with `internal` it has no way out."""

    name: str
    internal: bool = False
    ipv6: bool = False


@dataclass(frozen=True, slots=True)
class Volume:
    """A named volume of the stack's user."""

    name: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EgressRule:
    """One thing a stack may reach beyond the default: `to` is a CIDR or host name, `ports` empty means all."""

    to: str
    protocol: Literal["tcp", "udp"] = "tcp"
    ports: tuple[int, ...] = ()

    @property
    def by_name(self) -> bool:
        """Whether `to` is a name, which the host resolves; the last label of a name has a letter."""
        return ":" not in self.to and not self.to.rpartition(".")[2].partition("/")[0].isdigit()


@dataclass(frozen=True, slots=True)
class Login:
    """Who logs in to a registry; the password is set on the server, or asked for there by its role (`by_role`)."""

    registry: str
    username: str
    by_role: bool = False


@dataclass(frozen=True, slots=True)
class Deploy:
    """Who may deploy a stack and do nothing else: whole public keys, as lines of authorized_keys.

    `git` is the branch that they may push. `directories` has each built service's context, below the spec's directory.
    """

    ssh_keys: tuple[str, ...]
    git: str | None = None
    directories: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class StackBackup:
    """What a backup of a stack needs: by service the command that prints a dump, a stop, and what is left out."""

    before: tuple[tuple[str, tuple[str, ...]], ...] = ()
    stop: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """Images update themselves at night, and are taken back where they do not stay up for `watch` seconds.

    With `volumes` also those of services that have one.
    """

    volumes: bool = False
    watch: float = 600


@dataclass(frozen=True, slots=True)
class Stack:
    """A complete app stack. `uid` is final here: from the name, or from the spec.

    With `no_egress` it has no way out, not even DNS and the web; `egress` is empty then. The same of `no_build_egress`.
    """

    name: str
    uid: int
    services: tuple[Service, ...]
    volumes: tuple[Volume, ...] = ()
    networks: tuple[Network, ...] = ()
    files: tuple[StackFile, ...] = ()
    egress: tuple[EgressRule, ...] = ()
    no_egress: bool = False
    build_egress: tuple[EgressRule, ...] = ()  # of what is built on the server, which has its own way out
    no_build_egress: bool = False
    logins: tuple[Login, ...] = ()  # to the registries that its images come from
    deploy: Deploy | None = None
    backup: StackBackup | None = StackBackup()  # None where it is left out of the host's backup
    update: Update | None = None
    mark: Mark | None = field(default=None, compare=False)

    @property
    def public(self) -> tuple[Service, ...]:
        """The services that Caddy serves."""
        return tuple(service for service in self.services if service.kind == "web")

    @property
    def builds(self) -> bool:
        """Whether an image of it is made from a Containerfile, which may be done on the server."""
        return any(service.build for service in self.services)

    @property
    def domains(self) -> tuple[str, ...]:
        """Every name that the proxy answers for, those that only lead to another included, each once."""
        return tuple(dict.fromkeys(name for one in self.public for name in (*one.domains, *one.redirect_from)))
