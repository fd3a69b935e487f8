"""Rules for single values: each takes a value and gives it back as it is used, or raises Wrong."""

from __future__ import annotations

import difflib
import ipaddress
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from builder import facts
from builder.spec import messages
from builder.stack import domains
from builder.stack.model import TMPFS_OPTION, UNFIT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.messages import Text


CA_NAMES: Final = ("letsencrypt", "letsencrypt-staging", "internal")
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
CAPABILITIES: Final = tuple(
    """
    AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE
    DAC_READ_SEARCH FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE
    MKNOD NET_ADMIN NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG
    SYS_ADMIN SYS_BOOT SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE
    SYS_TIME SYS_TTY_CONFIG WAKE_ALARM
    """.split()  # noqa: SIM905 - a list of words reads better without quotes
)
# Patterns that the JSON Schema shows too.
STACK_NAME: Final = r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?"
HOST_NAME: Final = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
AWS_REGION: Final = r"[a-z]{2,8}(-[a-z]+)+-[0-9]{1,2}"
AWS_TYPE: Final = r"[a-z][a-z0-9-]*\.[a-z0-9-]+"
PAGE: Final = r"/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-][A-Za-z0-9._~/-]*"
_SMALLEST_MEMORY: Final = 16 * 1024**2
# The word for no limit.
NONE: Final = "none"
_SIZE: Final = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_DURATION: Final = re.compile(
    r"(?:([0-9]{1,4})h)?(?:([0-9]{1,6})m(?!s))?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?(?:([0-9]{1,9})ms)?"
)
_STEP: Final = r"[^\s:,\"\\\x00-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]"
_TARGET: Final = rf"/{_STEP}*(?!/){_STEP}"


class Wrong(ValueError):  # noqa: N818 - raised for pydantic, which wants a ValueError; users see the text
    """A value breaks a rule; carries the text and its fields."""

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
            raise Wrong(text, value=value)
        return value

    return rule


def line(value: str) -> str:
    """Text that goes into one line of a unit file or of a Caddyfile."""
    if UNFIT.search(value) or re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029]", value):
        raise Wrong(messages.CONTROL_CHARACTER)
    return value


def content(value: str) -> str:
    """Any text, line breaks included, but for what no argument of a program and no unit can carry."""
    if UNFIT.search(value):
        raise Wrong(messages.CONTROL_CHARACTER)
    return value


def admin_name(value: str) -> str:
    """The name of the admin's user."""
    if value.startswith("er-"):
        raise Wrong(messages.ADMIN_PREFIX)
    if value in RESERVED_USERS or value.startswith("systemd-"):
        raise Wrong(messages.ADMIN_RESERVED, value=value)
    return pattern(r"[a-z][a-z0-9_-]{0,31}", messages.ADMIN_NAME)(value)


def stack_name(value: str) -> str:
    """The name of a stack; `er-` and the name is an OS user."""
    if value == "proxy":
        raise Wrong(messages.STACK_PROXY)
    return pattern(STACK_NAME, messages.STACK_NAME)(value)


def domain(value: str) -> str:
    """A domain of a web service."""
    fault = domains.find_fault(value)
    if fault:
        raise Wrong(fault[0], **fault[1])
    return value


def ca(value: str) -> str:
    """A CA by name or by the URL of its ACME directory."""
    if value in CA_NAMES:
        return value
    if value.lower().startswith("http://"):
        raise Wrong(messages.CA_HTTP)
    if "://" in value:
        return _directory(value)
    meant = near(value, CA_NAMES)
    if meant:
        raise Wrong(messages.CA_NAME_NEAR, value=value, near=meant)
    raise Wrong(messages.CA_NAME, value=value, known=", ".join(CA_NAMES))


def _directory(value: str) -> str:
    try:
        parts = urlsplit(value)
        sound = parts.scheme == "https" and parts.hostname and parts.port != 0 and not parts.username
    except ValueError:
        sound = False
    if not sound or not re.fullmatch(r"[A-Za-z0-9:/?&=%._~\[\]-]+", value):
        raise Wrong(messages.CA_URL, value=value)
    return value


def memory(value: str) -> int:
    """A size in bytes; units count by 1024, as in Compose."""
    found = _SIZE.fullmatch(value.strip())
    if not found:
        raise Wrong(messages.MEMORY_FORM, value=value)
    size = int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))
    if size < _SMALLEST_MEMORY:
        raise Wrong(messages.MEMORY_SMALL, value=value)
    return size


def duration(value: str) -> float:
    """A time in seconds."""
    found = _DURATION.fullmatch(value)
    if not value or not found:
        raise Wrong(messages.DURATION, value=value)
    return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (3600, 60, 1, 0.001), strict=True))


def max_body(value: str) -> int:
    """The size of a request in bytes, 0 for no limit."""
    if value == NONE:
        return 0
    found = _SIZE.fullmatch(value.strip())
    if not found or not (size := int(float(found[1]) * 1024 ** " kmgt".index(found[2].lower() or " "))):
        raise Wrong(messages.MAX_BODY, value=value)
    return size


def patience(value: str) -> float:
    """A time in seconds, 0 for ever."""
    if value == NONE:
        return 0
    found = _DURATION.fullmatch(value)
    if not value or not found or not (seconds := duration(value)):
        raise Wrong(messages.PATIENCE, value=value)
    return seconds


