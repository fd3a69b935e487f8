"""YAML text to plain values with the place of each, and an explanation for text that cannot be parsed.

`compose` makes PyYAML's graph of nodes, `Constructor` the values of it, `explain` a text for a YAMLError.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml
from yaml.reader import ReaderError

from builder import messages
from builder.yamlfile import scalars
from builder.yamlfile.places import Place, dotted, split_lines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.messages import Text
    from builder.problems import Mark, Report
    from builder.yamlfile.places import FileLines, Loc


MAX_DEPTH: Final = 40
MAX_VALUES: Final = 100_000

_PLAIN: Final = "plain"
_STR, _MAP, _SEQ = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "map", "seq"))
# How a Compose file says that a value is not laid over the one of an earlier file.
OVERLAY_TAGS: Final = ("!reset", "!override")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_Item = tuple[str, yaml.Node, "Mark"]


def _is_merge(key: yaml.Node) -> bool:
    """Whether a key is `<<`; other YAML writers put the tag `!!merge` before it."""
    return key.value == "<<" and key.tag in (_PLAIN, "tag:yaml.org,2002:merge")


class TooManyError(Exception):
    """Aliases unfold to more values than the limit."""


class _Loader(yaml.SafeLoader):
    """PyYAML up to the node graph: plain scalars unresolved, nesting bounded, anchors may be set again."""

    depth = 0

    def resolve(self, kind: Any, value: Any, implicit: Any) -> Any:
        if kind is yaml.ScalarNode:
            return _PLAIN if implicit[0] else _STR
        return super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if not isinstance(event, yaml.AliasEvent):
            self.anchors.pop(getattr(event, "anchor", None), None)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooDeepError(MAX_DEPTH, event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def compose(text: str) -> yaml.Node | None:
    """The node graph of a YAML text; None when it is empty."""
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


class Constructor:
    """Turns the node graph into plain values; `places` has where each came from, `report` what is wrong with them.

    `tags` are those of OVERLAY_TAGS, by the place of their value.

    `strict`: a value that YAML 1.1 and 1.2 read differently is an error.
    """

    def __init__(self, file: FileLines, report: Report, *, strict: bool) -> None:
        self.file = file
        self.report = report
        self.strict = strict
        self.places: dict[Loc, Place] = {}
        self.tags: dict[Loc, str] = {}
        self._open: set[int] = set()
        self._seen: set[int] = set()
        self._count = 0

    def construct(self, node: yaml.Node, loc: Loc, key: Mark | None = None) -> Any:
        """The value of a node at `loc`. Raises TooManyError."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise TooManyError
        mark = self._mark(node)
        if isinstance(node, yaml.ScalarNode):
            absent = key if node.tag == _PLAIN and not node.value else None
            self.places[loc] = Place(key, absent or mark, node.value)
            return self._scalar(node, loc, mark)
        self.places[loc] = Place(key, mark, None)
        if id(node) in self._open:
            messages.YAML_ANCHOR_LOOP.add_to(self.report, dotted(loc), mark)
            return None
        if len(loc) >= MAX_DEPTH:
            messages.YAML_DEPTH.add_to(self.report, dotted(loc), mark, limit=MAX_DEPTH)
            return None
        self._open.add(id(node))
        value = self._collection(node, loc, mark)
        self._open.discard(id(node))
        self._seen.add(id(node))
        return value

    def _collection(self, node: yaml.Node, loc: Loc, mark: Mark) -> Any:
        self._check_tag(node, loc, mark)
        if isinstance(node, yaml.SequenceNode):
            return [self.construct(child, (*loc, index)) for index, child in enumerate(node.value)]
        return self._mapping(node, loc)

    def _check_tag(self, node: yaml.Node, loc: Loc, mark: Mark) -> None:
        known = {yaml.ScalarNode: (_PLAIN, _STR), yaml.SequenceNode: (_SEQ,), yaml.MappingNode: (_MAP,)}
        if node.tag in OVERLAY_TAGS and not self.strict:
            self.tags[loc] = node.tag
        elif node.tag not in known[type(node)] and id(node) not in self._seen:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            messages.YAML_TAG.add_to(self.report, dotted(loc), mark, tag=tag)

    def _scalar(self, node: yaml.ScalarNode, loc: Loc, mark: Mark) -> scalars.Scalar:
        self._check_tag(node, loc, mark)
        first = id(node) not in self._seen
        self._seen.add(id(node))
        text = self._text(node, loc, mark)
        if node.tag != _PLAIN and loc not in self.tags:
            return text
        reason = scalars.ambiguity(text) if self.strict else None
        if reason is None:
            return scalars.resolve(text)
        if first:
            reason.add_to(self.report, dotted(loc), mark, value=text, quoted=f'"{text}"')
        return text

    def _text(self, node: yaml.ScalarNode, loc: Loc, mark: Mark) -> str:
        """The text of a scalar; an escape may have made a lone surrogate, which no encoding can write again."""
        text = str(node.value)
        surrogate = _SURROGATE.search(text)
        if surrogate:
            code = f"U+{ord(surrogate[0]):04X}"
            messages.YAML_CHARACTER.add_to(self.report, dotted(loc), mark, code=code)
        return _SURROGATE.sub("?", text)

    def _mapping(self, node: yaml.Node, loc: Loc) -> dict[str, Any]:
        own: dict[str, tuple[yaml.Node, Mark]] = {}
        merges: list[yaml.Node] = []
        first: dict[str, int] = {}
        for key_node, value_node in node.value:
            key = self._key(key_node, loc, again=id(node) in self._seen)
            if key is None:
                continue
            mark = self._mark(key_node)
            if first.setdefault(key, mark.line) != mark.line or key in own:
                self._duplicate(key, loc, mark, first[key])
            elif _is_merge(key_node):
                merges.append(value_node)
            else:
                own[key] = (value_node, mark)
        merged = self._merge(merges, loc, skip=set(own))
        return merged | {key: self.construct(child, (*loc, key), mark) for key, (child, mark) in own.items()}

    def _duplicate(self, key: str, loc: Loc, mark: Mark, line: int) -> None:
        messages.YAML_DUPLICATE.add_to(self.report, dotted((*loc, key)), mark, key=key, line=line)

    def _key(self, node: yaml.Node, loc: Loc, *, again: bool) -> str | None:
        mark = self._mark(node)
        if not isinstance(node, yaml.ScalarNode):
            messages.YAML_KEY_NESTED.add_to(self.report, dotted(loc), mark)
            return None
        text = self._text(node, loc, mark)
        if node.tag != _PLAIN or again:
            return text
        quoted = json.dumps(text, ensure_ascii=False)
        reason = scalars.ambiguity(text) if self.strict else None
        if reason is None and not isinstance(scalars.resolve(text), str):
            reason = messages.YAML_KEY
        if reason is not None:
            reason.add_to(self.report, dotted((*loc, text)), mark, value=text, quoted=quoted)
        return text

    def _merge(self, nodes: list[yaml.Node], loc: Loc, skip: set[str]) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        for node in nodes:
            for mapping in self._mappings(node, loc):
                for key, child, mark in self._items(mapping, loc):
                    if key not in skip and key not in merged:
                        merged[key] = self.construct(child, (*loc, key), mark)
        return merged

    def _mappings(self, node: yaml.Node, loc: Loc) -> Iterator[yaml.MappingNode]:
        children = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for child in children:
            if isinstance(child, yaml.MappingNode) and id(child) not in self._open:
                yield child
            else:
                messages.YAML_MERGE.add_to(self.report, dotted((*loc, "<<")), self._mark(child))

    def _items(self, node: yaml.MappingNode, loc: Loc, depth: int = 0) -> Iterator[_Item]:
        """The entries a mapping brings along when merged: its own first, then those it merges itself."""
        self._open.add(id(node))
        inner = []
        for key_node, child in node.value:
            self._count += 1
            if _is_merge(key_node):
                inner.append(child)
            elif isinstance(key_node, yaml.ScalarNode):
                yield str(key_node.value), child, self._mark(key_node)
        for child in inner:
            for mapping in self._mappings(child, loc):
                yield from self._items(mapping, loc, depth + 1)
        self._open.discard(id(node))
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            raise TooManyError

    def _mark(self, node: yaml.Node) -> Mark:
        if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
            first = node.value[0][0]
            node = first if isinstance(first, yaml.ScalarNode) else node
        start, end = node.start_mark, node.end_mark
        length = 1
        if start.line == end.line:
            length = end.column - start.column
        elif isinstance(node, yaml.ScalarNode):
            length = len(self.file.lines[start.line].rstrip()) - start.column
        return self.file.mark(start.line + 1, start.column + 1, length)


