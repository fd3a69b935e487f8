"""What `er try` is asked for, and what it tells while it works: values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from builder.lab import preload

PhaseName = Literal["base tree", "images", "boot", "cloud-init", "first boot", "first answers"]


@dataclass(frozen=True, slots=True)
class Site:
    """A domain, and the stack that answers on it."""

    stack: str
    domain: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to try. `packages` are those of a baked host: with none, the machine installs them itself.

    `ca` is where the machine keeps the certificate of its own authority.
    """

    name: str
    user_data: bytes = field(repr=False)
    sites: tuple[Site, ...]
    ca: str
    packages: tuple[str, ...] = ()
    images: tuple[tuple[preload.Owner, tuple[preload.Image, ...]], ...] = ()
    extra_files: tuple[tuple[str, bytes], ...] = ()
    timeout: float = 300


@dataclass(frozen=True, slots=True)
class Started:
    """A phase has begun."""

    phase: PhaseName


@dataclass(frozen=True, slots=True)
class Ended:
    """A phase is over, after so many seconds."""

    phase: PhaseName
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The first answer of a site: its status, and the seconds since power-on."""

    site: Site
    status: int
    seconds: float

    @property
    def url(self) -> str:
        """What to open."""
        return f"https://{self.site.domain}/"


@dataclass(frozen=True, slots=True)
class Ready:
    """All sites answer; the machine is on until the generator is closed."""

    id: str
    ipv4: str
    ipv6: str
    ca: Path
    shell: str
    console: Path
    answers: tuple[Answer, ...]
    phases: tuple[Ended, ...]

    def curl(self, answer: Answer) -> str:
        """A command line that asks the site, for a person."""
        return f"curl --cacert {self.ca} --resolve {answer.site.domain}:443:{self.ipv4} {answer.url}"

    @property
    def hosts(self) -> str:
        """The line that /etc/hosts needs for a browser."""
        return " ".join((self.ipv4, *(answer.site.domain for answer in self.answers)))


Event = Started | Ended | Answer | Ready
