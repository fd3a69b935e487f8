"""How a service's container is made, as its unit says it, and the values of its secrets; no user manager is asked.

Podman's own generator reads the unit: a stack that has never been started has no manager that has read it.
"""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from builder import facts
from builder.server.remote import common, session
from builder.server.remote.backup import restored_data
from builder.server.remote.common import RemoteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_GENERATOR: Final = "/usr/lib/systemd/user-generators/podman-user-generator"


class Secret(NamedTuple):
    """A secret of a service: what Podman calls it, and the variable or the path that it reads it from."""

    name: str
    variable: str
    path: str


@dataclass(frozen=True)
class Container:
    """How a service's container is made: options of `podman run` without mounts and secrets, those, image, command."""

    image: str
    options: list[str]
    mounts: list[str]
    secrets: list[Secret]
    command: list[str] = field(default_factory=list)


def container(stack: str, service: str) -> Container:
    """The container of a service, as its unit starts it. Raises RemoteError."""
    uid = common.uid(common.user_of(stack))
    directories = f"{facts.RELEASE_UNITS}/{uid}:{facts.QUADLETS}/{uid}"
    text = common.run(["env", f"QUADLET_UNIT_DIRS={directories}", _GENERATOR, "-user", "-dryrun"], timeout=60)
    unit = f"{stack}-{service}.service"
    section = text.partition(f"---{unit}---\n")[2].partition("\n---")[0]
    line = next((one for one in section.splitlines() if one.startswith("ExecStart=")), "")
    # The last one counts: a release is a drop-in.
    image = (re.findall(r"^Image=(.*)$", section, re.MULTILINE) or [""])[-1]
    argv = [_word(one, section) for one in split(line.removeprefix("ExecStart="))]
    if image not in argv:
        raise RemoteError(f"the unit of {stack}/{service} starts no container", f"er server logs HOST {stack}")
    return parsed(argv, image)


def _word(word: str, section: str) -> str:
    variables = re.findall(r"^Environment=(ER_\w+=.*)$", section, re.MULTILINE)
    return session.expanded(word, variables).replace("%%", "%")


_ESCAPED: Final = dict(zip("\\\"'sabfnrtv", "\\\"' \a\b\f\n\r\t\v", strict=True))


def split(line: str) -> list[str]:
    """The words of a command line of a unit: see systemd.service(5), "Command lines"."""
    words: list[str] = []
    for found in re.finditer(r"""(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\\.|[^\s"'\\])+""", line, re.DOTALL):
        parts = re.findall(r"""\\x[0-9a-fA-F]{2}|\\.|["']|[^\\"']+""", found[0], re.DOTALL)
        words.append("".join(_unquoted(parts)))
    return words


def _unquoted(parts: Sequence[str]) -> Iterator[str]:
    quote = ""
    for part in parts:
        if part in "\"'" and quote in ("", part):
            quote = "" if quote else part
        elif part.startswith("\\x"):
            yield chr(int(f"0{part[1:]}", 0))
        else:
            yield _ESCAPED.get(part[1:], part) if part.startswith("\\") else part


# Options that a container without its unit and its network has no use for, and those that are looked at one by one.
_LEFT_OUT: Final = re.compile(r"--(network|net|cgroups|pull|hostname|add-host|dns.*|secret|volume|label|requires)|-v")


def parsed(argv: Sequence[str], image: str) -> Container:
    """The parts of the words of `podman run`."""
    at = list(argv).index(image)
    options, mounts, found = [], [], []
    words = iter(session.kept_options(argv[2:at], {}))
    for word in words:
        option, equals, value = word.partition("=")
        if not _LEFT_OUT.fullmatch(option):
            options.append(word)
            continue
        value = value if equals else next(words)
        if option in ("--volume", "-v"):
            mounts.append(value)
        elif option == "--secret":
            found.append(_secret(value))
    return Container(image, options, mounts, found, list(argv[at + 1 :]))


def _secret(value: str) -> Secret:
    name, *rest = value.split(",")
    given = dict(one.partition("=")[::2] for one in rest)
    target = given.get("target", "")
    if given.get("type") == "env":
        return Secret(name, target or name, "")
    return Secret(name, "", target if target.startswith("/") else f"/run/secrets/{target or name}")


# ---- values of secrets


def made_up(wanted: Container) -> dict[str, bytes]:
    """Values for a database that nobody will use."""
    return {one.name: secrets.token_hex(16).encode() for one in wanted.secrets}


def stored(directory: Path) -> dict[str, bytes]:
    """The values of a stack's secrets, from the files of Podman's. No link that the stack has made is followed."""
    try:
        names = {key: one["name"] for key, one in restored_data.read_json(directory, "secrets.json")["secrets"].items()}
        values = restored_data.read_json(directory, "filedriver/secretsdata.json")
        return {names[key]: base64.b64decode(value) for key, value in values.items() if key in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
