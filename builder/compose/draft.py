"""What a compose file is turned into while it is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from builder.compose.node import Node
    from builder.problems import Report
    from builder.stack.model import Mount, Network, Service, StackFile, Volume


@dataclass(frozen=True)
class Parts:
    """The values a compose file stands for."""

    services: tuple[Service, ...]
    volumes: tuple[Volume, ...]
    networks: tuple[Network, ...]
    files: tuple[StackFile, ...]


@dataclass
class Project:
    """One compose file with all it includes. `root` is the stack's own directory; nothing outside is brought along."""

    stack: str
    root: Path
    report: Report
    lookup: Callable[[str | None, str], str | None]
    services: dict[str, Node] = field(default_factory=dict)
    volumes: dict[str, Node] = field(default_factory=dict)
    networks: dict[str, Node] = field(default_factory=dict)
    secrets: dict[str, Node] = field(default_factory=dict)
    configs: dict[str, Node] = field(default_factory=dict)
    files: dict[str, StackFile] = field(default_factory=dict)
    extended: dict[Path, dict[str, Node]] = field(default_factory=dict)
    used_volumes: set[str] = field(default_factory=set)
    own_volumes: set[str] = field(default_factory=set)


@dataclass
class Draft:
    """One service on its way to a stack.Service: its fields, and what needs a second look."""

    name: str
    node: Node
    project: Project
    fields: dict[str, Any] = field(default_factory=dict)
    places: dict[str, Node] = field(default_factory=dict)
    mounts: list[tuple[Mount, Node]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    labels: dict[str, tuple[str, Node]] = field(default_factory=dict)
    env_files: dict[str, str] = field(default_factory=dict)
    on_proxy_network: bool = False

    def set(self, name: str, value: Any, node: Node) -> None:
        """Set a field; the node is where a later problem with it is shown."""
        self.fields[name] = value
        self.places[name] = node
