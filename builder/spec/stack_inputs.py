"""What a spec says of one stack, as the user writes it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from builder.spec import networks, rules
from builder.spec.section import Line, Section
from builder.stack import user

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
Patience = Annotated[str, AfterValidator(rules.patience), WithJsonSchema({"type": "string"})]
Capability = Annotated[
    str,
    AfterValidator(rules.capability),
    WithJsonSchema({"type": "string", "examples": list(rules.CAPABILITIES)}),
]
EnvName = Annotated[str, AfterValidator(rules.environment_name)]
EnvValue = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.content),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Port = Annotated[int, Field(ge=1024, le=65535)]


class EgressInput(Section):
    """One thing that a stack may reach beside DNS, 80 and 443."""

    to: Annotated[str, AfterValidator(networks.egress)] = Field(
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
    max_body: MaxBody | None = Field(
        default=None, description="The largest request, 2G by default; none for no limit.", examples=["10G"]
    )
    response_timeout: Patience | None = Field(
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
