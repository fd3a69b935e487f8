"""Parsers of a service's keys, in the order of the rows of keys.SERVICE that name them.

A parser takes the node of its key and gives the value of the field in stack.Service of that name; one that fills
several fields, or none, takes the Draft too. All raise NodeError for a value that cannot be used.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from builder import facts
from builder.compose import build_keys, messages
from builder.compose.node import Row, attempt, ignored, refused, stores, takes, walk
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
from builder.oci.known_images import LINUX_CAPABILITIES
from builder.problems import Report
from builder.stack.model import UNENCODABLE, Healthcheck, Limits

if TYPE_CHECKING:
    from builder.compose.draft import Draft
    from builder.compose.node import Node


def image(node: Node, draft: Draft) -> None:
    """The image, fully qualified, or oci-archive: and an absolute path. Of what is built it is but another name."""
    if build_keys.is_built(draft.node):
        return
    base_dir = node.document.directory
    own = Report()
    normalised = image_reference.normalise(text(node), base_dir, node.where, node.mark(), own)
    for problem in own:
        draft.project.report.share(node.explained(problem), (problem.message, node.mark()), draft.name)
    if normalised is not None:
        draft.set("image", normalised, node)


def command(node: Node) -> tuple[str, ...]:
    """A command. An empty one would have to empty the image's, which Podman cannot do alone."""
    arguments = argv(node)
    if not arguments:
        raise node.error(messages.COMMAND_EMPTY)
    return arguments


def user(node: Node, draft: Draft) -> None:
    """A user, and perhaps a group. An empty part is absent, as it is when a variable of `$UID:$GID` is not set."""
    name, _, group = plain(node).partition(":")
    if name or group:
        draft.set("user", f"{name or 0}:{group}" if group else name, node)


def hostname(node: Node) -> str:
    """A host name."""
    name = text(node)
    if len(name) > 64 or not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        raise node.error(messages.HOSTNAME, name=name)
    return name


def working_dir(node: Node) -> str:
    """A path inside the container, absolute."""
    path = text(node)
    if not path.startswith("/"):
        raise node.error(messages.PATH_ABSOLUTE, path=path)
    return path


def cap_add(node: Node) -> tuple[str, ...]:
    """Capabilities beside those that its hardening leaves."""
    return each(_capability_to_add, node)


def _capability_to_add(node: Node) -> str:
    name = _capability(node)
    if name == "ALL":
        raise node.error(messages.CAPABILITY_ALL)
    return name


def cap_drop(node: Node) -> tuple[str, ...]:
    """Capabilities to drop of those that its hardening leaves; ALL leaves those of cap_add alone."""
    return each(_capability, node)


def _capability(node: Node) -> str:
    name = plain(node).upper().removeprefix("CAP_")
    if name != "ALL" and name not in LINUX_CAPABILITIES:
        raise node.error(messages.CAPABILITY, name=name)
    return name


def words(node: Node) -> tuple[str, ...]:
    """A list of single words."""
    return each(plain, node)


_SYSCTL: Final = re.compile(r"(net\.|fs\.mqueue\.|kernel\.(shm|msg|sem))[A-Za-z0-9_./-]*")


def sysctls(node: Node) -> tuple[tuple[str, str], ...]:
    """Kernel settings of the container's own namespaces, as (name, value)."""
    found = {}
    for name, value, place in pairs(node):
        if not _SYSCTL.fullmatch(name):
            place.report(messages.SYSCTL, name=name)
        elif (
            value is None or re.search(r"[\"'\\\x00-\x1f\x7f]|^$", spelled(value)) or UNENCODABLE.search(spelled(value))
        ):
            place.report(messages.WANTS_TEXT)
        else:
            found[name] = spelled(value).strip()
    return tuple(found.items())


# The hard limits that systemd gives to user services; a container without rights cannot go above them.
_HIGHEST_ULIMITS: Final = {"nofile": 524_288, "memlock": 8 * 1024 * 1024}


def ulimits(node: Node) -> tuple[tuple[str, str], ...]:
    """Limits of the process, as (name, `number` or `soft:hard`)."""
    if not node.is_map:
        raise node.error(messages.WANTS_MAPPING)
    found = ((name, attempt(partial(_ulimit, name), child, None)) for name, child in node.items())
    return tuple((name, value) for name, value in found if value is not None)


def _ulimit(name: str, node: Node) -> str:
    if not re.fullmatch(r"[a-z]+", name):
        raise node.error(messages.ULIMIT_NAME, name=name)
    soft, hard = node.get("soft"), node.get("hard")
    if node.is_map and (soft is None or hard is None):
        raise node.error(messages.ULIMIT_FORM)
    values = [integer(node)] if soft is None or hard is None else [integer(soft), integer(hard)]
    highest = _HIGHEST_ULIMITS.get(name)
    if highest is not None and (max(values) > highest or min(values) < 0):
        node.report(messages.ULIMIT_HIGH, name=name, highest=highest)
        values = [min(value, highest) if value >= 0 else highest for value in values]
    return ":".join(map(str, values))


