"""What a stack's environment says that it will connect to: servers outside of it, for which `egress` may lack a rule.

Found are URLs of well-known schemes, and variables such as SMTP_HOST with a port beside them. The web's own ports are
open to every stack; a name without a dot is another container's, and no host that a rule could name.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.oci import image_reference
from builder.spec import messages, rules
from builder.spec.rules import RuleError
from builder.stack.model import EgressRule

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from builder.spec.document import Document
    from builder.stack.model import Service, Stack
    from builder.yamlfile.source import Loc

# The port of each scheme that a client connects with; 0 where only the URL can say it.
_PORTS: Final = {
    "smtp submission": 587, "smtps": 465, "imap": 143, "imaps": 993,
    "postgres postgresql pgsql postgis timescaledb": 5432, "mysql mysql2 mariadb": 3306, "mssql sqlserver": 1433,
    "mongodb": 27017, "redis rediss valkey valkeys": 6379, "memcached": 11211, "clickhouse": 9000, "bolt neo4j": 7687,
    "amqp": 5672, "amqps": 5671, "mqtt": 1883, "mqtts": 8883, "nats": 4222, "kafka": 9092,
    "ldap": 389, "ldaps": 636, "ftp": 21, "ssh sftp": 22,
    "http ws": facts.HTTP, "https wss": facts.HTTPS, "tcp tls ssl udp": 0,
}  # fmt: skip
_SCHEMES: Final = {scheme: port for schemes, port in _PORTS.items() for scheme in schemes.split()}
# What a variable's name says of a host in it, and the usual port; the first that is a word of the name counts.
_KINDS: Final = (
    (("SMTP", "MAIL", "EMAIL", "MAILER"), 587),
    (("IMAP",), 993),
    (("POSTGRES", "POSTGRESQL", "PG", "PGSQL"), 5432),
    (("MYSQL", "MARIADB", "WORDPRESS"), 3306),
    (("MSSQL",), 1433),
    (("MONGO", "MONGODB"), 27017),
    (("REDIS", "VALKEY"), 6379),
    (("MEMCACHED", "MEMCACHE"), 11211),
    (("RABBITMQ", "AMQP"), 5672),
    (("MQTT",), 1883),
    (("KAFKA",), 9092),
    (("NATS",), 4222),
    (("LDAP",), 389),
    (("DB", "DATABASE"), 0),
)
_HOST_NAME: Final = re.compile(
    r"(?P<stem>.*?)_?(?:HOST|HOSTS|HOSTNAME|SERVER|ADDRESS|ADDR|ENDPOINT|BROKER)", re.IGNORECASE
)
_URL: Final = re.compile(r"(?<![A-Za-z0-9])(?:jdbc:)?([A-Za-z][A-Za-z0-9]*)(?:\+[A-Za-z0-9]+)?://([^\s/?#]+)")
_HOST_PORT: Final = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
_WEB: Final = (facts.HTTP, facts.HTTPS)


class Destination(NamedTuple):
    """One server outside: `to` as a rule has it, `port` 0 where nothing says it; and which variable names it."""

    to: str
    protocol: str
    port: int
    variable: str


def check(document: Document, stack: Stack, loc: Loc) -> None:
    """Warn of what the environment names and the firewall refuses; `loc` is the stack's place in the spec."""
    if stack.no_egress:
        images = [s.image for s in stack.services if image_reference.is_pulled(s.image)]
        if images:
            document.report(
                messages.EGRESS_NONE, (*loc, "egress"), on_key=True, images=", ".join(dict.fromkeys(images))
            )
        return
    refused = missing(stack)
    if refused:
        document.report(messages.EGRESS_MISSING, (*loc, "name"), found=_in_words(refused), rules=_as_rules(refused))


def missing(stack: Stack) -> tuple[Destination, ...]:
    """What the environment of a stack names and no rule of `egress` opens, each once."""
    return tuple(dict.fromkeys(one for one in _destinations(stack) if not _is_open(one, stack.egress)))


def _in_words(refused: tuple[Destination, ...]) -> str:
    named: dict[str, list[str]] = {}
    for one in refused:
        host = f"[{one.to}]" if ":" in one.to else one.to
        named.setdefault(f"{host}:{one.port}" if one.port else host, []).append(one.variable)
    return ", ".join(f"{where} ({', '.join(dict.fromkeys(names))})" for where, names in named.items())


def _as_rules(refused: tuple[Destination, ...]) -> str:
    return ", ".join(
        f"{{to: {_quoted(rule.to)}{', protocol: udp' * (rule.protocol == 'udp')}{_ports(rule.ports)}}}"
        for rule in rules_for(refused)
    )


