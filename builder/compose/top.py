"""The tables of the top level: the file, its volumes, networks, secrets and configs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from builder.compose import messages, mount_messages
from builder.compose.table import Row, ignored, no_effect, refused, takes, walk
from builder.compose.values import boolean
from builder.messages import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from builder.compose.draft import Project
    from builder.compose.node import Node

_OPTIONS_HINT: Final = "remove it; data lies on the server's own disk"
_OWN_NAME: Final = "left out: on the server it is called after the stack and its key here"


def _collect(kind: str, table: Mapping[str, Row[Project]]) -> Row[Project]:
    """Keep each declaration under its name, and check its keys."""

    def collect(node: Node, project: Project) -> None:
        if not node.is_map:
            raise node.wrong(messages.WANTS_MAPPING)
        for name, child in node.items():
            if name.startswith("x-"):
                continue
            getattr(project, kind)[name] = child
            if child.value is not None:
                walk(child, table, project)

    return takes(collect)


def _services(node: Node, project: Project) -> None:
    if not node.is_map or not node.value:
        raise node.wrong(messages.NO_SERVICES)
    project.services.update((name, child) for name, child in node.items() if not name.startswith("x-"))


def _needs_no(text: Text) -> Callable[[Node, Project], None]:
    """A flag that must not be set."""

    def check(node: Node, project: Project) -> None:  # noqa: ARG001 - one form for all
        if node.is_map or boolean(node):
            raise node.wrong(text)

    return check


def _external_network(node: Node, project: Project) -> None:
    """EasyRunner's proxy network is external in every of its compose files; a socket does its work here."""
    name = str(node.loc[1])
    declared = project.networks[name].get("name")
    if "easyrunner_proxy_network" not in (name, None if declared is None else declared.value) and boolean(node):
        raise node.wrong(messages.NETWORK_EXTERNAL)


def _network_name(node: Node, project: Project) -> None:  # noqa: ARG001 - one form for all
    if node.value != "easyrunner_proxy_network":
        node.put(_NAME_TEXT, key=True)


def _refuse_value(node: Node, project: Project) -> None:  # noqa: ARG001 - one form for all
    raise node.wrong(mount_messages.SECRET_VALUE)


_NAME_TEXT: Final = Text(_OWN_NAME, None, "warning")

_VOLUME: Final[dict[str, Row[Project]]] = {
    "name": ignored(_OWN_NAME),
    "driver": refused("volumes are directories of the server", _OPTIONS_HINT, unless=("local",)),
    "driver_opts": refused("volumes are plain directories of the server, without options", _OPTIONS_HINT),
    "external": takes(
        _needs_no(
            Text(
                "a fresh server has no volume that was made before",
                "remove `external`, then the stack makes it",
            )
        )
    ),
    "labels": no_effect(),  # read where the volume is made
}
_NETWORK: Final[dict[str, Row[Project]]] = {
    "name": takes(_network_name),
    "driver": refused("networks of a stack are bridges", "remove it", unless=("bridge", "default")),
    "driver_opts": ignored("left out: options of Docker's network driver"),
    "ipam": ignored("left out: addresses are handed out, services call each other by name"),
    "external": takes(_external_network),
    "internal": no_effect(),  # read where the network is made
    "enable_ipv6": no_effect(),
    "enable_ipv4": refused("a network has IPv4", "remove it", unless=(True,)),
    "attachable": no_effect(),
    "labels": no_effect(),
}
_SECRET: Final[dict[str, Row[Project]]] = {
    "external": no_effect(),
    "name": no_effect(),
    "file": takes(_refuse_value),
    "environment": takes(_refuse_value),
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
    "environment": refused(
        "the server has no environment to take it from", "write content: ${{NAME}}, and set NAME in .env"
    ),
    "external": refused(
        "a fresh server has no config that was made before", "write `file:` or `content:`", unless=(False,)
    ),
    "template_driver": refused("configs are not templates", "remove it; variables are filled in in `content`"),
}
TOP: Final[dict[str, Row[Project]]] = {
    "services": takes(_services),
    "volumes": _collect("volumes", _VOLUME),
    "networks": _collect("networks", _NETWORK),
    "secrets": _collect("secrets", _SECRET),
    "configs": _collect("configs", _CONFIG),
    "include": no_effect(),  # read before
    "name": no_effect(),  # the stack has its name from the spec
    "version": no_effect(),  # Compose itself has no use for it any more
    "models": refused("there is no model runner on the host", "run the model server as a service"),
}