class Explained(NamedTuple):
    """The text of a problem, its line and column (counted from 1), and the values of the text's fields."""

    text: Text
    line: int
    column: int
    values: dict[str, Any]


class TooDeepError(yaml.MarkedYAMLError):
    """Nesting beyond the limit."""

    def __init__(self, limit: int, mark: Any) -> None:
        super().__init__(problem=f"nested too deep {limit}", problem_mark=mark)


class _Failure(NamedTuple):
    """One known failure, by patterns; `begin` shows where it began instead of where it was noticed."""

    context: str
    problem: str
    text: Text
    begin: bool = False


_FAILURES: Final = (
    _Failure("", r"nested too deep (?P<limit>\d+)", messages.YAML_DEPTH),
    _Failure("", r"found character '\\t'", messages.YAML_TAB),
    _Failure("", r"found character [\"'](?P<character>.)[\"'] that cannot start", messages.YAML_START),
    _Failure("", r"found undefined alias '(?P<name>.*)'", messages.YAML_ANCHOR_UNKNOWN),
    _Failure("expected a single document", "", messages.YAML_DOCUMENTS),
    _Failure("", r"found '(?P<character>[\]}])'", messages.YAML_START),
    _Failure("", "second colon", messages.YAML_COLON),
    _Failure("", "mapping values are not allowed", messages.YAML_INDENT),
    _Failure("scanning a simple key", "", messages.YAML_NO_COLON, begin=True),
    _Failure("scanning a double-quoted", "escape", messages.YAML_ESCAPE),
    _Failure("scanning a double-quoted", "expected escape sequence", messages.YAML_ESCAPE),
    _Failure("scanning a quoted", "", messages.YAML_UNCLOSED_QUOTE, begin=True),
    _Failure("flow (sequence|mapping|node)", "", messages.YAML_UNCLOSED_BRACKET, begin=True),
    _Failure("block (mapping|collection|node)", "", messages.YAML_INDENT),
    _Failure("", "sequence entries are not allowed", messages.YAML_INDENT),
    _Failure("", "expected '<document start>'", messages.YAML_INDENT),
)


