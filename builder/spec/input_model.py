"""The spec as the user writes it, as pydantic models: types and rules of all values, with a description and an example.

From them come the check of single values (document.validate), the JSON Schema (schema), and hints of problems.
"""

from __future__ import annotations

import base64
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field, WithJsonSchema

from builder import facts
from builder.oci import ecr
from builder.spec import rules
from builder.spec.backup_input import BackupInput  # noqa: TC001 - pydantic reads the annotations
from builder.spec.edge_input import EdgeSection
from builder.spec.model import (
    Arch,  # noqa: TC001 - pydantic reads the annotations
    Base,  # noqa: TC001 - pydantic reads the annotations
    Dns,  # noqa: TC001 - pydantic reads the annotations
    Jail,  # noqa: TC001 - pydantic reads the annotations
)
from builder.spec.notify_input import NotifyInput  # noqa: TC001 - pydantic reads the annotations
from builder.spec.ssh_keys import TEMPLATE_KEY
from builder.spec.stack_input import StackInput  # noqa: TC001 - pydantic reads the annotations
from builder.spec.storage import StorageText  # noqa: TC001 - pydantic reads the annotations
from builder.spec.update_input import ProxyUpdateInput  # noqa: TC001 - pydantic reads the annotations
from builder.spec.value_types import (
    DataDisk,
    Domain,
    Line,
    Mirror,
    Network,
    PathPrefix,
    Registry,
    RegistrySection,
    RegistryUsername,
    Section,
    TimeoutOrNone,
    registry_settings,
)

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


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
    storage: StorageText | None = Field(
        default=None,
        description="Where several hosts share their certificates: a directory of an NFS server, or a mounted path.",
        examples=["nfs://10.0.0.5:/srv/certificates"],
    )


class ProxyInput(EdgeSection):
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


class DataInput(Section):
    """What must outlive the machine."""

    disk: DataDisk = Field(
        description="A disk of its own: auto (the one that is attached), LABEL=er-data, or /dev/disk/by-id/….",
        examples=["auto"],
    )


# A mistake in a spec should not cost more hosts than this.
_MOST_HOSTS: Final = 100


class FleetInput(Section):
    """Hosts that are all the same, behind a balancer of AWS's."""

    min: Annotated[int, Field(ge=1, le=_MOST_HOSTS)] = Field(
        description="How many hosts there are at least, in two zones.", examples=[2]
    )
    max: Annotated[int, Field(ge=1, le=_MOST_HOSTS)] | None = Field(
        default=None, description="How many there are at most; by default as many as at least.", examples=[4]
    )
    cpu: Annotated[int, Field(ge=10, le=90)] = Field(
        default=60,
        description="Hosts are added when they use more of their processors' time than this, in per cent.",
        examples=[60],
    )


class RegistryInput(RegistrySection):
    """A registry that images come from."""

    username: RegistryUsername | None = Field(
        default=None,
        description="Who all stacks log in as; the password is set on the server, by `er server registry login`.",
        examples=["me"],
    )
    mirrors: list[Mirror] = Field(
        default=[],
        description="Where its images are looked for first, in this order.",
        examples=[["mirror.example.com"]],
    )


class RoleRegistryInput(RegistryInput):
    """Amazon ECR, where the server's role logs in for all stacks."""

    by_role = True
    username: RegistryUsername | None = ecr.USERNAME


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
    data: DataInput | None = Field(
        default=None,
        description="What must outlive the machine, on a disk of its own; without it, on the machine's.",
        examples=[{"disk": "auto"}],
    )
    registries: dict[Registry, Annotated[RegistryInput, registry_settings(RoleRegistryInput)]] = Field(
        default={},
        description="By registry, who logs in there, and where else its images are; aws is the server's role.",
        examples=[{"ghcr.io": {"username": "me"}}],
    )
    dns: Dns | None = Field(
        default=None, description="Where `er launch` sets the records of the domains.", examples=["route53"]
    )
    backup: BackupInput | None = Field(
        default=None,
        description="Backups, each night: where to, and how long they are kept.",
        examples=[{"to": "s3:https://s3.example.com/bucket/web1"}],
    )
    notify: NotifyInput | None = Field(
        default=None,
        description="Who is told by the host itself when something is wrong.",
        examples=[{"webhook": True, "heartbeat": True}],
    )
    update: ProxyUpdateInput | None = Field(
        default=None,
        description="What of the host updates itself, beside Debian's packages; without it nothing does.",
        examples=[{"proxy": "patch"}],
    )
    fleet: FleetInput | None = Field(
        default=None,
        description="How many hosts of this kind AWS runs, all the same; without it, there is one.",
        examples=[{"min": 2, "max": 4, "cpu": 60}],
    )
    stacks: list[StackInput] = Field(default=[], description="The app stacks.", examples=[[{"name": "blog"}]])


@cache
def sections() -> dict[str, type[BaseModel]]:
    """The models by where they are in a spec, as `stacks` or `stacks.egress`; the whole spec is ``""``."""
    found: dict[str, type[BaseModel]] = {}
    _walk(SpecInput, "", found)
    return found


def keys(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys of a section as they are written; some are no names in Python, as `from`."""
    return {info.alias or name: info for name, info in model.model_fields.items()}


def _walk(model: type[BaseModel], path: str, found: dict[str, type[BaseModel]]) -> None:
    found[path] = model
    for name, info in keys(model).items():
        for inner in _models(info.annotation):
            _walk(inner, f"{path}.{name}".lstrip("."), found)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)]


_KEY_TYPE: Final = b"ssh-ed25519"


def template() -> str:
    """The text of a commented spec to start from. It passes `er check`, with a warning about its key."""
    text = resources.files(__package__).joinpath("starter.yaml").read_text(encoding="utf-8")
    return text.replace("{key}", placeholder_key())


def placeholder_key() -> str:
    """A public key that nobody has the other half of, as authorized_keys has it."""
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (_KEY_TYPE, TEMPLATE_KEY))
    return f"{_KEY_TYPE.decode()} {base64.b64encode(blob).decode('ascii')} replace-me"
