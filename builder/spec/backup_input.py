"""`backup:` as the user writes it, of the host and of a stack."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, WithJsonSchema

from builder import facts
from builder.spec import messages, rules
from builder.spec.rules import RuleError
from builder.spec.value_types import Line, Section

_HOST: Final = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?"
_ADDRESS: Final = rf"(?:{_HOST}|\[[0-9A-Fa-f:]+\])"
_BUCKET: Final = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_PATH: Final = r"(?:/[A-Za-z0-9._~+@-]+)+"
# In the order of the docs; SFTP's second form is for another port.
_FORMS: Final = (
    re.compile(rf"s3:https?://{_ADDRESS}(?::[0-9]{{1,5}})?/{_BUCKET}(?:{_PATH})?"),
    re.compile(rf"s3://{_BUCKET}(?:{_PATH})?"),
    re.compile(rf"sftp:[A-Za-z0-9_][A-Za-z0-9._-]*@{_HOST}:{_PATH}"),
    re.compile(rf"sftp://[A-Za-z0-9_][A-Za-z0-9._-]*@{_ADDRESS}(?::[0-9]{{1,5}})?{_PATH}"),
    re.compile(rf"rest:https?://{_ADDRESS}(?::[0-9]{{1,5}})?(?:{_PATH})?/?"),
    re.compile(_PATH),
)
# Where nothing outlives the host, or a backup would be backed up itself.
_NOT_THERE: Final = (facts.STATE, facts.ETC, facts.RUN, "/tmp", "/run", "/proc", "/sys", "/dev")  # noqa: S108
# A password in an address.
_CREDENTIALS: Final = re.compile(r"//[^/@]*:[^/@]*@")


def _target(value: str) -> str:
    if _CREDENTIALS.search(value):
        raise RuleError(messages.BACKUP_PASSWORD)
    path = rules.line(value).rstrip("/") if value.startswith("/") else value
    if not any(form.fullmatch(path) for form in _FORMS) or "/../" in f"{path}/":
        raise RuleError(messages.BACKUP_TO, value=value)
    if path.startswith("/") and any(f"{path}/".startswith(f"{place}/") for place in _NOT_THERE):
        raise RuleError(messages.BACKUP_HERE, value=path)
    return path


_AT: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_HOST_KEY: Final = r"(?:ssh-(?:ed25519|rsa)|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{43,}={0,2}"


def _host_key(value: str) -> str:
    """A host's public key without its comment."""
    found = re.match(_HOST_KEY, rules.line(value))
    if not found or not re.fullmatch(r"( .*)?", value[found.end() :]):
        raise RuleError(messages.BACKUP_HOST_KEY)
    return found[0]


class KeepInput(Section):
    """How many snapshots of a stack are kept: of the newest days, weeks and months, one each."""

    daily: Annotated[int, Field(ge=0, le=1000)] = Field(default=7, description="Days.", examples=[7])
    weekly: Annotated[int, Field(ge=0, le=1000)] = Field(default=4, description="Weeks.", examples=[4])
    monthly: Annotated[int, Field(ge=0, le=1000)] = Field(default=6, description="Months.", examples=[6])


class BackupInput(Section):
    """Backups by restic: of each stack's data, and of the host's certificates and bans."""

    to: Annotated[str, AfterValidator(_target)] = Field(
        description="The repository, this host's alone: S3, SFTP, a REST server, or a directory of a mounted disk.",
        examples=["s3:https://s3.example.com/bucket/web1", "sftp:backup@nas.example.com:/srv/web1", "/mnt/backup"],
    )
    at: Annotated[
        str,
        AfterValidator(rules.pattern(_AT, messages.BACKUP_AT)),
        WithJsonSchema({"type": "string", "pattern": f"^{_AT}$"}),
    ] = Field(default="03:30", description="When, each day, by the host's time zone.", examples=["03:30"])
    keep: KeepInput | None = Field(
        default=None,
        description="How many snapshots are kept; by default 7 days, 4 weeks and 6 months.",
        examples=[{"daily": 7, "weekly": 4, "monthly": 6}],
    )
    bandwidth: Annotated[float, Field(gt=0, le=100_000)] | None = Field(
        default=None, description="The most that is sent, in Mbit/s.", examples=[20]
    )
    append_only: bool = Field(
        default=False,
        description="This host only adds snapshots: which are kept is decided and done elsewhere.",
        examples=[True],
    )
    host_key: Annotated[str, AfterValidator(_host_key)] | None = Field(
        default=None,
        description="Of SFTP, the server's public host key; without, the first that is seen counts from then on.",
        examples=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA9p8cvmz0gFQxdwSDsFQZFvnhPo8Z1oM9eYZ8oO9SDe"],
    )


Command = Annotated[list[Line], Field(min_length=1)]
Pattern = Annotated[str, AfterValidator(rules.pattern(r"[^\x00-\x1f\x7f]+", messages.CONTROL_CHARACTER))]


class StackBackupInput(Section):
    """What a backup of this stack needs; false leaves the stack out."""

    is_left_out: ClassVar[bool] = False

    before: dict[str, Command] = Field(
        default={},
        description="By service, the command in its container that prints a dump; well-known databases have theirs.",
        examples=[{"db": ["pg_dump", "--username=app", "app"]}],
    )
    stop: bool = Field(
        default=False,
        description="Stop the stack while its files are read; most of them are sent before that.",
        examples=[True],
    )
    exclude: list[Pattern] = Field(
        default=[],
        description="What is left out, as restic's patterns: a name, or a path with `*` and `**`.",
        examples=[["volumes/cache/**", "*.tmp"]],
    )

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(core), {"const": False}]}


class _LeftOut(StackBackupInput):
    is_left_out = True


StackBackupOrFalse = Annotated[StackBackupInput, BeforeValidator(lambda value: _LeftOut() if value is False else value)]
