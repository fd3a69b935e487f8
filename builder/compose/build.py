"""From a YAML source to a tree of nodes with its variables filled in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from builder.compose import messages
from builder.compose.interpolation import Expansion, FormatError, RequiredError
from builder.compose.node import Document, Node

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.yamlfile.places import Loc

NOT_KNOWN_YET = "EASYRUNNER_SERVER_IP"


@dataclass
class Builder:
    """Builds the nodes of one file. `lookup` gets the name of the service a value belongs to, if any."""

    document: Document
    lookup: Callable[[str | None, str], str | None]
    _warned: set[str] = field(default_factory=set)

    def build(self, value: Any, loc: Loc = ()) -> Node:
        """The node of a value at a place. Keys are never filled in."""
        if isinstance(value, dict):
            value = {key: self.build(child, (*loc, key)) for key, child in value.items()}
        elif isinstance(value, list):
            value = [self.build(child, (*loc, index)) for index, child in enumerate(value)]
        elif isinstance(value, str) and "$" in value:
            value = self._fill(value, Node(value, self.document, loc))
        return Node(value, self.document, loc)

    def _fill(self, text: str, node: Node) -> str:
        service = str(node.loc[1]) if node.loc[:1] == ("services",) and len(node.loc) > 1 else None
        expansion = Expansion(lambda name: self.lookup(service, name))
        try:
            filled = expansion.expand(text)
        except FormatError as error:
            node.put(messages.VARIABLE_FORMAT, inside=error)
            return ""
        except RequiredError as error:
            node.put(messages.VARIABLE_REQUIRED, name=error.name, reason=error.message or "not set")
            return ""
        for name in expansion.unset:
            self._warn(name, node)
        return filled

    def _warn(self, name: str, node: Node) -> None:
        if name in self._warned or str(node.loc[0]).startswith("x-"):
            return
        self._warned.add(name)
        node.put(messages.VARIABLE_SERVER_IP if name == NOT_KNOWN_YET else messages.VARIABLE_UNSET, name=name)
