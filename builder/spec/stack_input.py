"""`stacks:` as the user writes it: one app stack, what it may reach, and where the world reaches it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import CoreSchema  # noqa: TC002 - pydantic reads the annotations

from builder.oci import ecr
from builder.spec import rules
from builder.spec.backup_input import StackBackupOrFalse  # noqa: TC001 - pydantic reads the annotations
from builder.spec.value_types import (
    Accounts,
    Age,
    Capability,
    ComposeFiles,
    Domain,
    Domains,
    Duration,
    EnvName,
    EnvValue,
    Headers,
    Line,
    LocalCache,
    MaxBody,
    Memory,
    Paths,
    Port,
    Registry,
    RegistrySection,
    RegistryUsername,
    SecretVariables,
    Section,
    Sleep,
    TimeoutOrNone,
    Wake,
    WakeTimeout,
    registry_settings,
)
from builder.stack import user
from builder.stack.model import (
    Hardening,
    Protocol,
    Update,
)


class EgressInput(Section):
    """One thing that a stack may reach beside DNS, 80 and 443."""

    to: Annotated[str, AfterValidator(rules.egress)] = Field(
        description="An address, a network, or the name of a host, which the server resolves when it boots or is told.",
        examples=["203.0.113.7", "db.your-domain.org"],
    )
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="Transport protocol.", examples=["tcp"])
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default=[], description="Ports; none means all.", examples=[[5432]], max_length=15
    )


class HealthcheckInput(Section):
    """How the host knows that the service is well."""

    test: Annotated[list[Line], AfterValidator(rules.health_test)] = Field(
        description="Command inside the container; CMD or CMD-SHELL first is understood.",
        examples=[["wget", "-q", "-O", "/dev/null", "http://localhost:8080/"]],
        min_length=1,
    )
    interval: Duration | None = Field(default=None, description="Time between two checks.", examples=["30s"])
    timeout: Duration | None = Field(default=None, description="How long a check may take.", examples=["5s"])
    retries: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Failures in a row until it counts as ill.", examples=[3]
    )
    start_period: Duration | None = Field(default=None, description="Grace time after the start.", examples=["10s"])


class ServedInput(Section):
    """How the proxy serves one public service, in short form and under `public` alike."""

    path: Paths | None = Field(
        default=None,
        description="Below which path of its domains it answers, or several; the rest is other services' of the stack.",
        examples=["/api"],
    )
    strip_path: bool = Field(default=False, description="The app sees requests without that path.", examples=[True])
    redirect_from: Domains | None = Field(
        default=None,
        description="Further names, which lead to the first domain for good, path and query kept.",
        examples=["www.example.com"],
    )
    max_body: MaxBody | None = Field(
        default=None, description="The largest request, 2G by default; none for no limit.", examples=["10G"]
    )
    response_timeout: TimeoutOrNone | None = Field(
        default=None,
        description="How long an answer may take to begin, 1h by default; none for ever.",
        examples=["5m"],
    )
    protocol: Protocol = Field(
        default="http",
        description="What the app speaks; h2c is HTTP/2 without TLS, as gRPC needs it.",
        examples=["h2c"],
    )
    sleep: Sleep | None = Field(
        default=None,
        description="After so long without a connection it stops, with what only it needs; the next visitor wakes it.",
        examples=["15m"],
    )
    wake: Wake | None = Field(
        default=None,
        description="Paths and methods that wake it, by default all but what scanners ask for; the rest is 404 then.",
        examples=[["/", "/app/*", "POST"]],
    )
    wake_timeout: WakeTimeout | None = Field(
        default=None, description="How long a visitor is held while it wakes, 60s by default.", examples=["90s"]
    )
    headers: Headers = Field(
        default={},
        description="Headers of its answers, over what the app and the proxy say; null removes one.",
        examples=[{"X-Frame-Options": "DENY", "Content-Security-Policy": "default-src 'self'"}],
    )
    basic_auth: Accounts | None = Field(
        default=None,
        description="Who may ask: user names, each with the bcrypt hash of a password.",
        examples=[{"alice": "$2y$12$OMnbH5t3f3oyLs3W8hgr1.xN6mvAqkOQdSWmKtrqrOSCNuGB6tGbe"}],
    )


class PublicInput(ServedInput):
    """What the labels of one service of a Compose file would say, so that the file stays as it is."""

    domains: Domains | None = Field(
        default=None, description="The public names, or the one that there is.", examples=[["app.example.com"]]
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port inside the container; by default the one that the Compose file publishes or exposes.",
        examples=[8080],
    )
    framework: Line | None = Field(default=None, description="As in the label.", examples=["nextjs"])
    hardening: Hardening | None = Field(default=None, description="As in the label.", examples=["strict"])


class UpdateInput(Section):
    """Which of a stack's images update themselves, and how."""

    images: Literal["nightly"] = Field(
        description="At night, tags that name another image by now are taken; what does not come up is taken back.",
        examples=["nightly"],
    )
    volumes: bool = Field(
        default=False,
        description="Also of services with a volume, whose data a new version may change; without it they are told of.",
        examples=[True],
    )
    watch: Duration | None = Field(
        default=None,
        description="How long a new image has to stay up, 10m by default, or is taken back.",
        examples=["10m"],
    )

    @property
    def value(self) -> Update:
        """As the host has it."""
        return Update(**{key: value for key, value in self if key != "images" and value is not None})


