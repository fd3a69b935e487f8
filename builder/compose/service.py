"""How the process of a service runs: command, user, rights."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import facts
from builder.compose import messages
from builder.compose.node import attempt
from builder.compose.table import Row, ignored, refused, takes, walk
from builder.compose.values import (
    argv,
    boolean,
    content,
    decimal,
    duration,
    each,
    integer,
    pairs,
    plain,
    size,
    spelled,
    text,
)
from builder.oci import image_reference
from builder.stack.model import UNFIT, Healthcheck, Limits

if TYPE_CHECKING:
    from collections.abc import Callable

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


def image(node: Node, draft: Draft) -> None:
    """The image, fully qualified."""
    base = node.document.source.path.parent
    image = image_reference.normalise(text(node), base, node.where, node.mark(), draft.project.report)
    if image is not None:
        draft.set("image", image, node)


def platform(node: Node) -> str:
    """A platform the host could be."""
    name = plain(node)
    if not re.fullmatch(r"linux(/(amd64|x86_64|arm64|aarch64)(/v8)?)?", name):
        raise node.wrong(messages.PLATFORM, name=name)
    return name


def pull_policy(node: Node) -> Literal["always", "missing", "never"]:
    """When the image is pulled."""
    name = plain(node)
    if re.fullmatch(r"daily|weekly|every_[0-9]+[wdhms]([0-9]+[wdhms])*", name):
        node.put(messages.PULL_EVERY, name=name)
        return "always"
    match name:
        case "always" | "missing" | "never":
            return name
        case "if_not_present":
            return "missing"
        case "build":
            raise node.wrong(messages.PULL_BUILD)
        case _:
            raise node.wrong(messages.PULL, name=name)


def restart(node: Node, draft: Draft) -> None:
    """`no`, `always`, `unless-stopped`, `on-failure`, `on-failure:3`. A plain `no` may come as false."""
    policy = "no" if node.value is False else plain(node)
    found = re.fullmatch(r"(no|always|unless-stopped|on-failure)(?::([0-9]+))?", policy)
    if found is None or (found[2] and found[1] != "on-failure"):
        raise node.wrong(messages.RESTART, policy=policy)
    draft.set("restart", found[1], node)
    if found[2]:
        draft.set("restart_attempts", int(found[2]), node)


@dataclass
class _Check:
    values: dict[str, Any] = field(default_factory=dict)


def healthcheck(node: Node) -> Healthcheck:
    """The health check; what it leaves out is the image's."""
    check = _Check()
    walk(node, _KEYS, check)
    return Healthcheck(**{"test": (), **check.values})


def _sets(name: str, parse: Callable[[Node], Any]) -> Row[_Check]:
    def put(node: Node, check: _Check) -> None:
        check.values[name] = parse(node)

    return takes(put)


def _test(node: Node, check: _Check) -> None:
    """A line for the shell, or a list that begins with how to run it."""
    if not node.is_list:
        check.values |= _shell(content(node))
        return
    words = each(content, node)
    match words:
        case ("NONE",):
            check.values["disable"] = True
        case ("CMD", *rest) if rest and all(rest[:1]):
            check.values["test"] = tuple(rest)
        case ("CMD-SHELL", line):
            check.values |= _shell(line)
        case _:
            raise node.wrong(messages.HEALTH_TEST)


def _shell(line: str) -> dict[str, Any]:
    return {"test": (line,), "shell": True}


def _retries(node: Node) -> int:
    number = integer(node)
    if number < 1:
        raise node.wrong(messages.HEALTH_RETRIES)
    return number


_KEYS: Final[dict[str, Row[_Check]]] = {
    "test": takes(_test),
    "disable": _sets("disable", boolean),
    "interval": _sets("interval", duration),
    "timeout": _sets("timeout", duration),
    "retries": _sets("retries", _retries),
    "start_period": _sets("start_period", duration),
    "start_interval": _sets("start_interval", duration),
}


