"""`notify:` as the user writes it, what becomes of it, and what of it does not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema

from builder.spec import messages, model, rules
from builder.spec.model import WebhookFormat  # noqa: TC001 - pydantic reads the annotations
from builder.spec.rules import RuleError
from builder.spec.value_types import Section

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.spec.document import Document
    from builder.yamlfile.source import Loc

_SERVER: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])"
_TIME: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_QUIET: Final = f"{_TIME}-{_TIME}"
_BETWEEN_SERVERS: Final = 25


def _no_address(key: str, secret: str) -> Callable[[Any], Any]:
    """A text where true is wanted is an address, which is the host's secret."""

    def rule(value: Any) -> Any:
        if isinstance(value, str):
            raise RuleError(messages.NOTIFY_URL, key=key, secret=secret)
        return value

    return rule


def _port(value: int) -> int:
    if value == _BETWEEN_SERVERS:
        raise RuleError(messages.NOTIFY_PORT)
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
    server: Annotated[str, AfterValidator(rules.pattern(_SERVER, messages.NOTIFY_SERVER))] = Field(
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
            AfterValidator(rules.pattern(_QUIET, messages.NOTIFY_QUIET)),
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


def of_host(section: NotifyInput | None) -> model.Notify | None:
    """Who is told; None where nobody is."""
    if section is None:
        return None
    webhook = section.webhook and section.webhook.is_wanted and (section.webhook.format or "auto")
    first, _, last = (section.quiet or "").partition("-")
    return model.Notify(
        webhook or None,
        _email(section.email),
        section.heartbeat,
        (first, last) if section.quiet else None,
        tuple(dict.fromkeys(section.allow_exec)),
    )


def _email(section: EmailInput | None) -> model.Email | None:
    if section is None:
        return None
    to = tuple(dict.fromkeys(section.to))
    return model.Email(to, section.sender, section.server, section.port, section.username or section.sender)


def check(document: Document) -> None:
    """Refuse a section by which nobody is told, and stacks that are not there."""
    place: Loc = ("notify",)
    if not isinstance(document.get(place), dict):
        return
    if not any(document.get((*place, name)) for name in ("webhook", "email", "heartbeat")):
        document.report(messages.NOTIFY_NOBODY, place, on_key=True)
    known = [document.text((*loc, "name")) or "" for loc in document.items(("stacks",))]
    for loc in document.items((*place, "allow_exec")):
        name = document.text(loc)
        if name is not None and name not in known:
            document.report(messages.NOTIFY_STACK, loc, name=name, known=", ".join(known) or "none")
