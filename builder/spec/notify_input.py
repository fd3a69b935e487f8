"""`notify:` as the user writes it, and the texts of what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema

from builder.messages import Text
from builder.spec import rules
from builder.spec.model import WebhookFormat  # noqa: TC001 - pydantic reads the annotations
from builder.spec.rules import RuleError
from builder.spec.value_types import Section

if TYPE_CHECKING:
    from collections.abc import Callable

# Notices. What has a token, or may have one, is a secret of the host.
URL: Final = Text(
    "an address has no place here: it lets whoever has it write to your receiver",
    "write {key}: true, and set the address on the server: er server secret set HOST --host {secret}",
    secret=True,
)
URL_KEY: Final = Text(
    "an address has no place here: it lets whoever has it write to your receiver",
    "take it out, and set it on the server: er server secret set HOST --host notify-webhook",
    secret=True,
)
PASSWORD: Final = Text(
    "a password has no place here",
    "take it out, and set it on the server: er server secret set HOST --host notify-smtp-password",
    secret=True,
)
NOBODY: Final = Text("nobody would be told", "write at least one of webhook: true, email: {{…}} and heartbeat: true")
QUIET: Final = Text("`{value}` is not a time of day", 'from and to, quoted, as in "22:00-07:00"')
SERVER: Final = Text("`{value}` is not the name of a server", "as in smtp.example.com, without scheme and port")
PORT: Final = Text(
    "mail servers talk among each other on port 25", "submission is port 587, or 465 with TLS from the start"
)
STACK: Final = Text("there is no stack {name}", "there are: {known}")

_SERVER: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])"
_TIME: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_QUIET: Final = f"{_TIME}-{_TIME}"
_BETWEEN_SERVERS: Final = 25


def _no_address(key: str, secret: str) -> Callable[[Any], Any]:
    """A text where true is wanted is an address, which is the host's secret."""

    def rule(value: Any) -> Any:
        if isinstance(value, str):
            raise RuleError(URL, key=key, secret=secret)
        return value

    return rule


def _port(value: int) -> int:
    if value == _BETWEEN_SERVERS:
        raise RuleError(PORT)
    return value


class WebhookInput(Section):
    """A webhook, whose address is a secret of the host."""

    is_wanted: ClassVar[bool] = True

    format: WebhookFormat | None = Field(
        default=None,
        description="What its receiver takes; without it, by its address: Slack's and ntfy.sh's, else json.",
        examples=["ntfy"],
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "boolean"}, handler(core)]}


class _NoWebhook(WebhookInput):
    is_wanted = False


def _webhook(value: Any) -> Any:
    if isinstance(value, bool):
        return WebhookInput() if value else _NoWebhook()
    return _no_address("webhook", "notify-webhook")(value)


class EmailInput(Section):
    """E-mail by a mail server that takes it from whoever has the password."""

    to: Annotated[
        list[Annotated[str, AfterValidator(rules.email)]],
        BeforeValidator(rules.as_list),
        Field(min_length=1, max_length=20),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
    ] = Field(description="Who is told.", examples=["ops@your-domain.org"])
    sender: Annotated[str, AfterValidator(rules.email)] = Field(
        alias="from", description="Who it is from.", examples=["web1@your-domain.org"]
    )
    server: Annotated[str, AfterValidator(rules.pattern(_SERVER, SERVER))] = Field(
        description="The mail server.", examples=["smtp.your-domain.org"], json_schema_extra={"pattern": f"^{_SERVER}$"}
    )
    port: Annotated[int, Field(ge=1, le=65535), AfterValidator(_port)] = Field(
        default=587, description="Its port: with STARTTLS, or 465 with TLS from the start.", examples=[587]
    )
    username: Annotated[str, AfterValidator(rules.line)] | None = Field(
        default=None, description="Who logs in there; without it, the address of `from`.", examples=["web1"]
    )


class NotifyInput(Section):
    """Who is told when something is wrong."""

    webhook: Annotated[WebhookInput, BeforeValidator(_webhook)] | None = Field(
        default=None,
        description="Tell a webhook; its address is the host's secret notify-webhook.",
        examples=[True],
    )
    email: EmailInput | None = Field(
        default=None,
        description="Tell by e-mail; the password is the host's secret notify-smtp-password.",
        examples=[{"to": "ops@your-domain.org", "from": "web1@your-domain.org", "server": "smtp.your-domain.org"}],
    )
    heartbeat: Annotated[bool, BeforeValidator(_no_address("heartbeat", "notify-heartbeat"))] = Field(
        default=False,
        description="Call an address each day, which misses a dead server; it is the host's secret notify-heartbeat.",
        examples=[True],
    )
    quiet: (
        Annotated[
            str,
            AfterValidator(rules.pattern(_QUIET, QUIET)),
            WithJsonSchema({"type": "string", "pattern": f"^{_QUIET}$"}),
        ]
        | None
    ) = Field(
        default=None,
        description="When, by the host's time zone, only what cannot wait is told.",
        examples=["22:00-07:00"],
    )
    allow_exec: list[str] = Field(
        default=[],
        description="Stacks that run programs out of their data, as those whose users write hooks.",
        examples=[["forge"]],
    )
