"""The spec as the user writes it: the JSON Schema and the checks of single values come from here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from builder import facts, identity
from builder.spec import networks, rules
from builder.spec.model import Arch, Base, Dns  # noqa: TC001 - pydantic reads the annotations

Line = Annotated[str, AfterValidator(rules.line)]
Network = Annotated[str, AfterValidator(networks.network)]
Domain = Annotated[str, AfterValidator(rules.domain)]
Memory = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.memory),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Duration = Annotated[str, AfterValidator(rules.duration), WithJsonSchema({"type": "string"})]
Capability = Annotated[
    str,
    AfterValidator(rules.capability),
    WithJsonSchema({"type": "string", "examples": list(rules.CAPABILITIES)}),
]
EnvName = Annotated[str, AfterValidator(rules.environment_name)]
EnvValue = Annotated[str, BeforeValidator(rules.as_text), WithJsonSchema({"type": ["string", "integer"]})]
Port = Annotated[int, Field(ge=1024, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ServerInput(_Section):
    """The machine: its name and what it is made from."""

    name: Annotated[str, AfterValidator(rules.host_name)] = Field(
        description="Host name, one label without its domain.",
        examples=["web1"],
        json_schema_extra={"pattern": f"^{rules.HOST_NAME}$"},
    )
    base: Base = Field(
        default="debian-13", description="The distribution the host is made from.", examples=["debian-13"]
    )
    arch: Arch = Field(default="amd64", description="The processor.", examples=["amd64"])
    timezone: Annotated[str, AfterValidator(rules.timezone)] = Field(
        default="UTC", description="Time zone of the host.", examples=["Europe/Berlin"]
    )


class AdminInput(_Section):
    """The person who logs in by SSH and may use sudo."""

    name: Annotated[str, AfterValidator(rules.admin_name)] = Field(
        default="er", description="User name.", examples=["er"]
    )
    ssh_keys: list[str] = Field(
        description="Public keys, or paths of .pub files relative to the spec.",
        examples=[["ssh-ed25519 AAAA… me@laptop", "keys/id.pub"]],
        json_schema_extra={"minItems": 1},
    )


class SshInput(_Section):
    """Who reaches SSH."""

    allow_from: list[Network] = Field(
        default=["0.0.0.0/0", "::/0"],
        description="Networks that port 22 answers to.",
        examples=[["203.0.113.0/24", "2001:db8::/32"]],
        json_schema_extra={"minItems": 1},
    )


class TlsInput(_Section):
    """Certificates."""

    email: Annotated[str, AfterValidator(rules.email)] | None = Field(
        default=None, description="Contact address for the CA.", examples=["ops@your-domain.org"]
    )
    ca: Annotated[
        str,
        AfterValidator(rules.ca),
        WithJsonSchema({"anyOf": [{"enum": list(rules.CA_NAMES)}, {"type": "string", "pattern": "^https://"}]}),
    ] = Field(
        default="letsencrypt",
        description="Who signs: a known CA, or the https:// address of an ACME directory.",
        examples=["letsencrypt"],
    )
    ca_root: Line | None = Field(
        default=None,
        description="PEM file with the root that an ACME directory of your own shows for its own HTTPS.",
        examples=["ca/root.pem"],
    )


class ProxyInput(_Section):
    """The reverse proxy."""

    image: str = Field(
        default=facts.PROXY_IMAGE, description="Image of Caddy 2.11 or later.", examples=[facts.PROXY_IMAGE]
    )


class Fail2banInput(_Section):
    """Who is never banned."""

    ignore: list[Network] = Field(
        default=[], description="Networks that are never banned.", examples=[["203.0.113.0/24"]]
    )


class EgressInput(_Section):
    """One thing that a stack may reach beside DNS, 80 and 443."""

    to: Annotated[str, AfterValidator(networks.egress)] = Field(
        description="An address, a network, or the name of a host, which the server resolves when it boots or is told.",
        examples=["203.0.113.7", "db.your-domain.org"],
    )
    protocol: Literal["tcp", "udp"] = Field(default="tcp", description="Transport protocol.", examples=["tcp"])
    ports: list[Annotated[int, Field(ge=1, le=65535)]] = Field(
        default=[], description="Ports; none means all.", examples=[[5432]], max_length=15
    )


class HealthcheckInput(_Section):
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


class StackInput(_Section):
    """An app stack: a compose file, or in short form one public service."""

    name: Annotated[str, AfterValidator(rules.stack_name)] = Field(
        description="Name; the stack's OS user is er-NAME.",
        examples=["blog"],
        json_schema_extra={"pattern": f"^{rules.STACK_NAME}$"},
    )
    uid: Annotated[int, Field(ge=identity.FIRST_UID, le=identity.LAST_UID)] | None = Field(
        default=None,
        description="Uid of the stack's user, where the one from the name collides.",
        examples=[identity.FIRST_UID],
    )
    compose: str | None = Field(
        default=None, description="Compose file, relative to the spec.", examples=["blog/compose.yaml"]
    )
    egress: list[EgressInput] = Field(
        default=[], description="What the stack may reach beside DNS, 80 and 443.", examples=[[]]
    )
    image: str | None = Field(
        default=None,
        description="Image, fully qualified, or oci-archive:PATH.",
        examples=["docker.io/library/caddy:2.11"],
    )
    command: list[Line] | None = Field(
        default=None,
        description="Arguments instead of the image's.",
        examples=[["caddy", "respond", "hello"]],
        min_length=1,
    )
    domain: Domain | None = Field(default=None, description="The public name.", examples=["hello.example.com"])
    domains: list[Domain] | None = Field(
        default=None,
        description="Several public names.",
        examples=[["example.com", "www.example.com"]],
        min_length=1,
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
    hardening: Literal["standard", "strict", "off"] = Field(
        default="standard", description="strict adds a read-only root.", examples=["standard"]
    )
    cap_add: list[Capability] = Field(default=[], description="Capabilities to keep.", examples=[["NET_BIND_SERVICE"]])
    read_only: bool = Field(default=False, description="Read-only root file system.", examples=[True])
    tmpfs: list[Annotated[str, AfterValidator(rules.tmpfs)]] = Field(
        default=[], description="More tmpfs mounts.", examples=[["/run/app"]]
    )
    volumes: list[Annotated[str, AfterValidator(rules.volume)]] = Field(
        default=[], description="Named volumes.", examples=[["data:/var/lib/app"]]
    )
    secrets: list[Annotated[str, AfterValidator(rules.secret)]] = Field(
        default=[],
        description="Podman secrets of the stack's user, mounted at /run/secrets/NAME.",
        examples=[["db_password"]],
    )
    healthcheck: HealthcheckInput | None = Field(
        default=None,
        description="How the host knows that the service is well.",
        examples=[{"test": ["true"]}],
    )


class AwsInput(_Section):
    """What `er launch` asks AWS for."""

    region: Annotated[str, AfterValidator(rules.aws_region)] | None = Field(
        default=None,
        description="The region; by default that of the AWS profile or environment.",
        examples=["eu-central-1"],
        json_schema_extra={"pattern": f"^{rules.AWS_REGION}$"},
    )
    type: Annotated[str, AfterValidator(rules.aws_type)] | None = Field(
        default=None,
        description="The instance type; by default a small one for the processor.",
        examples=["t3.small"],
        json_schema_extra={"pattern": f"^{rules.AWS_TYPE}$"},
    )


class SpecInput(_Section):
    """One host and the app stacks on it."""

    server: ServerInput = Field(description="The machine.", examples=[{"name": "web1"}])
    admin: AdminInput = Field(description="Who logs in.", examples=[{"ssh_keys": ["keys/id.pub"]}])
    ssh: SshInput = Field(
        default=SshInput(), description="Who reaches SSH.", examples=[{"allow_from": ["203.0.113.0/24"]}]
    )
    tls: TlsInput = Field(default=TlsInput(), description="Certificates.", examples=[{"ca": "letsencrypt"}])
    proxy: ProxyInput = Field(
        default=ProxyInput(), description="The reverse proxy.", examples=[{"image": facts.PROXY_IMAGE}]
    )
    fail2ban: Fail2banInput = Field(
        default=Fail2banInput(), description="Who is never banned.", examples=[{"ignore": ["203.0.113.0/24"]}]
    )
    aws: AwsInput = Field(
        default=AwsInput(), description="What `er launch` asks AWS for.", examples=[{"region": "eu-central-1"}]
    )
    dns: Dns | None = Field(
        default=None, description="Where `er launch` sets the records of the domains.", examples=["route53"]
    )
    stacks: list[StackInput] = Field(default=[], description="The app stacks.", examples=[[{"name": "blog"}]])
