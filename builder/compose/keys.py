"""The tables of keys: a row for each key of the Compose specification, of services (SERVICE) and of files (TOP_LEVEL).

load walks the top level first, which only notes what is declared, then each service, by the parsers of service_fields,
environment, labels, networking, depends_on and volumes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from builder.compose import (
    build_keys,
    depends_on,
    environment,
    host_paths,
    labels,
    messages,
    networking,
    ports,
    service_fields,
    volumes,
)
from builder.compose.node import Row, ignored, no_effect, refused, takes, walk
from builder.compose.values import argv, boolean, duration, mapping, plain, size
from builder.messages import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.compose.draft import Draft, Project
    from builder.compose.node import Node


def field(name: str, parse: Callable[[Node], Any], *, empty: bool = False) -> Row[Draft]:
    """A key that sets one field of the service; `empty`: an empty text is a value, too."""

    def set_field(node: Node, draft: Draft) -> None:
        draft.set(name, parse(node), node)

    return takes(set_field, empty=empty)


_NAMESPACE_HINT: Final = "remove it; services of a stack talk over their private network"
_IO: Final = "left out: of disks no share is set, the host hands out memory, CPU and pids to its stacks"
_TUNING: Final = "left out: fine tuning; `cpus` and `mem_limit` are what limits a service here"

SERVICE: Final[Mapping[str, Row[Draft]]] = {
    "image": takes(service_fields.image),
    "command": field("command", service_fields.command, empty=True),
    "entrypoint": field("entrypoint", argv, empty=True),
    "environment": takes(environment.environment),
    "env_file": takes(environment.env_file),
    "labels": takes(labels.labels),
    "annotations": field("annotations", mapping),
    "container_name": takes(networking.container_name),
    "hostname": field("hostname", service_fields.hostname),
    "user": takes(service_fields.user),
    "working_dir": field("working_dir", service_fields.working_dir),
    "init": field("init", boolean),
    "tty": field("tty", boolean),
    "stdin_open": field("stdin_open", boolean),
    "read_only": field("read_only", boolean),
    "stop_signal": field("stop_signal", plain),
    "stop_grace_period": field("stop_grace_period", duration),
    "shm_size": field("shm_size", size),
    "cap_add": field("cap_add", service_fields.cap_add),
    "cap_drop": field("cap_drop", service_fields.cap_drop),
    "group_add": field("group_add", service_fields.words),
    "sysctls": field("sysctls", service_fields.sysctls),
    "ulimits": field("ulimits", service_fields.ulimits),
    "security_opt": takes(service_fields.security_opt),
    "platform": field("platform", service_fields.platform),
    "pull_policy": takes(service_fields.pull_policy),
    "restart": takes(service_fields.restart),
    "mem_limit": takes(service_fields.mem_limit),
    "mem_reservation": takes(service_fields.mem_reservation),
    "memswap_limit": takes(service_fields.memswap_limit),
    "cpus": takes(service_fields.cpus),
    "pids_limit": takes(service_fields.pids_limit),
    "scale": takes(service_fields.scale),
    "deploy": takes(service_fields.deploy),
    "healthcheck": field("healthcheck", service_fields.healthcheck),
    "depends_on": takes(depends_on.depends_on),
    "links": takes(depends_on.links),
    "volumes": takes(volumes.volumes),
    "tmpfs": takes(volumes.tmpfs),
    "secrets": takes(volumes.secrets),
    "configs": takes(volumes.configs),
    "networks": takes(networking.networks),
    "network_mode": takes(networking.network_mode),
    "ports": takes(ports.ports),
    "dns": field("dns", networking.addresses),
    "dns_search": field("dns_search", service_fields.words),
    "dns_opt": field("dns_opt", service_fields.words),
    "extra_hosts": field("extra_hosts", networking.extra_hosts),
    "profiles": no_effect(),  # load looks at it before a service is read
    "extends": no_effect(),  # load merges it before a service is read
    "expose": takes(ports.expose),
    "attach": no_effect(),
    "develop": no_effect(),
    "build": takes(build_keys.build),
    "privileged": refused(
        "a privileged container is the host, and no stack is",
        "name the capabilities it needs in cap_add",
        unless=(False,),
    ),
    "devices": refused(service_fields.NO_DEVICES, service_fields.DEVICE_HINT),
    "device_cgroup_rules": refused(service_fields.NO_DEVICES, service_fields.DEVICE_HINT),
    "gpus": refused(service_fields.NO_DEVICES, service_fields.DEVICE_HINT),
    "credential_spec": refused("this is for Windows containers", "remove it"),
    "isolation": refused("this is for Windows containers", "remove it", unless=("default",)),
    "pid": refused("a service sees its own processes only", _NAMESPACE_HINT),
    "ipc": refused(
        "a service has its own shared memory only",
        "remove it; set shm_size when /dev/shm is too small",
        unless=("private", "shareable"),
    ),
    "uts": ignored("left out: a service has a host name of its own", "`hostname` sets the name"),
    "cgroup": refused("a service stays in its own control group", "remove it", unless=("private",)),
    "cgroup_parent": ignored("left out: control groups are made by systemd", "limits are set with `deploy`"),
    "userns_mode": refused(
        "each stack has user ids of its own already, and none of them is the host's", "remove it", unless=("host",)
    ),
    "runtime": refused("the host has one container runtime, crun", "remove it", unless=("runc", "crun")),
    "external_links": ignored(
        "left out: containers of other stacks are not reached by their name", "use their public domain"
    ),
    "volumes_from": takes(volumes.volumes_from),
    "label_file": refused("labels are read from the compose file only", "write them under `labels`"),
    "mac_address": ignored("left out: a container cannot choose its hardware address here"),
    "storage_opt": ignored("left out: containers share the disk of the host, without sizes"),
    "post_start": refused("no command is run beside a container's own", "do it in its entrypoint"),
    "pre_start": refused(
        "no command is run beside a container's own",
        "make it a service of its own that others wait for with condition: service_completed_successfully",
    ),
    "pre_stop": refused("no command is run beside a container's own", "handle the stop signal in the app"),
    "provider": refused("services are containers here", "run what it provides as a service of this file"),
    "models": refused("there is no model runner on the host", "run the model server as a service"),
    "use_api_socket": refused("no container gets the engine's socket: who holds it holds every container", "remove it"),
    "oom_kill_disable": ignored(
        "left out: a service over its memory limit has to end", "raise mem_limit", unless=(False,)
    ),
    "oom_score_adj": ignored("left out: a stack's user may not change who the kernel ends first"),
    "domainname": ignored("left out: write the whole name into `hostname`"),
    "logging": ignored("left out: output goes to the journal of the host, which limits its size"),
    "blkio_config": ignored(_IO),
    "cpu_count": ignored(_TUNING),
    "cpu_percent": ignored(_TUNING),
    "cpu_shares": ignored(_TUNING),
    "cpu_period": ignored(_TUNING),
    "cpu_quota": ignored(_TUNING, "write the share of a core into `cpus`"),
    "cpu_rt_period": ignored(_TUNING),
    "cpu_rt_runtime": ignored(_TUNING),
    "cpuset": ignored(_TUNING),
    "mem_swappiness": ignored(_TUNING),
    "pull_refresh_after": ignored("left out: images are pulled as pull_policy says"),
}


_OPTIONS_HINT: Final = "remove it; data lies on the server's own disk"


def _declares(kind: str, table: Mapping[str, Row[Project]]) -> Row[Project]:
    """Declarations of volumes and the like: each is kept under its name, and its keys are checked."""

    def declare(node: Node, project: Project) -> None:
        if not node.is_map:
            raise node.error(messages.WANTS_MAPPING)
        for name, child in node.items():
            if name.startswith("x-"):
                continue
            getattr(project, kind)[name] = child
            if child.value is not None:
                walk(child, table, project)

    return takes(declare)


def _services(node: Node, project: Project) -> None:
    if not node.is_map or not node.value:
        raise node.error(messages.NO_SERVICES)
    project.services.update((name, child) for name, child in node.items() if not name.startswith("x-"))


def _external_volume(node: Node, project: Project) -> None:  # noqa: ARG001 - the parsers of a table share a signature
    if node.is_map or boolean(node):
        node.report(_EXTERNAL_VOLUME)


def _external_network(node: Node, project: Project) -> None:
    """EasyRunner's proxy network is external in every of its compose files; a socket does its work here."""
    name = str(node.loc[1])
    if not networking.is_proxy_network(name, project) and (node.is_map or boolean(node)):
        node.report(messages.NETWORK_EXTERNAL, name=name)


