"""A target of `er build-image`, as a row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

Wanted = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Target:
    """One row.

    `images` says what a base and an architecture are called there: values of the template's variables.
    `settings` are variables of the template that only the user can know, with what they are for; logins are in
    builder/packer/credentials.py. `more` are settings of one architecture alone, which only plugins can build.
    `use` is what the provider's own command is given to start a server of the image, with {id}. `longest` is how long
    the image's name may be, so that neither it nor that of the build's
    server, which ends with -build, is cut.
    """

    name: str
    builder: str
    plugin: str
    version: str
    packer: str
    artifact: str
    source: str
    images: Mapping[Wanted, Mapping[str, str]]
    settings: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    use: str = "--image {id}"
    longest: int = 57

    def needed(self, arch: str) -> Mapping[str, str]:
        """The settings for an architecture."""
        return {**self.settings, **self.more.get(arch, {})}

    def least(self, arch: str) -> str:
        """The Packer from which on an architecture can be built."""
        return "1.7.0" if arch in self.more else self.packer

    @property
    def label(self) -> str:
        """What the template's variable `source` is to be."""
        return f"{self.builder}.host"