_NO_SWARM: Final = "left out: it is for Swarm, this host runs one container of each service"


def deploy(node: Node, draft: Draft) -> None:
    """The `deploy` mapping."""
    walk(node, _DEPLOY, draft)


def memory(node: Node, draft: Draft) -> None:
    """The most memory; 0 is no limit to Compose, and the default here."""
    value = size(node)
    if 0 < value < facts.MIN_MEMORY:
        node.put(messages.MEMORY_LOW, least=facts.MIN_MEMORY // 2**20)
    _set(draft, node, memory=max(value, facts.MIN_MEMORY) if value else None)


def cpus(node: Node, draft: Draft) -> None:
    """The most cores, as a fraction."""
    _set(draft, node, cpus=decimal(node) or None)


def pids(node: Node, draft: Draft) -> None:
    """The most processes and threads."""
    value = integer(node)
    if 0 < value < facts.MIN_PIDS:
        node.put(messages.PIDS_LOW, least=facts.MIN_PIDS)
    _set(draft, node, pids=max(value, facts.MIN_PIDS) if value > 0 else None)


def scale(node: Node, draft: Draft) -> None:
    """The number of containers: one."""
    if integer(node) != 1:
        raise node.wrong(messages.REPLICAS, name=draft.name)


def _set(draft: Draft, node: Node, **values: Any) -> None:
    draft.set("limits", replace(draft.fields.get("limits", Limits()), **values), node)


def _resources(node: Node, draft: Draft) -> None:
    walk(node, _RESOURCES, draft)


def _limits(node: Node, draft: Draft) -> None:
    walk(node, _LIMITS, draft)


def _mode(node: Node, draft: Draft) -> None:
    if plain(node) not in ("replicated", "global"):
        raise node.wrong(messages.DEPLOY_MODE, name=draft.name)


def _restart_policy(node: Node, draft: Draft) -> None:
    """Swarm's way to say `restart`; it wins over it, as in Compose."""
    if not node.is_map:
        raise node.wrong(messages.WANTS_MAPPING)
    walk(node, _RESTART, draft)
    draft.fields.setdefault("restart", "always")


def _condition(node: Node, draft: Draft) -> None:
    policies = {"none": "no", "on-failure": "on-failure", "any": "always"}
    name = plain(node)
    if name not in policies:
        raise node.wrong(messages.RESTART_CONDITION, name=name)
    draft.set("restart", policies[name], node)


def _attempts(node: Node, draft: Draft) -> None:
    draft.set("restart_attempts", integer(node), node)


def _pause(node: Node, draft: Draft) -> None:
    if attempt(duration, node, None) is not None:
        node.put(messages.RESTART_PAUSE, name=draft.name)


_LIMITS: Final[dict[str, Row[Draft]]] = {
    "memory": takes(memory),
    "cpus": takes(cpus),
    "pids": takes(pids),
}
_RESOURCES: Final[dict[str, Row[Draft]]] = {
    "limits": takes(_limits),
    "reservations": ignored("nothing is set aside for a service: only its limits count"),
}
_RESTART: Final[dict[str, Row[Draft]]] = {
    "condition": takes(_condition),
    "max_attempts": takes(_attempts),
    "delay": takes(_pause),
    "window": takes(_pause),
}
_DEPLOY: Final[dict[str, Row[Draft]]] = {
    "resources": takes(_resources),
    "restart_policy": takes(_restart_policy),
    "replicas": takes(scale),
    "mode": takes(_mode),
    "labels": ignored(
        "left out: these are labels of a Swarm service",
        "labels of the container go under `labels` of the service",
    ),
    "update_config": ignored(_NO_SWARM),
    "rollback_config": ignored(_NO_SWARM),
    "placement": ignored(_NO_SWARM),
    "endpoint_mode": refused("there is no Swarm network here", "remove it", unless=("vip", "dnsrr")),
}
