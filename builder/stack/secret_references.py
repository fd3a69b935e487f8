"""Secrets by reference: values never pass through `er`; each is a Podman secret of the stack's user."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

SECRET_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}"  # noqa: S105 - a name


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by reference: the value never passes through `er`; it is a Podman secret of the stack's user."""

    name: str
    target: str | None = None
    uid: int | None = None
    gid: int | None = None
    mode: str | None = None


# What a built value has in braces: a secret's name; two braces are one.
_PLACES: Final = re.compile(rf"\{{\{{|\}}\}}|\{{({SECRET_NAME})\}}")


@dataclass(frozen=True, slots=True)
class EnvSecret:
    """A variable whose value is a Podman secret of the stack's user, of this name.

    With `built` the host makes that secret when the service starts: it is this text, with secrets in place of their
    names in braces.
    """

    variable: str
    name: str
    built: str | None = None

    @property
    def sources(self) -> tuple[str, ...]:
        """The secrets that the admin sets, each once."""
        return (self.name,) if self.built is None else places(self.built)


def places(text: str) -> tuple[str, ...]:
    """The names of secrets that stand in a text in braces, each once."""
    return tuple(dict.fromkeys(found[1] for found in _PLACES.finditer(text) if found[1]))


def without_places(text: str) -> str:
    """The text without what is well-formed in braces: one that is left is a mistake."""
    return _PLACES.sub("", text)
