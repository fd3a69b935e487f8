"""A report as a table for people. Plain text: it is also read in Packer's log."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from builder.imagecheck.model import Finding, Report

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
        yield from (_line(finding) for finding in shown)
        if len(group) > len(shown):
            yield f"{name}  … and {len(group) - len(shown)} more"
        yield f"{name}  remedy: {group[0].remedy}"


def _line(finding: Finding) -> str:
    return f"{finding.check}  {_safe(finding.path)}: {_safe(finding.what)}"


def _safe(text: str) -> str:
    """Names in an image are anybody's: no control character of theirs reaches a terminal."""
    return "".join("?" if unicodedata.category(letter) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else letter for letter in text)