class BuildInput(Section):
    """What the image is built from, on the machine that er runs on; a text alone is the context."""

    context: Line = Field(description="Directory, relative to the spec.", examples=["."])
    containerfile: Line | None = Field(
        default=None,
        description="Relative to the context; by default its Containerfile, or its Dockerfile.",
        examples=["deploy/web.Containerfile"],
    )
    target: Line | None = Field(
        default=None, description="Stage that is built; the last one by default.", examples=["release"]
    )
    args: dict[EnvName, EnvValue] = Field(
        default={}, description="Build arguments (ARG); no secrets.", examples=[{"NODE_ENV": "production"}]
    )
    max_age: Age | None = Field(
        default=None,
        description="After so long it is built anew, without a cache and from the newest base, 7d by default.",
        examples=["7d"],
    )

    @model_validator(mode="before")
    @classmethod
    def _context_alone(cls, value: Any) -> Any:
        return {"context": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, handler(core)]}


class LoginInput(RegistrySection):
    """A login of one stack to a registry; the password is set on the server."""

    username: RegistryUsername = Field(description="The user name at the registry.", examples=["me"])


class RoleLoginInput(LoginInput):
    """The server's role logs this stack in to Amazon ECR."""

    by_role = True
    username: RegistryUsername = ecr.USERNAME


class DeployInput(Section):
    """Who may deploy this stack, and nothing else on the server."""

    ssh_keys: list[str] = Field(
        description="Public keys, or paths of .pub files relative to the spec; none of them is of another stack.",
        examples=[["ssh-ed25519 AAAA… ci@example", "keys/ci.pub"]],
        json_schema_extra={"minItems": 1},
    )
    git: str | None = Field(
        default=None,
        description="The branch that these keys may push: git push ssh://deploy@HOST/STACK, built on the server.",
        examples=["main"],
    )


