"""Rules for single values: each takes a value and gives it back as it is used, or raises RuleError.

In the order of the spec: text as such, the host, its stacks, and last networks and what stacks may reach.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from builder import facts
from builder.oci.known_images import LINUX_CAPABILITIES
from builder.spec import messages
from builder.stack import domains
from builder.stack.model import TMPFS_OPTION, UNENCODABLE
from builder.stack.secret_references import SECRET_NAME, places, without_places
from builder.stack.variables import PASSWORD_INSIDE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.messages import Text
    from builder.stack.domains import Fault


class RuleError(ValueError):
    """A value breaks a rule: the text of the problem and the values of its fields."""

    def __init__(self, text: Text, **values: Any) -> None:
        self.text = text
        self.values = values
        super().__init__(text.message.format(**values))


def near(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant."""
    by_lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.7)
    return by_lower[found[0]] if found else None


def pattern(expression: str, text: Text) -> Callable[[str], str]:
    """A rule: the whole value matches the expression."""
    compiled = re.compile(expression)

    def rule(value: str) -> str:
        if not compiled.fullmatch(value):
            raise RuleError(text, value=value)
        return value

    return rule


def line(value: str) -> str:
    """Text that goes into one line of a unit file or of a Caddyfile."""
    if UNENCODABLE.search(value) or re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", value):
        raise RuleError(messages.CONTROL_CHARACTER)
    return value


def content(value: str) -> str:
    """Any text, line breaks included, but for what no argument of a program and no unit can carry."""
    if UNENCODABLE.search(value):
        raise RuleError(messages.CONTROL_CHARACTER)
    return value


def as_text(value: Any) -> Any:
    """Whole numbers count as text where text is wanted and nothing can be lost; the rest stays as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_list(value: Any) -> Any:
    """A single text counts as a list of one; the rest stays as it is."""
    return [value] if isinstance(value, str) else value


# The JSON Schema shows this pattern too, and those below that have a name in capitals.
HOST_NAME: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
host_name = pattern(HOST_NAME, messages.SERVER_NAME)
timezone = pattern(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", messages.TIMEZONE)

# Users and groups that the bases and their packages bring, and names that mean something to them.
RESERVED_USERS: Final = frozenset(
    """
    root daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats nobody
    nogroup _apt messagebus sshd syslog uuidd tcpdump polkitd dnsmasq landscape pollinate chrony ntp
    dhcpcd tss fwupd-refresh adm tty disk fax voice cdrom floppy tape sudo audio dip operator src shadow
    utmp video sasl plugdev staff users input kvm render sgx crontab ssh ssl-cert netdev lxd docker
    podman caddy fail2ban easyrunner
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
)


def admin_name(value: str) -> str:
    """The name of the admin's user."""
    if value.startswith("er-"):
        raise RuleError(messages.ADMIN_PREFIX)
    if value in RESERVED_USERS or value.startswith("systemd-"):
        raise RuleError(messages.ADMIN_RESERVED, value=value)
    return pattern(r"[a-z][a-z0-9_-]{0,31}", messages.ADMIN_NAME)(value)