def security_opt(node: Node, draft: Draft) -> None:
    """Nothing but no-new-privileges, which every container has, can be asked for; the rest is left out."""
    for item in node.value if node.is_list else [node]:
        if re.fullmatch(r"no-new-privileges([:=]true)?", spelled(item)) is None:
            item.report(messages.SECURITY_OPT, service=draft.name)


def platform(node: Node) -> str:
    """A platform the host could be."""
    name = plain(node)
    if not re.fullmatch(r"linux(/(amd64|x86_64|arm64|aarch64)(/v8)?)?", name):
        raise node.error(messages.PLATFORM, name=name)
    return name


def pull_policy(node: Node, draft: Draft) -> None:
    """When the image is pulled, in the words of Podman's Pull=; one that is built here never is."""
    built = build_keys.is_built(draft.node)
    if built and node.value == "build":
        return
    policy = _pull_policy(node)
    if not built:
        draft.set("pull", policy, node)


def _pull_policy(node: Node) -> Literal["always", "missing", "never"]:
    name = plain(node)
    if re.fullmatch(r"daily|weekly|every_[0-9]+[wdhms]([0-9]+[wdhms])*", name):
        node.report(messages.PULL_EVERY, name=name)
        return "always"
    match name:
        case "always" | "missing" | "never":
            return name
        case "if_not_present":
            return "missing"
        case "build":
            raise node.error(messages.PULL_BUILD)
        case _:
            raise node.error(messages.PULL, name=name)


def restart(node: Node, draft: Draft) -> None:
    """`no`, `always`, `unless-stopped`, `on-failure`, `on-failure:3`. A plain `no` may come as false."""
    policy = "no" if node.value is False else plain(node)
    found = re.fullmatch(r"(no|always|unless-stopped|on-failure)(?::([0-9]+))?", policy)
    if found is None or (found[2] and found[1] != "on-failure"):
        raise node.error(messages.RESTART, policy=policy)
    draft.set("restart", found[1], node)
    if found[2]:
        draft.set("restart_attempts", int(found[2]), node)


