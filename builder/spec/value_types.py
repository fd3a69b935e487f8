"""Types of single values in a spec: the rule that checks one, and what the JSON Schema says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
)

from builder import facts
from builder.oci.known_images import LINUX_CAPABILITIES
from builder.spec import messages, rules
from builder.stack import public, sleeping

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.stack.domains import Fault


class Section(BaseModel):
    """A mapping in a spec: unknown keys and values of another type are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Line = Annotated[str, AfterValidator(rules.line)]
Network = Annotated[str, AfterValidator(rules.network)]
PathPrefix = Annotated[
    str, AfterValidator(rules.path_prefix), WithJsonSchema({"type": "string", "pattern": f"^{rules.PATH_PREFIX}$"})
]
_DATA_DISK: Final = rf"auto|LABEL={facts.DATA_LABEL}|/dev/disk/by-id/[A-Za-z0-9_.:+-]+"
DataDisk = Annotated[
    str,
    AfterValidator(rules.pattern(_DATA_DISK, messages.DATA_DISK)),
    WithJsonSchema({"type": "string", "pattern": f"^(?:{_DATA_DISK})$"}),
]
Domain = Annotated[str, AfterValidator(rules.domain)]
Domains = Annotated[
    list[Domain],
    BeforeValidator(rules.as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
_PATH = {"type": "string", "pattern": f"^(?:{public.PATH})$"}
Paths = Annotated[
    list[Annotated[str, AfterValidator(rules.without_fault(public.path_fault))]],
    BeforeValidator(rules.as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_PATH, {"type": "array", "items": _PATH, "minItems": 1}]}),
]


def _each_once(headers: dict[str, str | None]) -> dict[str, str | None]:
    """Headers of which no two are one: their names have no case."""
    names = [name.lower() for name in headers]
    for name in headers:
        if names.count(name.lower()) > 1:
            raise rules.RuleError(messages.HEADER_TWICE, name=name)
    return headers


Headers = Annotated[
    dict[
        Annotated[str, AfterValidator(rules.without_fault(public.header_fault))],
        Annotated[str, AfterValidator(rules.without_fault(public.header_value_fault))] | None,
    ],
    AfterValidator(_each_once),
    WithJsonSchema(
        {
            "type": "object",
            "propertyNames": {"pattern": f"^{public.HEADER}$"},
            "additionalProperties": {"type": ["string", "null"]},
        }
    ),
]
Accounts = Annotated[
    dict[
        Annotated[str, AfterValidator(rules.without_fault(public.user_fault))],
        Annotated[str, AfterValidator(rules.without_fault(public.hash_fault))],
    ],
    Field(min_length=1),
]
Memory = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.memory),
    WithJsonSchema({"type": ["string", "integer"]}),
]
Duration = Annotated[str, AfterValidator(rules.duration), WithJsonSchema({"type": "string"})]
Age = Annotated[str, AfterValidator(rules.age), WithJsonSchema({"type": "string", "pattern": f"^{rules.AGE}$"})]
MaxBody = Annotated[
    str,
    BeforeValidator(rules.as_text),
    AfterValidator(rules.max_body),
    WithJsonSchema({"type": ["string", "integer"]}),
]
TimeoutOrNone = Annotated[str, AfterValidator(rules.timeout_or_none), WithJsonSchema({"type": "string"})]


def _seconds(find: Callable[[float], Fault | None]) -> Callable[[str], int]:
    """A rule: a time in seconds in which nothing is found wrong."""

    def rule(value: str) -> int:
        seconds = rules.duration(value)
        if fault := find(seconds):
            raise rules.RuleError(fault[0], **fault[1])
        return int(seconds)

    return rule


Sleep = Annotated[str, AfterValidator(_seconds(sleeping.sleep_fault)), WithJsonSchema({"type": "string"})]
WakeTimeout = Annotated[str, AfterValidator(_seconds(sleeping.wake_timeout_fault)), WithJsonSchema({"type": "string"})]
_WAKE = {"type": "string", "pattern": f"^(?:{sleeping.METHOD}|{sleeping.WAKE_PATH})$"}
Wake = Annotated[
    list[Annotated[str, AfterValidator(rules.without_fault(sleeping.wake_fault))]],
    BeforeValidator(rules.as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [_WAKE, {"type": "array", "items": _WAKE, "minItems": 1}]}),
]
Capability = Annotated[
    str,
    AfterValidator(rules.capability),
    WithJsonSchema({"type": "string", "examples": list(LINUX_CAPABILITIES)}),
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
# All that a stack stores, or what some of its services do.
LocalCache = Annotated[
    bool | list[str],
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
Port = Annotated[int, Field(ge=1024, le=65535)]
ComposeFiles = Annotated[
    list[str],
    BeforeValidator(rules.as_list),
    Field(min_length=1),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]

# A registry as images name it: a word without a dot or a port would be a folder of Docker Hub.
_REGISTRY: Final = r"(?=.*[.:])[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?"
_MIRROR: Final = rf"{_REGISTRY}(?:/[a-z0-9][a-z0-9._/-]*[a-z0-9])?"
# HTTP's basic authentication ends the name at a colon.
_USERNAME: Final = "[!-9;-~]{1,200}"
_DOCKER_HUB: Final = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com")


def _registry(value: str) -> str:
    if value in _DOCKER_HUB:
        raise rules.RuleError(messages.REGISTRY_DOCKER, value=value)
    return rules.pattern(_REGISTRY, messages.REGISTRY)(value)


ROLE: Final = "aws"
"""Written in place of a registry's settings: the server's role logs in there."""


class RegistrySection(Section):
    """What the spec says of a registry: a mapping, or the one word for a login by role."""

    by_role: ClassVar[bool] = False

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either of the two."""
        return {"anyOf": [handler(core), {"const": ROLE}]}


def registry_settings(by_role: Callable[[], RegistrySection]) -> BeforeValidator:
    """Before the keys are looked at: `by_role` makes what the one word stands for."""

    def settings(value: Any) -> Any:
        if value == {}:
            raise rules.RuleError(messages.REGISTRY_EMPTY)
        return by_role() if value == ROLE else value

    return BeforeValidator(settings)


Registry = Annotated[str, AfterValidator(_registry)]
RegistryUsername = Annotated[
    str,
    AfterValidator(rules.pattern(_USERNAME, messages.REGISTRY_USERNAME)),
    WithJsonSchema({"type": "string", "pattern": f"^{_USERNAME}$"}),
]
Mirror = Annotated[
    str,
    AfterValidator(rules.pattern(_MIRROR, messages.MIRROR)),
    WithJsonSchema({"type": "string", "pattern": f"^{_MIRROR}$"}),
]
