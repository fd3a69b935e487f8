"""A check, what it finds, and the report of all checks as JSON and as text."""

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
# Findings of one check that the text shows; the rest is counted.
_SHOWN: Final = 12


class Hit(NamedTuple):
    """What a check finds: the path in the image ("-" where no file is meant) and what is wrong."""

    path: str
    what: str


class NotKnowableError(Exception):
    """A check cannot be answered here; the text says why. It is reported as skipped."""


@dataclass(frozen=True, slots=True)
class Check:
    """A row of the table.

    `source` says who else asks for it: DO is DigitalOcean's image check by the name of its function, goss the list of
    Kubernetes' image-builder, CIS the chapter of the CIS benchmark for Debian. `find` yields every hit in a tree.
    """

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

    def as_text(self, *, everything: bool = False) -> str:
        """The findings of each check with its remedy, what could not be checked, and a line that sums up.

        Plain text, as it is also read in Packer's log. Unless `everything`, a dozen findings of each check are shown.
        """
        lines = [*self._found(everything=everything), *(f"not checked: {check} ({why})" for check, why in self.skipped)]
        count = len(self.findings)
        verdict = f"{count} finding{'s' * (count != 1)}" if count else "clean" if self.ran else "nothing looked at"
        return "\n".join([*lines, f"{verdict}; {len(self.ran)} checks ran, {len(self.skipped)} could not"]) + "\n"

    def _found(self, *, everything: bool) -> Iterator[str]:
        for name in dict.fromkeys(finding.check for finding in self.findings):
            group = [finding for finding in self.findings if finding.check == name]
            shown = group if everything else group[:_SHOWN]
            yield from (f"{name}  {_printable(finding.path)}: {_printable(finding.what)}" for finding in shown)
            if len(group) > len(shown):
                yield f"{name}  … and {len(group) - len(shown)} more"
            yield f"{name}  remedy: {group[0].remedy}"


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


def _printable(text: str) -> str:
    """Names in an image are anybody's: no control character of theirs reaches a terminal."""
    return "".join("?" if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else letter for letter in text)