def mem_limit(node: Node, draft: Draft) -> None:
    """The most memory, in bytes; 0 is no limit."""
    value = size(node)
    if 0 < value < facts.MIN_MEMORY:
        node.report(messages.MEMORY_LOW, least=facts.MIN_MEMORY // 2**20)
    _set_limit(draft, node, memory=max(value, facts.MIN_MEMORY) if value else None)


def mem_reservation(node: Node, draft: Draft) -> None:
    """The memory that is left to it, in bytes; 0 is none."""
    _set_limit(draft, node, reserved=size(node) or None)


def memswap_limit(node: Node, draft: Draft) -> None:
    """Memory and swap together, in bytes; -1 and 0 set no limit. Finish takes the memory off."""
    total = 0 if spelled(node) == "-1" else size(node)
    if total:
        draft.set("memory_and_swap", total, node)


def cpus(node: Node, draft: Draft) -> None:
    """The most cores, as a fraction."""
    _set_limit(draft, node, cpus=decimal(node) or None)


def pids_limit(node: Node, draft: Draft) -> None:
    """The most processes and threads."""
    value = integer(node)
    if 0 < value < facts.MIN_PIDS:
        node.report(messages.PIDS_LOW, least=facts.MIN_PIDS)
    _set_limit(draft, node, pids=max(value, facts.MIN_PIDS) if value > 0 else None)


def _set_limit(draft: Draft, node: Node, **values: Any) -> None:
    draft.set("limits", replace(draft.fields.get("limits", Limits()), **values), node)


def scale(node: Node, draft: Draft) -> None:
    """One container of each service runs; load has left out services that have none."""
    number = integer(node)
    if number > 1:
        node.report(messages.REPLICAS, service=draft.name, number=number)


def deploy(node: Node, draft: Draft) -> None:
    """The `deploy` mapping: of it limits and the restart policy count, which win over the service's own keys."""
    walk(node, _DEPLOY, draft)


def _check_mode(node: Node, draft: Draft) -> None:
    if plain(node) not in ("replicated", "global"):
        raise node.error(messages.DEPLOY_MODE, service=draft.name)


def _resources(node: Node, draft: Draft) -> None:
    walk(node, _RESOURCES, draft)


def _reservations(node: Node, draft: Draft) -> None:
    walk(node, _RESERVATIONS, draft)


def _limits(node: Node, draft: Draft) -> None:
    walk(node, _LIMITS, draft)


def _restart_policy(node: Node, draft: Draft) -> None:
    """Swarm's way to say `restart`; it wins over it, as in Compose."""
    if not node.is_map:
        raise node.error(messages.WANTS_MAPPING)
    walk(node, _RESTART, draft)
    draft.fields.setdefault("restart", "always")


def _condition(node: Node, draft: Draft) -> None:
    name = "no" if node.value is False else plain(node)
    policy = {"none": "no", "any": "always"}.get(name, name)
    if policy not in ("no", "on-failure", "always", "unless-stopped"):
        raise node.error(messages.RESTART_CONDITION, name=name)
    draft.set("restart", policy, node)


def _attempts(node: Node, draft: Draft) -> None:
    draft.set("restart_attempts", integer(node), node)


def _order(node: Node, draft: Draft) -> None:
    """Whether a change may start a second container beside the one that serves."""
    if (order := plain(node)) not in ("start-first", "stop-first"):
        raise node.error(messages.UPDATE_ORDER, name=order)
    draft.set("stop_first", order == "stop-first", node)


def _check_pause(node: Node, draft: Draft) -> None:
    if attempt(duration, node, None) is not None:
        node.report(messages.RESTART_PAUSE, service=draft.name)


NO_DEVICES: Final = "containers of a stack get no devices of the host"
DEVICE_HINT: Final = "use a service that needs none, or run this one on a host of its own"
_LIMITS: Final[dict[str, Row[Draft]]] = {
    "memory": takes(mem_limit),
    "cpus": takes(cpus),
    "pids": takes(pids_limit),
}
_RESERVATIONS: Final[dict[str, Row[Draft]]] = {
    "memory": takes(mem_reservation),
    "cpus": ignored("left out: of processors nothing is set aside, each stack gets as much as another"),
    "generic_resources": ignored("left out: a container has processors and memory, nothing else is counted"),
    "devices": refused(NO_DEVICES, DEVICE_HINT),
}
_RESOURCES: Final[dict[str, Row[Draft]]] = {
    "limits": takes(_limits),
    "reservations": takes(_reservations),
}
_RESTART: Final[dict[str, Row[Draft]]] = {
    "condition": takes(_condition),
    "max_attempts": takes(_attempts),
    "delay": takes(_check_pause),
    "window": takes(_check_pause),
}
_NO_SWARM: Final = "left out: it is for Swarm, this host runs one container of each service"
_UPDATE: Final[dict[str, Row[Draft]]] = {
    "order": takes(_order),
    **dict.fromkeys(("parallelism", "delay", "failure_action", "monitor", "max_failure_ratio"), ignored(_NO_SWARM)),
}
_DEPLOY: Final[dict[str, Row[Draft]]] = {
    "resources": takes(_resources),
    "restart_policy": takes(_restart_policy),
    "replicas": takes(scale),
    "mode": takes(_check_mode),
    "labels": ignored(
        "left out: these are labels of a Swarm service",
        "labels of the container go under `labels` of the service",
    ),
    "update_config": takes(lambda node, draft: walk(node, _UPDATE, draft)),
    "rollback_config": ignored(_NO_SWARM),
    "placement": ignored(_NO_SWARM),
    "endpoint_mode": refused("there is no Swarm network here", "remove it", unless=("vip", "dnsrr")),
}


def healthcheck(node: Node) -> Healthcheck:
    """The health check; what it leaves out is the image's."""
    values: dict[str, Any] = {"test": ()}
    walk(node, _HEALTHCHECK, values)
    return Healthcheck(**values)


def _test(node: Node, values: dict[str, Any]) -> None:
    """A line for the shell, or a list that begins with how to run it."""
    if not node.is_list:
        values |= _shell(content(node))
        return
    match each(content, node):
        case ("NONE",):
            values["disable"] = True
        case ("CMD-SHELL", line, _, *_):
            # Docker gives all of them to the shell, and so do we; what is run is the first.
            node.report(messages.HEALTH_WORDS, line=line)
            values["test"] = ("/bin/sh", "-c", *each(content, node)[1:])
        case ("CMD", *rest) if rest and all(rest[:1]):
            values["test"] = tuple(rest)
        case ("CMD-SHELL", line):
            values |= _shell(line)
        case _:
            raise node.error(messages.HEALTH_TEST)


def _shell(line: str) -> dict[str, Any]:
    return {"test": (line,), "shell": True}


def _retries(node: Node) -> int:
    number = integer(node)
    if number < 1:
        raise node.error(messages.HEALTH_RETRIES)
    return number


_HEALTHCHECK: Final[dict[str, Row[dict[str, Any]]]] = {
    "test": takes(_test),
    "disable": stores("disable", boolean),
    "interval": stores("interval", duration),
    "timeout": stores("timeout", duration),
    "retries": stores("retries", _retries),
    "start_period": stores("start_period", duration),
    "start_interval": stores("start_interval", duration),
}