def health_test(value: list[str]) -> list[str]:
    """The command of a health check, in plain form or as Compose writes it."""
    if value[0] in ("CMD", "CMD-SHELL") and (len(value) == 1 or (value[0] == "CMD-SHELL" and len(value) > 2)):
        raise Wrong(messages.HEALTHCHECK_TEST)
    return value


def capability(value: str) -> str:
    """A Linux capability without CAP_."""
    name = value.upper().removeprefix("CAP_")
    if name in CAPABILITIES:
        return name
    if name == "ALL":
        raise Wrong(messages.CAPABILITY_ALL)
    meant = near(name, CAPABILITIES)
    if meant:
        raise Wrong(messages.CAPABILITY_NEAR, value=value, near=meant)
    raise Wrong(messages.CAPABILITY, value=value)


def environment_name(value: str) -> str:
    """The name of an environment variable."""
    if value.upper().startswith("EASYRUNNER_"):
        raise Wrong(messages.ENV_RESERVED)
    return pattern(r"[A-Za-z_][A-Za-z0-9_]*", messages.ENV_NAME)(value)


def volume(value: str) -> str:
    """A named volume and where it is mounted."""
    if value[:1] in (".", "/", "~"):
        raise Wrong(messages.VOLUME_BIND)
    return pattern(rf"[A-Za-z0-9][A-Za-z0-9_.-]*:{_TARGET}(:ro|:rw)?", messages.VOLUME_FORM)(value)


def as_text(value: Any) -> Any:
    """Whole numbers count as text where text is wanted and nothing can be lost; the rest stays as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


page = pattern(PAGE, messages.ALLOW_PAGE)
aws_region = pattern(AWS_REGION, messages.AWS_REGION)
aws_type = pattern(AWS_TYPE, messages.AWS_TYPE)
email = pattern(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`|~-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z0-9-]*[A-Za-z][A-Za-z0-9-]*", messages.EMAIL
)
host_name = pattern(HOST_NAME, messages.SERVER_NAME)
timezone = pattern(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}", messages.TIMEZONE)
tmpfs = pattern(rf"{_TARGET}(:({TMPFS_OPTION})(,({TMPFS_OPTION}))*)?", messages.TMPFS_FORM)
secret = pattern(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}", messages.SECRET_NAME)


_SECRET_NAME: Final = re.compile(
    r"(^|_)(PASS(WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|CREDENTIALS?|(API|ACCESS|PRIVATE|SECRET|ENCRYPTION)_?KEY)(_|$|\d)",
    re.IGNORECASE,
)
_NOT_SECRET_NAME: Final = re.compile(r"_(FILE|PATH|URL|DIR|NAME|ID|TTL|LENGTH|EXPIRY|ENABLED)$", re.IGNORECASE)


def looks_secret(name: str, value: str) -> bool:
    """True for a variable whose value should not stand in a file that becomes user-data."""
    trivial = value.lower() in ("", "true", "false") or value.startswith("/")
    return not trivial and bool(_SECRET_NAME.search(name)) and not _NOT_SECRET_NAME.search(name)


# What is meant as a name, whether or not it is a good one: an address has no letter but the digits a to f.
_NAME: Final = re.compile(r".*[g-zG-Z*_].*|[^/:]*[a-fA-F][^/:]*")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_METADATA: Final = tuple(map(ipaddress.ip_network, facts.METADATA))
_LOOPBACK: Final = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "::1/128")))
# No packet from outside has a source here.
_NO_SOURCE: Final = (
    *_LOOPBACK,
    *map(
        ipaddress.ip_network,
        ("0.0.0.0/8", "::/128", "224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "169.254.0.0/16"),
    ),
)


def network(text: str) -> str:
    """A network in its usual spelling; raises Wrong."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise _wrong(text) from None


def _wrong(text: str) -> Wrong:
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        named = re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+", text)
        return Wrong(messages.NETWORK_NAME if named else messages.NETWORK, value=text)
    return Wrong(messages.NETWORK_BITS, value=text, network=interface.network, address=interface.ip)


def egress(text: str) -> str:
    """A network that a stack may be allowed to reach, or a name, which the host resolves; raises Wrong."""
    if _NAME.fullmatch(text):
        return _name(text)
    found = network(text)
    for refused, reason in ((_METADATA, messages.EGRESS_REFUSED), (_LOOPBACK, messages.EGRESS_LOOPBACK)):
        if within(found, refused):
            raise Wrong(reason, network=found)
    return found


def _name(text: str) -> str:
    if "*" in text:
        raise Wrong(messages.EGRESS_WILDCARD, value=text)
    if domains.find_fault(text.lower()):
        raise Wrong(messages.EGRESS_NAME, value=text)
    return text.lower()


def reachable(networks: Iterable[str]) -> bool:
    """True when a client could have an address in at least one of them."""
    return not all(within(text, _NO_SOURCE) for text in networks)


def everything(text: str) -> bool:
    """True for the network of all addresses of a family."""
    return ipaddress.ip_network(text).prefixlen == 0


def within(text: str, outer: Iterable[Network]) -> bool:
    """True when the whole network lies in one of `outer`."""
    inner = ipaddress.ip_network(text)
    # mypy cannot see that equal versions are equal types
    return any(inner.version == one.version and inner.subnet_of(one) for one in outer)  # type: ignore[arg-type]