email = pattern(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`|~-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*", messages.EMAIL
)

CA_NAMES: Final = ("letsencrypt", "letsencrypt-staging", "internal")


def ca(value: str) -> str:
    """A CA by name or by the URL of its ACME directory."""
    if value in CA_NAMES:
        return value
    if value.lower().startswith("http://"):
        raise RuleError(messages.CA_HTTP)
    if "://" in value:
        return _directory(value)
    meant = near(value, CA_NAMES)
    if meant:
        raise RuleError(messages.CA_NAME_NEAR, value=value, near=meant)
    raise RuleError(messages.CA_NAME, value=value, known=", ".join(CA_NAMES))


def _directory(value: str) -> str:
    try:
        parts = urlsplit(value)
        sound = parts.scheme == "https" and parts.hostname and parts.port != 0 and not parts.username
    except ValueError:
        sound = False
    if not sound or not re.fullmatch(r"[A-Za-z0-9:/?&=%._~\[\]-]+", value):
        raise RuleError(messages.CA_URL, value=value)
    return value


PATH_PREFIX: Final = r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-][A-Za-z0-9._~/-]*"
path_prefix = pattern(PATH_PREFIX, messages.ALLOW_PATH)
AWS_REGION: Final = r"[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}"
aws_region = pattern(AWS_REGION, messages.AWS_REGION)
AWS_TYPE: Final = r"[a-z][a-z0-9-]*\.[a-z0-9-]+"
aws_type = pattern(AWS_TYPE, messages.AWS_TYPE)

STACK_NAME: Final = r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?"


def stack_name(value: str) -> str:
    """The name of a stack; `er-` and the name is an OS user."""
    if value == "proxy":
        raise RuleError(messages.STACK_PROXY)
    if value == "deploy":
        raise RuleError(messages.STACK_DEPLOY)
    return pattern(STACK_NAME, messages.STACK_NAME)(value)


def without_fault(find: Callable[[str], Fault | None]) -> Callable[[str], str]:
    """A rule: nothing is found wrong with the value."""

    def rule(value: str) -> str:
        if fault := find(value):
            raise RuleError(fault[0], **fault[1])
        return value

    return rule


domain = without_fault(domains.find_fault)


def environment_name(value: str) -> str:
    """The name of an environment variable."""
    if value.upper().startswith("EASYRUNNER_"):
        raise RuleError(messages.ENV_RESERVED)
    return pattern(r"[A-Za-z_][A-Za-z0-9_]*", messages.ENV_NAME)(value)


_SECRET_NAME: Final = re.compile(
    r"(^|_)(PASS(WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET|ENCRYPTION)_?KEY)(_|$|\d)",
    re.IGNORECASE,
)
_NOT_SECRET_NAME: Final = re.compile(r"_(FILE|PATH|URL|DIR|NAME|ID|TTL|LENGTH|EXPIRY|ENABLED)$", re.IGNORECASE)


def looks_secret(name: str, value: str) -> bool:
    """True for a variable whose value should not stand in a file that becomes user-data."""
    if PASSWORD_INSIDE.search(value):
        return True
    trivial = value.lower() in ("", "true", "false") or value.startswith("/")
    return not trivial and bool(_SECRET_NAME.search(name)) and not _NOT_SECRET_NAME.search(name)


_SMALLEST_MEMORY: Final = 16 * 1024**2


def memory(value: str) -> int:
    """A size in bytes, enough for a container."""
    size = _size(value)
    if size is None:
        raise RuleError(messages.MEMORY_FORM, value=value)
    if size < _SMALLEST_MEMORY:
        raise RuleError(messages.MEMORY_SMALL, value=value)
    return size


_SIZE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def _size(value: str) -> int | None:
    """Bytes of a size; units count by 1024, as in Compose. None for anything else."""
    found = _SIZE.fullmatch(value.strip())
    return int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " ")) if found else None


# The word for no limit.
NONE: Final = "none"


def max_body(value: str) -> int:
    """The size of a request in bytes, 0 for no limit."""
    if value == NONE:
        return 0
    size = _size(value)
    if not size:
        raise RuleError(messages.MAX_BODY, value=value)
    return size


def duration(value: str) -> float:
    """A time in seconds."""
    seconds = _seconds(value)
    if seconds is None:
        raise RuleError(messages.DURATION, value=value)
    return seconds


_DURATION: Final = re.compile(
    r"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m(?!s))?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9})ms)?"
)


def _seconds(value: str) -> float | None:
    found = _DURATION.fullmatch(value)
    if not value or not found:
        return None
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1, 0.001), strict=True))


AGE: Final = "[1-9][0-9]{0,3}[hdw]"
_AGES: Final = {"h": 3600, "d": 86_400, "w": 604_800}


def age(value: str) -> float:
    """A time in seconds, of hours, days or weeks."""
    pattern(AGE, messages.AGE)(value)
    return int(value[:-1]) * _AGES[value[-1]]


def timeout_or_none(value: str) -> float:
    """A time in seconds, 0 for ever."""
    if value == NONE:
        return 0
    seconds = _seconds(value)
    if not seconds:
        raise RuleError(messages.TIMEOUT_OR_NONE, value=value)
    return seconds


def health_test(value: list[str]) -> list[str]:
    """The command of a health check, in plain form or as Compose writes it."""
    if value[0] in ("CMD", "CMD-SHELL") and (len(value) == 1 or (value[0] == "CMD-SHELL" and len(value) > 2)):
        raise RuleError(messages.HEALTHCHECK_TEST)
    return value


def capability(value: str) -> str:
    """A Linux capability without CAP_."""
    name = value.upper().removeprefix("CAP_")
    if name in LINUX_CAPABILITIES:
        return name
    if name == "ALL":
        raise RuleError(messages.CAPABILITY_ALL)
    meant = near(name, LINUX_CAPABILITIES)
    if meant:
        raise RuleError(messages.CAPABILITY_NEAR, value=value, near=meant)
    raise RuleError(messages.CAPABILITY, value=value)


_PATH_CHARACTER: Final = r"[^\s:,\"\\\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]"
_TARGET: Final = rf"/{_PATH_CHARACTER}*(?!/){_PATH_CHARACTER}"


def volume(value: str) -> str:
    """A named volume and where it is mounted."""
    if value[:1] in (".", "/", "~"):
        raise RuleError(messages.VOLUME_BIND)
    return pattern(rf"[A-Za-z0-9][A-Za-z0-9_.-]*:{_TARGET}(:ro|:rw)?", messages.VOLUME_FORM)(value)


tmpfs = pattern(rf"{_TARGET}(:({TMPFS_OPTION})(,({TMPFS_OPTION}))*)?", messages.TMPFS_FORM)
secret_name = pattern(SECRET_NAME, messages.SECRET_NAME)


def names_with_default(value: Any) -> Any:
    """The variables of a service that are secrets: a list of names is a mapping in which each has its default."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, "")
    return value


def secret_source(value: str) -> str:
    """What a variable gets: a secret's name, a text with secrets' names in braces, or nothing for the default."""
    rest = without_places(line(value))
    if re.fullmatch(SECRET_NAME, value) or not value or (places(value) and not re.search("[{}]", rest)):
        return value
    raise RuleError(messages.SECRET_SOURCE)


def none_or_list(value: Any) -> Any:
    """The word for no rules at all is an empty list of them."""
    return [] if value == NONE else value


def network(text: str) -> str:
    """A network in its usual spelling."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise _network_error(text) from None


def _network_error(text: str) -> RuleError:
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        named = re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", text)
        return RuleError(messages.NETWORK_NAME if named else messages.NETWORK, value=text)
    return RuleError(messages.NETWORK_BITS, value=text, network=interface.network, address=interface.ip)


_IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
_METADATA: Final = tuple(map(ipaddress.ip_network, facts.METADATA))
_LOOPBACK: Final = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
# Meant as a host name, valid or not: an address has no letters but the digits a to f.
_NAME: Final = re.compile(r".*[g-zG-Z*_].*|[^/:]*[a-fA-F][^/:]*")


def egress(text: str) -> str:
    """A network that a stack may be allowed to reach, or the name of a host, which the server resolves."""
    if _NAME.fullmatch(text):
        return _host_name(text)
    found = network(text)
    for refused, reason in ((_METADATA, messages.EGRESS_REFUSED), (_LOOPBACK, messages.EGRESS_LOOPBACK)):
        if within(found, refused):
            raise RuleError(reason, network=found)
    return found


def _host_name(text: str) -> str:
    if "*" in text:
        raise RuleError(messages.EGRESS_WILDCARD, value=text)
    if domains.find_fault(text.lower()):
        raise RuleError(messages.EGRESS_NAME, value=text)
    return text.lower()


# No packet from outside has a source here.
_NO_SOURCE: Final = (
    *_LOOPBACK,
    *map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "::/128", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "169.254.0.0/16"),
    ),
)


def reachable(networks: Iterable[str]) -> bool:
    """True when a client could have an address in at least one of them."""
    return not all(within(text, _NO_SOURCE) for text in networks)


def is_everything(text: str) -> bool:
    """True for the network of all addresses of a family."""
    return ipaddress.ip_network(text).prefixlen == 0


def within(text: str, outer: Iterable[_IpNetwork]) -> bool:
    """True when the whole network lies in one of `outer`."""
    inner = ipaddress.ip_network(text)
    # mypy cannot see that equal versions are equal types
    return any(inner.version == one.version and inner.subnet_of(one) for one in outer)  # type: ignore[arg-type]