def rules_for(refused: tuple[Destination, ...]) -> tuple[EgressRule, ...]:
    """The rules that open these; one whose port nobody knows opens all ports of its host."""
    ports: dict[tuple[str, str], set[int]] = {}
    for one in refused:
        ports.setdefault((one.to, one.protocol), set()).add(one.port)
    return tuple(
        EgressRule(to, "udp" if protocol == "udp" else "tcp", () if 0 in numbers else tuple(sorted(numbers)))
        for (to, protocol), numbers in ports.items()
    )


def _quoted(to: str) -> str:
    return f'"{to}"' if ":" in to else to


def _ports(numbers: tuple[int, ...]) -> str:
    return f", ports: [{', '.join(map(str, numbers))}]" if numbers else ""


def _is_open(one: Destination, opened: tuple[EgressRule, ...]) -> bool:
    """Whether a rule opens it, or may: a network, for a name whose address only the server finds out."""
    if one.protocol == "tcp" and one.port in _WEB:
        return True
    return any(
        rule.protocol == one.protocol and (not rule.ports or one.port in rule.ports) and _covers(rule, one.to)
        for rule in opened
    )


def _covers(rule: EgressRule, to: str) -> bool:
    if rule.by_name or not _is_address(to):
        return rule.to == to or (not rule.by_name and not _is_address(to))
    inner, outer = ipaddress.ip_address(to), ipaddress.ip_network(rule.to)
    return inner in outer


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _destinations(stack: Stack) -> Iterator[Destination]:
    inside = {name.lower() for service in stack.services for name in _names(service)}
    for service in stack.services:
        extra = dict(service.extra_hosts)
        for one in _of_service(service):
            to = _outside(extra.get(one.to, one.to), inside)
            if to is not None:
                yield one._replace(to=to)


def _names(service: Service) -> Iterator[str]:
    """What other services of the stack call it."""
    yield service.name
    yield from (alias for attachment in service.networks for alias in attachment.aliases)
    if service.hostname:
        yield service.hostname


def _outside(host: str, inside: set[str]) -> str | None:
    """A host as a rule of `egress` names it; None for one of the stack's own, and for what no rule can open."""
    if host.lower() in inside:
        return None
    try:
        return rules.egress(host).removesuffix("/32").removesuffix("/128")
    except RuleError:
        return None


def _of_service(service: Service) -> Iterator[Destination]:
    built = ((secret.variable, secret.built or "") for secret in service.env_secrets)
    values = dict((*service.environment, *built))
    for name, value in values.items():
        if "://" in value:
            yield from _in_urls(name, value)
        else:
            yield from _in_host(name, value, values)


def _in_urls(name: str, value: str) -> Iterator[Destination]:
    for scheme, authority in _URL.findall(value):
        usual = _SCHEMES.get(scheme.lower())
        protocol = "udp" if scheme.lower() == "udp" else "tcp"
        for place in authority.rpartition("@")[2].split(",") if usual is not None else ():
            host, port = _host_and_port(place)
            if host and (port or usual):
                yield Destination(host, protocol, port or usual or 0, name)


def _host_and_port(text: str) -> tuple[str, int]:
    """A host, empty where it is none, and its port or 0."""
    found = _HOST_PORT.fullmatch(text)
    return (found["six"] or found["host"], int(found["port"] or 0)) if found else ("", 0)


def _in_host(name: str, value: str, values: Mapping[str, str]) -> Iterator[Destination]:
    """A variable such as SMTP_HOST, with its port in the value, in SMTP_PORT, or the usual one."""
    found = _HOST_NAME.fullmatch(name.upper())
    usual = _usual_port(found["stem"]) if found else None
    if found is None or usual is None:
        return
    beside = next((values[key] for key in _port_names(found["stem"]) if key in values), "")
    for place in value.split(","):
        host, port = _host_and_port(place.strip())
        if host:
            yield Destination(host, "tcp", port or (int(beside) if beside.isdecimal() else usual), name)


def _port_names(stem: str) -> tuple[str, ...]:
    return tuple(name for one in (f"{stem}_PORT", f"{stem}PORT") for name in (one, one.lower()))


def _usual_port(stem: str) -> int | None:
    """None for a name that says nothing of what its host is."""
    words = set(re.split(r"[^A-Z0-9]+", stem.upper()))
    return next((port for kinds, port in _KINDS if words & set(kinds)), None)
