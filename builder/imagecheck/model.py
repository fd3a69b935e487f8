"""What a check is and what it finds, as values. Standard library only: this package also runs inside the image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from builder.imagecheck.tree import Tree

# `live` checks ask the running system; `offline` ones look at what a running system hides, such as the disk below /run.
When = Literal["both", "live", "offline"]
# The remedy of what the last step of a bake removes: images/steps/70-clean.
CLEAN: Final = "run the step 70-clean last"


class Hit(NamedTuple):
    """What a check comes upon: the path in the image ("-" where no file is meant) and what is wrong."""

    path: str
    what: str


class NotKnowableError(Exception):
    """A check cannot be answered here; the text says why. Not a finding, and not silence either."""


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table. `source` says who else asks for it; `find` yields every hit in a tree."""

    id: str
    title: str
    why: str
    source: str
    remedy: str
    find: Callable[[Tree], Iterable[Hit]]
    when: When = "both"

    @property
    def cleaned(self) -> bool:
        """Whether the step 70-clean takes the finding away; what it leaves is a mistake to mend, not a trace."""
        return self.remedy.startswith(CLEAN)


@dataclass(frozen=True, slots=True)
class Expected:
    """A file that the host's baked part has: octal mode with a leading 0, names of owner and group, SHA-256 in hex."""

    path: str
    mode: str
    owner: str
    group: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing in an image that must not be there, or is missing.

    `check` is the id of the check, `path` where it is in the image ("-" where no file is meant), `what` says what is
    wrong, `remedy` what takes it away.
    """

    check: str
    path: str
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Report:
    """The result of all checks: ids that ran, ids that could not with the reason, and what was found."""

    ran: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_json(self) -> str:
        """The report as JSON; `from_json` reads it again."""
        value = {
            "clean": self.clean,
            "findings": [asdict(finding) for finding in self.findings],
            "ran": list(self.ran),
            "skipped": [{"check": check, "why": why} for check, why in self.skipped],
        }
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> Report:
    """The report that `as_json` wrote. Raises ValueError when the text is none."""
    try:
        value = json.loads(text)
        return Report(
            tuple(value["ran"]),
            tuple((skip["check"], skip["why"]) for skip in value["skipped"]),
            tuple(Finding(**finding) for finding in value["findings"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the report of an image check: {error}") from error
