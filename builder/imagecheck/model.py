"""What a check is and what it finds, as values. Standard library only: this package also runs inside the image."""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from builder.imagecheck.image_tree import Tree


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


# So many findings of one check are shown; the rest is counted.
_SHOWN: Final = 12


def render(report: Report, *, everything: bool = False) -> str:
    """Findings by check, each with its remedy; then what could not be checked; then one line that sums up."""
    lines = [*_found(report, everything), *(f"not checked: {check} ({why})" for check, why in report.skipped)]
    count = len(report.findings)
    verdict = f"{count} finding{'s' * (count != 1)}" if count else "clean" if report.ran else "nothing looked at"
    return "\n".join([*lines, f"{verdict}; {len(report.ran)} checks ran, {len(report.skipped)} could not"]) + "\n"


def _found(report: Report, everything: bool) -> Iterator[str]:
    for name in dict.fromkeys(finding.check for finding in report.findings):
        group = [finding for finding in report.findings if finding.check == name]
        shown = group if everything else group[:_SHOWN]
        yield from (_finding_line(finding) for finding in shown)
        if len(group) > len(shown):
            yield f"{name}  … and {len(group) - len(shown)} more"
        yield f"{name}  remedy: {group[0].remedy}"


def _finding_line(finding: Finding) -> str:
    return f"{finding.check}  {_safe(finding.path)}: {_safe(finding.what)}"


def _safe(text: str) -> str:
    """Names in an image are anybody's: no control character of theirs reaches a terminal."""
    return "".join("?" if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else letter for letter in text)