def explain(error: yaml.YAMLError, text: str) -> Explained:
    """The text and place for a failure to parse."""
    if isinstance(error, ReaderError):
        return _forbidden(error, text)
    if not isinstance(error, yaml.MarkedYAMLError):
        return Explained(messages.YAML_SYNTAX, 1, 1, {"reason": error})
    if private := _private_key(error, text):
        return private
    context, problem = error.context or "", _problem(error, text)
    for row in _FAILURES:
        found = re.search(row.problem, problem)
        if found and re.search(row.context, context):
            mark = error.context_mark if row.begin and error.context_mark else error.problem_mark
            return _placed(row.text, mark, found.groupdict())
    reason = {"reason": problem or context}
    return _placed(messages.YAML_SYNTAX, error.problem_mark or error.context_mark, reason)


def _problem(error: yaml.MarkedYAMLError, text: str) -> str:
    """What PyYAML says, except that it has one sentence for two mistakes around a colon."""
    problem, mark = error.problem or "", error.problem_mark
    if mark and "mapping values are not allowed" in problem:
        before = split_lines(text)[mark.line][: mark.column]
        return "second colon" if ": " in before else problem
    return problem


def _private_key(error: yaml.MarkedYAMLError, text: str) -> Explained | None:
    """A private key pasted without care breaks the YAML around it: that it is one matters more."""
    for mark in (error.context_mark, error.problem_mark):
        line = split_lines(text)[mark.line] if mark else ""
        if mark and re.search(r"-----(BEGIN|END) [A-Z0-9 ]*PRIVATE KEY-----", line):
            return _placed(messages.YAML_PRIVATE_KEY, mark, {})
    return None


def _placed(text: Text, mark: Any, values: dict[str, Any]) -> Explained:
    if mark is None:
        return Explained(text, 1, 1, values)
    return Explained(text, mark.line + 1, mark.column + 1, values)


def _forbidden(error: ReaderError, text: str) -> Explained:
    lines = split_lines(text[: error.position])
    code = f"U+{ord(text[error.position]):04X}"
    return Explained(messages.YAML_CHARACTER, len(lines), len(lines[-1]) + 1, {"code": code})
