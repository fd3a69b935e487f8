"""Service values as entries of [Container]: a row for each that is one key, or in a Podman without it an argument."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from builder.quadlet.unit_file import fits_line, line, word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.quadlet.podman import Podman
    from builder.quadlet.unit_file import Entry
    from builder.stack.model import Service


def container_options(service: Service, podman: Podman) -> Iterator[Entry]:
    """The entries of every row of the table below, then sysctls, labels and annotations."""
    for row in _ROWS:
        for value in row.values(getattr(service, row.field)):
            yield option(podman, row.key, row.flag, value)
    for key, value in _sysctls(service):
        yield "Sysctl", _quoted(f"{key}={value}")
    for key, value in service.labels:
        yield "Label", word(f"{key}={value}")
    for key, value in service.annotations:
        yield "Annotation", word(f"{key}={value}")


def option(podman: Podman, key: str, flag: str, value: str) -> Entry:
    """An entry with Quadlet's own key, or PodmanArgs= where this Podman lacks the key or it cannot hold the value."""
    if key in podman.container and key not in podman.once and fits_line(value):
        return key, line(value)
    return "PodmanArgs", word(f"{flag}={value}")


def _sysctls(service: Service) -> Iterator[tuple[str, str]]:
    """The user's sysctls, and one that Docker sets too: images listen on port 80 without a capability for it."""
    low_ports = "net.ipv4.ip_unprivileged_port_start"
    if service.network_mode.partition(":")[0] != "service" and low_ports not in dict(service.sysctls):
        yield low_ports, "0"
    yield from service.sysctls


def _quoted(text: str) -> str:
    """Sysctl= is split at blanks and knows quotes but no escapes; its values are checked to hold neither."""
    return f'"{line(text)}"' if " " in text else line(text)


def _flag(value: bool) -> list[str]:
    return ["true"] if value else []


def _optional(value: str | None) -> list[str]:
    return [] if value is None else [value]


def _pairs(separator: str) -> Callable[[Iterable[tuple[str, str]]], list[str]]:
    return lambda pairs: [f"{key}{separator}{value}" for key, value in pairs]


def _user(value: str | None) -> list[str]:
    return [] if value is None else [value.partition(":")[0]]


def _group(value: str | None) -> list[str]:
    return [] if value is None or ":" not in value else [value.partition(":")[2]]


def _entrypoint(value: tuple[str, ...] | None) -> list[str]:
    return [] if value is None else ["" if not value else json.dumps(value, ensure_ascii=False)]


def _whole(value: float | None) -> list[str]:
    return [] if value is None else [f"{max(round(value), 1) if value else 0}"]


@dataclass(frozen=True)
class Row:
    """A field of Service, its key in [Container], the same option of `podman run`, and how it becomes text."""

    field: str
    key: str
    flag: str
    values: Callable[[Any], list[str]]


_ROWS: Final = (
    Row("entrypoint", "Entrypoint", "--entrypoint", _entrypoint),
    Row("user", "User", "--user", _user),
    Row("user", "Group", "--group", _group),
    Row("group_add", "GroupAdd", "--group-add", list),
    Row("working_dir", "WorkingDir", "--workdir", _optional),
    Row("hostname", "HostName", "--hostname", _optional),
    Row("extra_hosts", "AddHost", "--add-host", _pairs(":")),
    Row("dns", "DNS", "--dns", list),
    Row("dns_search", "DNSSearch", "--dns-search", list),
    Row("dns_opt", "DNSOption", "--dns-option", list),
    Row("ulimits", "Ulimit", "--ulimit", _pairs("=")),
    Row("init", "RunInit", "--init", _flag),
    Row("stop_signal", "StopSignal", "--stop-signal", _optional),
    Row("stop_grace_period", "StopTimeout", "--stop-timeout", _whole),
    Row("platform", "Platform", "--platform", _optional),
    Row("tty", "Tty", "--tty", _flag),
    Row("stdin_open", "Interactive", "--interactive", _flag),
)
