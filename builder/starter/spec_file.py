"""The spec as a file: YAML from data, with a few comments between its sections."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from builder.spec.value_types import ROLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.starter.plan import Plan

_HEAD: Final = """\
# One web host and the app stacks on it.   er check FILE   shows every problem at once.
# The Compose files stay as they are; what else can stand here:  er init - (an example with comments)
"""
_HEAD_OF_BUILD: Final = """\
# One web host and the app stacks on it.   er check FILE   shows every problem at once.
# What else can stand here:  er init - (an example with comments)
"""
_DEPLOY: Final = """
# With this in the stack, git push ssh://deploy@HOST/STACK main builds it there and lets it run: docs/own-apps.md
#   deploy: {ssh_keys: [deploy.pub], git: main}
"""
_PLACEHOLDER: Final = (
    "# Put your own public key here, or the path of its .pub file. Nobody has the other half of this one.\n"
)
_SECRETS: Final = "# The values of secrets are set on the server: er server secret\n"


class _OneLine(dict[str, Any]):
    """A mapping that is written in braces."""


class _Dumper(yaml.SafeDumper):
    """Texts that a reader of YAML could take for something else are quoted, and lists are indented."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """As PyYAML has it, but for lists."""
        super().increase_indent(flow, False)


# What no reader of YAML takes for anything but text, also within [] and {}.
_PLAIN: Final = re.compile(r"[A-Za-z/][A-Za-z0-9]*(?:[ ./@_-]+[A-Za-z0-9_]+)*")
_WORDS: Final = ("y", "n", "yes", "no", "on", "off", "true", "false", "null")


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = _PLAIN.fullmatch(value) is not None and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


def _one_line(dumper: yaml.SafeDumper, value: _OneLine) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_OneLine, _one_line)


def text(plans: Iterable[Plan], directory: Path, key: str | None, placeholder: str) -> str:
    """The whole file. `directory` is where it will lie; `key` the admin's, else the placeholder is there."""
    plans = list(plans)
    by_role = {registry: ROLE for plan in plans for registry in plan.by_role}
    return _whole([_stack(plan, directory) for plan in plans], key, placeholder, by_role)


def text_of_build(name: str, context: str, domains: list[str], key: str | None, placeholder: str) -> str:
    """The whole file of one stack in short form, whose image is built from a directory."""
    served = {"domain": domains[0]} if len(domains) == 1 else {"domains": domains}
    return _whole([{"name": name, "build": context, **served}], key, placeholder) + _DEPLOY


def _whole(
    listed: list[dict[str, Any]], key: str | None, placeholder: str, by_role: Mapping[str, str] | None = None
) -> str:
    parts = [
        _HEAD_OF_BUILD if any("build" in stack for stack in listed) else _HEAD,
        as_yaml({"server": {"name": "web1", "base": "debian-13", "arch": "amd64"}}),
        "" if key else _PLACEHOLDER,
        as_yaml({"admin": {"name": "er", "ssh_keys": [key or placeholder]}}),
        as_yaml({"tls": {"ca": "letsencrypt"}}),
        as_yaml({"registries": by_role}) if by_role else "",
        _SECRETS if any("secret_env" in stack for stack in listed) else "",
        as_yaml({"stacks": listed}),
    ]
    return "\n".join((parts[0], *_joined(parts[1:])))


def _joined(parts: list[str]) -> list[str]:
    """Each comment with the section under it."""
    joined, comment = [], ""
    for part in parts:
        if part.startswith("#"):
            comment = part
        elif part:
            joined.append(comment + part)
            comment = ""
    return joined


def as_yaml(value: object) -> str:
    """A value as YAML: short mappings and lists on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=100_000)


def _stack(plan: Plan, directory: Path) -> dict[str, Any]:
    files = [_relative(path, directory) for path in plan.app.files.files]
    stack: dict[str, Any] = {"name": plan.app.name}
    if plan.uid is not None:
        stack["uid"] = plan.uid
    stack["compose"] = files[0] if len(files) == 1 else files
    public = {one.service: _OneLine(one.written) for one in plan.public if one.written}
    if public:
        stack["public"] = public
    if plan.secret_env.section:
        stack["secret_env"] = {name: _variables(value) for name, value in plan.secret_env.section.items()}
    if plan.egress:
        stack["egress"] = [_rule(rule.to, rule.protocol, rule.ports) for rule in plan.egress]
    return stack


def _relative(path: Path, directory: Path) -> str:
    """A path from a directory; where it leads up, then from where the links of that directory lead."""
    plain = os.path.relpath(path, directory)
    if plain.partition(os.sep)[0] != os.pardir:
        return plain
    return str(Path(os.path.relpath(path.parent.resolve(), directory.resolve()), path.name))


def _variables(sources: dict[str, str]) -> list[str] | dict[str, str]:
    return sources if any(sources.values()) else list(sources)


def _rule(to: str, protocol: str, ports: tuple[int, ...]) -> dict[str, Any]:
    rule = _OneLine(to=to)
    if protocol != "tcp":
        rule["protocol"] = protocol
    if ports:
        rule["ports"] = list(ports)
    return rule