class StackInput(ServedInput):
    """An app stack: a compose file, or in short form one public service."""

    name: Annotated[str, AfterValidator(rules.stack_name)] = Field(
        description="Name; the stack's OS user is er-NAME.",
        examples=["blog"],
        json_schema_extra={"pattern": f"^{rules.STACK_NAME}$"},
    )
    uid: Annotated[int, Field(ge=user.FIRST_UID, le=user.LAST_UID)] | None = Field(
        default=None,
        description="Uid of the stack's user, where the one from the name collides.",
        examples=[user.FIRST_UID],
    )
    compose: ComposeFiles | None = Field(
        default=None,
        description="Compose file, relative to the spec; of several in a list, each is laid over those before it.",
        examples=["blog/compose.yaml"],
    )
    public: dict[str, PublicInput] = Field(
        default={},
        description="By service of the Compose file, where the world reaches it: what labels say, in the spec.",
        examples=[{"web": {"domains": ["app.example.com"], "port": 8080}}],
    )
    egress: Annotated[list[EgressInput], BeforeValidator(rules.none_or_list)] | None = Field(
        default=None,
        description="What the stack may reach beside DNS, 80 and 443; none, or an empty list, is nothing at all.",
        examples=[[]],
    )
    build_egress: Annotated[list[EgressInput], BeforeValidator(rules.none_or_list)] | None = Field(
        default=None,
        description="The same as `egress`, of what is built on the server: registries and packages are there, too.",
        examples=[[]],
    )
    secret_env: dict[str, SecretVariables] = Field(
        default={},
        description="By service, variables that are secrets: names, or each with its secret or a text made of secrets.",
        examples=[{"web": {"SECRET_KEY": "secret_key", "DATABASE_URL": "postgres://app:{db_password}@db/app"}}],
    )
    registries: dict[Registry, Annotated[LoginInput, registry_settings(RoleLoginInput)]] = Field(
        default={},
        description="By registry, a login that this stack has instead of the host's; aws is the server's role.",
        examples=[{"ghcr.io": {"username": "me"}}],
    )
    deploy: DeployInput | None = Field(
        default=None,
        description="SSH keys that may put another image into this stack, see how it is, and nothing else.",
        examples=[{"ssh_keys": ["keys/ci.pub"]}],
    )
    backup: StackBackupOrFalse | None = Field(
        default=None,
        description="What a backup of this stack needs; false leaves it out.",
        examples=[{"stop": True}],
    )
    update: UpdateInput | None = Field(
        default=None,
        description="Images that update themselves at night; without it none does.",
        examples=[{"images": "nightly"}],
    )
    local_cache: LocalCache = Field(
        default=False,
        description="What it stores is a cache, which each host of a fleet may have for itself; or which services' is.",
        examples=[True],
    )
    image: str | None = Field(
        default=None,
        description="Image, fully qualified, or oci-archive:PATH.",
        examples=["docker.io/library/caddy:2.11"],
    )
    build: BuildInput | None = Field(
        default=None,
        description="Instead of an image: the directory that it is built from, with a Containerfile or Dockerfile.",
        examples=["."],
    )
    command: list[Line] | None = Field(
        default=None,
        description="Arguments instead of the image's.",
        examples=[["caddy", "respond", "hello"]],
        min_length=1,
    )
    domain: Domain | None = Field(default=None, description="The public name.", examples=["hello.example.com"])
    domains: Domains | None = Field(
        default=None,
        description="Several public names.",
        examples=[["example.com", "www.example.com"]],
    )
    port: Port = Field(default=3000, description="Port inside the container.", examples=[8080])
    environment: dict[EnvName, EnvValue] = Field(
        default={}, description="Environment variables; no secrets.", examples=[{"LOG_LEVEL": "info"}]
    )
    memory: Memory | None = Field(default=None, description="Memory limit.", examples=["512M"])
    cpus: Annotated[float, Field(gt=0, le=1024)] | None = Field(
        default=None, description="Processor limit.", examples=[0.5]
    )
    pids: Annotated[int, Field(ge=8, le=4194304)] | None = Field(
        default=None, description="Process limit.", examples=[256]
    )
    hardening: Hardening = Field(
        default="standard", description="strict: no capabilities, read-only root.", examples=["standard"]
    )
    cap_add: list[Capability] = Field(
        default=[], description="Capabilities beside those that its level leaves.", examples=[["NET_BIND_SERVICE"]]
    )
    read_only: bool = Field(default=False, description="Read-only root file system.", examples=[True])
    tmpfs: list[Annotated[str, AfterValidator(rules.tmpfs)]] = Field(
        default=[], description="More tmpfs mounts.", examples=[["/run/app"]]
    )
    volumes: list[Annotated[str, AfterValidator(rules.volume)]] = Field(
        default=[], description="Named volumes.", examples=[["data:/var/lib/app"]]
    )
    secrets: list[Annotated[str, AfterValidator(rules.secret_name)]] = Field(
        default=[],
        description="Podman secrets of the stack's user, mounted at /run/secrets/NAME.",
        examples=[["db_password"]],
    )
    healthcheck: HealthcheckInput | None = Field(
        default=None,
        description="How the host knows that the service is well.",
        examples=[{"test": ["true"]}],
    )
