"""What a check is and what it finds, as values. Standard library only: this package also runs inside the image."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


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
