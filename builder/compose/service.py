"""How the process of a service runs: command, user, rights."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from builder.compose import messages
from builder.compose.node import attempt
from builder.compose.values import argv, each, integer, pairs, plain, spelled, text
from builder.quadlet import UNFIT

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node

__all__ = ["argv"]

_CAPABILITIES: Final = frozenset(
    {"AUDIT_CONTROL", "AUDIT_READ", "AUDIT_WRITE", "BLOCK_SUSPEND", "BPF", "CHECKPOINT_RESTORE", "CHOWN"}
    | {"DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_LOCK", "IPC_OWNER", "KILL", "LEASE"}
    | {"LINUX_IMMUTABLE", "MAC_ADMIN", "MAC_OVERRIDE", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE"}
    | {"NET_BROADCAST", "NET_RAW", "PERFMON", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYSLOG", "SYS_ADMIN"}
    | {"SYS_BOOT", "SYS_CHROOT", "SYS_MODULE", "SYS_NICE", "SYS_PACCT", "SYS_PTRACE", "SYS_RAWIO"}
    | {"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "WAKE_ALARM"}
)
_SYSCTL: Final = re.compile(r"(net\.|fs\.mqueue\.|kernel\.(shm|msg|sem))[A-Za-z0-9_./-]*")
# The hard limits that systemd gives to user services; a container without rights cannot go above them.
_HIGHEST_ULIMITS: Final = {"nofile": 524_288, "memlock": 8 * 1024 * 1024}


def command(node: Node) -> tuple[str, ...]:
    """A command. An empty one would have to empty the image's, which Podman cannot do alone."""
    words = argv(node)
    if not words:
        raise node.wrong(messages.COMMAND_EMPTY)
    return words


def plains(node: Node) -> tuple[str, ...]:
    """A list of single words."""
    return each(plain, node)


def absolute(node: Node) -> str:
    """A path inside the container."""
    path = text(node)
    if not path.startswith("/"):
        raise node.wrong(messages.PATH_ABSOLUTE, path=path)
    return path


def hostname(node: Node) -> str:
    """A host name."""
    name = text(node)
    if len(name) > 64 or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise node.wrong(messages.HOSTNAME, name=name)
    return name


def cap_add(node: Node) -> tuple[str, ...]:
    """Capabilities to keep of those that hardening drops."""
    return each(_added, node)


def cap_drop(node: Node) -> tuple[str, ...]:
    """Capabilities to drop; ALL is what hardening does anyway."""
    return each(_capability, node)


def _added(node: Node) -> str:
    name = _capability(node)
    if name == "ALL":
        raise node.wrong(messages.CAPABILITY_ALL)
    return name


def _capability(node: Node) -> str:
    name = plain(node).upper().removeprefix("CAP_")
    if name != "ALL" and name not in _CAPABILITIES:
        raise node.wrong(messages.CAPABILITY, name=name)
    return name


def sysctls(node: Node) -> tuple[tuple[str, str], ...]:
    """Kernel settings of the container's own namespaces."""
    found = {}
    for name, value, place in pairs(node):
        if not _SYSCTL.fullmatch(name):
            place.put(messages.SYSCTL, name=name)
        elif value is None or re.search(r"[\"'\\\x00-\x1f\x7f]|^$", spelled(value)) or UNFIT.search(spelled(value)):
            place.put(messages.WANTS_TEXT)
        else:
            found[name] = spelled(value).strip()
    return tuple(found.items())


def ulimits(node: Node) -> tuple[tuple[str, str], ...]:
    """Limits of the process: one number, or soft and hard."""
    if not node.is_map:
        raise node.wrong(messages.WANTS_MAPPING)
    found = ((name, attempt(partial(_ulimit, name), child, None)) for name, child in node.items())
    return tuple((name, value) for name, value in found if value is not None)


def _ulimit(name: str, node: Node) -> str:
    if not re.fullmatch(r"[a-z]+", name):
        raise node.wrong(messages.ULIMIT_NAME, name=name)
    soft, hard = node.get("soft"), node.get("hard")
    if node.is_map and (soft is None or hard is None):
        raise node.wrong(messages.ULIMIT_FORM)
    values = [integer(node)] if soft is None or hard is None else [integer(soft), integer(hard)]
    highest = _HIGHEST_ULIMITS.get(name)
    if highest is not None and (max(values) > highest or min(values) < 0):
        raise node.wrong(messages.ULIMIT_HIGH, name=name, highest=highest)
    return ":".join(map(str, values))


def security_opt(node: Node, draft: Draft) -> None:
    """Only what is the case anyway can be asked for."""
    for item in node.value if node.is_list else [node]:
        if re.fullmatch(r"no-new-privileges([:=]true)?", spelled(item)) is None:
            item.put(messages.SECURITY_OPT, name=draft.name)
