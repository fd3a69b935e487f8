"""The spec as the user writes it, as pydantic models: types and rules of all values, with a description and an example.

From them come the check of single values (document.validate), the JSON Schema (schema), and hints of problems.
"""

from __future__ import annotations

import base64
from functools import cache
from importlib import resources
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from builder import facts
from builder.spec import rules
from builder.spec.model import (
    Arch,  # noqa: TC001 - pydantic reads the annotations
    Base,  # noqa: TC001 - pydantic reads the annotations
    Dns,  # noqa: TC001 - pydantic reads the annotations
    Jail,  # noqa: TC001 - pydantic reads the annotations
)
from builder.spec.ssh_keys import TEMPLATE_KEY
from builder.stack import user
from builder.stack.model import CAPABILITIES, Hardening


class Section(BaseModel):
    """A mapping in a spec: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


# Types of single values: the rule that checks one, and what the JSON Schema says of it.
Line = Annotated[str, AfterValidator(rules.line)]
Network = Annotated[str, AfterValidator(rules.network)]
PathPrefix = Annotated[
    str, AfterValidator(rules.path_prefix), WithJsonSchema({"type": "string", "pattern": f"^{rules.PATH_PREFIX}$"})
]
Domain = Annotated[str, AfterValidator(rules.domain)]
Memory = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.memory),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Duration = Annotated[str, AfterValidator(rules.duration), WithJsonSchema({"type": "string"})]
MaxBody = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.max_body),
    WithJsonSchema({"type": ["string", "integer"]}),
]
TimeoutOrNone = Annotated[str, AfterValidator(rules.timeout_or_none), WithJsonSchema({"type": "string"})]
Capability = Annotated[
    str,
    AfterValidator(rules.capability),
    WithJsonSchema({"type": "string", "examples": list(CAPABILITIES)}),
]
EnvName = Annotated[str, AfterValidator(rules.environment_name)]
EnvValue = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.content),
    WithJsonSchema({"type": ["string", "integer"]}),
]
SecretVariables = Annotated[
    dict[EnvName, Annotated[str, AfterValidator(rules.secret_source)]],
    BeforeValidator(rules.names_with_default),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "object", "additionalProperties": {"type": "string"}},
            ]
        }
    ),
]
Port = Annotated[int, Field(ge=1024, le=65535)]
ComposeFiles = Annotated[
    list[str],
    BeforeValidator(rules.as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]


class ServerInput(Section):
    """The machine: its name and what it is made from."""

    name: Annotated[str, AfterValidator(rules.host_name)] = Field(
        description="Host name, one label without its domain.",
        examples=["web1"],
        json_schema_extra={"pattern": f"^{rules.HOST_NAME}$"},
    )
    base: Base = Field(
        default="debian-13",
        description="The distribution the host is made from. ubuntu-24.04 has not been booted on Ubuntu yet.",
        examples=["debian-13"],
    )
    arch: Arch = Field(default="amd64", description="The processor.", examples=["amd64"])
    timezone: Annotated[str, AfterValidator(rules.timezone)] = Field(
        default="UTC", description="Time zone of the host.", examples=["Europe/Berlin"]
    )


class AdminInput(Section):
    """The person who logs in by SSH and may use sudo."""

    name: Annotated[str, AfterValidator(rules.admin_name)] = Field(
        default="er", description="User name.", examples=["er"]
    )
    ssh_keys: list[str] = Field(
        description="Public keys, or paths of .pub files relative to the spec.",
        examples=[["ssh-ed25519 AAAA… me@laptop", "keys/id.pub"]],
        json_schema_extra={"minItems": 1},
    )


class SshInput(Section):
    """Who reaches SSH."""

    allow_from: list[Network] = Field(
        default=["0.0.0.0/0", "::/0"],
        description="Networks that port 22 answers to.",
        examples=[["203.0.113.0/24", "2001:db8::/32"]],
        json_schema_extra={"minItems": 1},
    )


class TlsInput(Section):
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


class ProxyInput(Section):
    """The reverse proxy."""

    image: str = Field(
        default=facts.PROXY_IMAGE, description="Image of Caddy 2.11 or later.", examples=[facts.PROXY_IMAGE]
    )
    body_timeout: TimeoutOrNone | None = Field(
        default=None,
        description="How long a request may take to arrive, on all sites, 1h by default; none for ever.",
        examples=["6h"],
    )


class Fail2banInput(Section):
    """Whom Fail2Ban bans, and what for."""

    ignore: list[Network] = Field(
        default=[],
        description="Networks never banned, an IPv6 address for its /64; they may have any number of connections.",
        examples=[["203.0.113.0/24"]],
    )
    disable: list[Jail] = Field(default=[], description="Web jails that are not wanted.", examples=[["web-scan"]])
    allow: dict[Domain, Annotated[list[PathPrefix], Field(min_length=1)]] = Field(
        default={},
        description="By domain, how paths begin that scanners look for and this site has; known images allow theirs.",
        examples=[{"blog.example.com": ["/wp-admin/", "/wp-content/"]}],
    )


class AwsInput(Section):
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


class PublicInput(Section):
    """What the labels of one service of a Compose file would say, so that the file stays as it is."""

    domains: list[Domain] | None = Field(
        default=None, description="The public names.", examples=[["app.example.com"]], min_length=1
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        default=None,
        description="Port inside the container; by default the one that the Compose file publishes or exposes.",
        examples=[8080],
    )
    framework: Line | None = Field(default=None, description="As in the label.", examples=["nextjs"])
    hardening: Hardening | None = Field(default=None, description="As in the label.", examples=["strict"])
    max_body: MaxBody | None = Field(default=None, description="The largest request, or none.", examples=["10G"])
    response_timeout: TimeoutOrNone | None = Field(default=None, description="As in the label.", examples=["5m"])


class StackInput(Section):
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
    secret_env: dict[str, SecretVariables] = Field(
        default={},
        description="By service, variables that are secrets: names, or each with its secret or a text made of secrets.",
        examples=[{"web": {"SECRET_KEY": "secret_key", "DATABASE_URL": "postgres://app:{db_password}@db/app"}}],
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
    max_body: MaxBody | None = Field(
        default=None, description="The largest request, 2G by default; none for no limit.", examples=["10G"]
    )
    response_timeout: TimeoutOrNone | None = Field(
        default=None,
        description="How long an answer may take to begin, 60s by default; none for ever.",
        examples=["5m"],
    )
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
    hardening: Hardening = Field(default="standard", description="strict adds a read-only root.", examples=["standard"])
    cap_add: list[Capability] = Field(default=[], description="Capabilities to keep.", examples=[["NET_BIND_SERVICE"]])
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


class SpecInput(Section):
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
        default=Fail2banInput(), description="Whom Fail2Ban bans.", examples=[{"ignore": ["203.0.113.0/24"]}]
    )
    aws: AwsInput = Field(
        default=AwsInput(), description="What `er launch` asks AWS for.", examples=[{"region": "eu-central-1"}]
    )
    dns: Dns | None = Field(
        default=None, description="Where `er launch` sets the records of the domains.", examples=["route53"]
    )
    stacks: list[StackInput] = Field(default=[], description="The app stacks.", examples=[[{"name": "blog"}]])


@cache
def sections() -> dict[str, type[BaseModel]]:
    """The models by where they are in a spec, as `stacks` or `stacks.egress`; the whole spec is ``""``."""
    found: dict[str, type[BaseModel]] = {}
    _walk(SpecInput, "", found)
    return found


def _walk(model: type[BaseModel], path: str, found: dict[str, type[BaseModel]]) -> None:
    found[path] = model
    for name, info in model.model_fields.items():
        for inner in _models(info.annotation):
            _walk(inner, f"{path}.{name}".lstrip("."), found)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]


_KEY_TYPE: Final = b"ssh-ed25519"


def template() -> str:
    """The text of a commented spec to start from. It passes `er check`, with a warning about its key."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (_KEY_TYPE, TEMPLATE_KEY))
    text = resources.files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
    return text.replace("{key}", base64.b64encode(blob).decode("ascii"))
