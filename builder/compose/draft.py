"""What a Compose file becomes on its way: a Project while files are read, a Draft of each service, then StackContents.

load fills the Project by the table of top-level keys, and each Draft by the table of service keys; finish checks the
drafts against each other and makes the contents of the stack.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.compose import messages
from builder.stack.model import UNENCODABLE, StackFile

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Mapping

    from builder.compose.node import Node
    from builder.problems import Mark, Report
    from builder.stack.model import Mount, Network, Service, Volume

# What comes along with a stack: small files of the stack's own directory, and no private keys.
_MOST_BYTES: Final = 1024 * 1024
_MOST_FILES: Final = 300
_PRIVATE_KEY: Final = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEPT_EMPTY: Final = (".gitkeep", ".gitignore", ".keep")


@dataclass
class Project:
    """A Compose file with all it includes: what it declares, by name, and the files that come along.

    `root` is the stack's own directory; nothing outside of it comes along. `lookup` gives a variable's value, for the
    service of the first name or, with None, outside of services. `extended` are the services of other files, `public`
    what the spec says of public services, `says_public` whether it says anything at all, `left_out` the services that
    are not started, of which some are `behind_profiles`. `secret_env` are by service the variables that the spec takes
    from secrets. `unset` are the variables without any value, and where the first stands, `in_clear` by place those
    that look like secrets; `only_read` are directories that are not there, by path: a service has to write to them, or
    the path is wrong. `empty_variables` are filled in as empty at these nodes, `faulty_variables` those of them that
    are an error.
    """

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
    only_read: dict[str, tuple[str, Node]] = field(default_factory=dict)
    undeclared_volumes: dict[str, Node] = field(default_factory=dict)
    used_volumes: set[str] = field(default_factory=set)
    anonymous_volumes: set[str] = field(default_factory=set)
    public: dict[str, Node] = field(default_factory=dict)
    says_public: bool = False
    behind_profiles: set[str] = field(default_factory=set)
    left_out: set[str] = field(default_factory=set)
    secret_env: Mapping[str, Collection[str]] = field(default_factory=dict)
    unset: dict[str, tuple[str, Mark]] = field(default_factory=dict)
    in_clear: dict[Hashable, tuple[Node, dict[str, dict[str, str]]]] = field(default_factory=dict)
    empty_variables: dict[str, Node] = field(default_factory=dict)
    faulty_variables: set[str] = field(default_factory=set)

    def starts(self, profiles: Node) -> bool:
        """Whether COMPOSE_PROFILES of `.env` names one of these, as docker compose reads it; * names all."""
        chosen = {name.strip() for name in (self.lookup(None, "COMPOSE_PROFILES") or "").split(",")}
        return any(
            node.value in chosen or "*" in chosen for node in (profiles.value if profiles.is_list else [profiles])
        )

    def within(self, path: Path) -> Path | None:
        """The path relative to the stack's directory, all links followed; None for one outside of it."""
        try:
            return path.resolve().relative_to(self.root.resolve())
        except (ValueError, OSError, RuntimeError):
            return None

    def relative(self, node: Node, path: str) -> str:
        """A path as the file of `node` writes it, relative to the stack's directory; raises NodeError outside of it."""
        relative = self.within(node.document.directory / path)
        if relative is None:
            raise node.error(messages.BIND_OUTSIDE, path=path)
        self.check_path(node, str(relative), path)
        return PurePosixPath(relative).as_posix()

    def check_path(self, node: Node, relative: str, path: str) -> None:
        """Raise NodeError for a path that a unit's Volume= cannot have; `path` is how the file has it."""
        if re.search(r"[\x00-\x1f\x7f:\"\\,]", relative) or UNENCODABLE.search(relative):
            raise node.error(messages.WANTS_PLAIN, value=path)

    def has_content(self, path: str) -> bool:
        """True when there is something to bring along: a file, or a directory that is not empty."""
        full = self.root / path
        if full.is_dir():
            return any(child.name not in _KEPT_EMPTY for child in full.iterdir())
        return full.exists()

    def add_files(self, node: Node, path: str) -> None:
        """Add a file, or all files of a directory, to what comes along; raises NodeError for what cannot."""
        full = self.root / path
        found = sorted(child for child in full.rglob("*") if not child.is_dir()) if full.is_dir() else [full]
        if len(found) > _MOST_FILES or sum(child.stat().st_size for child in found if child.is_file()) > _MOST_BYTES:
            raise node.error(messages.BIND_LARGE, path=path, files=len(found))
        for child in found:
            self._add_file(node, child)

    def _add_file(self, node: Node, file: Path) -> None:
        name = file.relative_to(self.root).as_posix()
        self.relative(node, str(file.resolve()))
        if not file.is_file():
            raise node.error(messages.BIND_SPECIAL, path=name)
        try:
            content, executable = file.read_bytes(), file.stat().st_mode & 0o100
        except OSError as error:
            raise node.error(messages.FILE_UNREADABLE, path=name, reason=error.strerror) from error
        if _PRIVATE_KEY.search(content):
            raise node.error(messages.BIND_SECRET, path=name)
        self.files[name] = StackFile(name, content, "0755" if executable else "0644")


class Port(NamedTuple):
    """A port of a container that a Compose file publishes or exposes.

    `local`: published for the host alone. `published` is the port of the host, 0 where there is none or any.
    """

    number: int
    protocol: str = "tcp"
    local: bool = False
    published: int = 0


@dataclass
class Draft:
    """One service on its way to a stack.Service: its fields by name, the node of each, and what finish looks at again.

    `labels` are (text, node) by name, `aliases` more names on its networks, `env_files` the variables of its env files,
    which are at `env_paths`, `ports` those that would be published, `volumes_from` (service, read-only, node) of those
    whose mounts it shares.
    """

    name: str
    node: Node
    project: Project
    fields: dict[str, Any] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    mounts: list[tuple[Mount, Node]] = field(default_factory=list)
    volumes_from: list[tuple[str, bool, Node]] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    labels: dict[str, tuple[str, Node]] = field(default_factory=dict)
    env_files: dict[str, str] = field(default_factory=dict)
    env_paths: list[Path] = field(default_factory=list)
    on_proxy_network: bool = False
    ports: list[Port] = field(default_factory=list)
    exposed: list[Port] = field(default_factory=list)

    def is_secret(self, variable: str) -> bool:
        """Whether the spec takes this variable of the service from a secret."""
        return variable in self.project.secret_env.get(self.name, ())

    def set(self, name: str, value: Any, node: Node) -> None:
        """Set a field; a later problem with it is reported at the node."""
        self.fields[name] = value
        self.nodes[name] = node


@dataclass(frozen=True)
class StackContents:
    """What the stack of a Compose file consists of, as stack.Stack takes it."""

    services: tuple[Service, ...]
    volumes: tuple[Volume, ...]
    networks: tuple[Network, ...]
    files: tuple[StackFile, ...]