def _secret_value(node: Node, project: Project) -> None:
    """A secret with a value is one by reference here: the value stays where it is."""
    own = str(node.loc[1])
    named = project.secrets[own].get("name")
    node.report(messages.SECRET_VALUE, name=own if named is None else named.value, stack=project.stack)


def _driver_options(node: Node, project: Project) -> None:
    """A volume at a path of the host, as Docker has it: a fresh server has nothing there, so any directory will do."""
    options = {name: str(child.value) for name, child in node.items() if child.value not in (None, "")}
    device = options.get("device", "")
    bound = "bind" in options.get("o", "").split(",") and options.get("type", "none") in ("none", "bind")
    if bound and not project.within(project.root / device) and host_paths.reason(device) is messages.BIND_ELSEWHERE:
        node.report(messages.VOLUME_DEVICE, key=True, device=device)
    elif options:
        raise node.error(messages.VOLUME_OPTIONS)


_EXTERNAL_VOLUME: Final = Text(
    "a fresh server has no volume that was made before: the stack makes it, empty", None, "warning"
)

_VOLUME: Final[dict[str, Row[Project]]] = {
    "name": no_effect(),  # on the server it is called after the stack and its key here
    "driver": refused("volumes are directories of the server", _OPTIONS_HINT, unless=("local",)),
    "driver_opts": takes(_driver_options),
    "external": takes(_external_volume),
    "labels": no_effect(),  # finish reads them
}
_NETWORK: Final[dict[str, Row[Project]]] = {
    "name": no_effect(),  # as of a volume
    "driver": refused("networks of a stack are bridges", "remove it", unless=("bridge", "default", "overlay")),
    "driver_opts": ignored("left out: options of Docker's network driver"),
    "ipam": ignored("left out: addresses are handed out, services call each other by name"),
    "external": takes(_external_network),
    "internal": no_effect(),  # finish reads it
    "enable_ipv6": no_effect(),  # finish reads it
    "enable_ipv4": refused("a network has IPv4", "remove it", unless=(True,)),
    "attachable": no_effect(),
    "labels": no_effect(),
}
_SECRET: Final[dict[str, Row[Project]]] = {
    "external": no_effect(),
    "name": no_effect(),
    "file": takes(_secret_value),
    "environment": takes(_secret_value),
    "labels": no_effect(),
    "driver": refused("secrets are Podman's own", "remove it and write `external: true`"),
    "driver_opts": refused("secrets are Podman's own", "remove it and write `external: true`"),
    "template_driver": refused("secrets are not templates", "remove it"),
}
_CONFIG: Final[dict[str, Row[Project]]] = {
    "file": no_effect(),
    "content": no_effect(),
    "name": no_effect(),
    "labels": no_effect(),
    "environment": no_effect(),
    "external": refused(
        "a fresh server has no config that was made before", "write `file:` or `content:`", unless=(False,)
    ),
    "template_driver": refused("configs are not templates", "remove it; variables are filled in in `content`"),
}
TOP_LEVEL: Final[dict[str, Row[Project]]] = {
    "services": takes(_services),
    "volumes": _declares("volumes", _VOLUME),
    "networks": _declares("networks", _NETWORK),
    "secrets": _declares("secrets", _SECRET),
    "configs": _declares("configs", _CONFIG),
    "include": no_effect(),  # load reads it before
    "name": no_effect(),  # the stack has its name from the spec
    "version": no_effect(),  # Compose itself has no use for it any more
    "models": refused("there is no model runner on the host", "run the model server as a service"),
}
