"""docs/audits.md: what the audits said of a stock host and of ours, and the answer to each thing that is left."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audits.md"
_TITLES = {"lynis": "Lynis", "ssg": "SCAP Security Guide", "tls": "testssl.sh"}
_HEAD = """# Audits by strangers' tools

Written by `UPDATE=1 pytest tests/audit`: a stock Debian 13 and a host of ours, booted side by side, in the same run.
They are booted in the lab, as containers that share a kernel: the kernel's settings (`kernel.*`, `fs.*`, `vm.*`,
`dev.*`) cannot be set there and are left out of Lynis's index on both.

| audit | stock | ours |
|---|---|---|
"""


@dataclass
class Findings:
    """Scores by audit, and what each found on our host."""

    answers: dict[str, dict[str, dict[str, Any]]]
    scores: dict[str, tuple[str, str]] = field(default_factory=dict)
    left: dict[str, set[str]] = field(default_factory=dict)
    exposure: dict[str, tuple[float, str]] = field(default_factory=dict)

    def check(self, audit: str, found: set[str]) -> None:
        """Everything found is answered, and nothing is answered that was not found."""
        self.left[audit] = found
        answers = self.answers[audit]
        assert sorted(found - answers.keys()) == [], f"found and not answered: {sorted(found - answers.keys())}"
        needless = {name for name in answers.keys() - found if not answers[name].get("lab")}
        assert sorted(needless) == [], f"answered and not found: {sorted(needless)}"

    def write(self) -> None:
        """Write the page, when it was asked for, every audit ran, and every finding has its answer."""
        answered = all(self.left.get(audit, {""}) <= answers.keys() for audit, answers in self.answers.items())
        if os.environ.get("UPDATE") and answered:
            PAGE.write_text(self.page())

    def page(self) -> str:
        """The page as text."""
        rows = "".join(f"| {audit} | {stock} | {ours} |\n" for audit, (stock, ours) in self.scores.items())
        parts = [_HEAD + rows, _exposure(self.exposure)]
        for audit, answers in self.answers.items():
            found = sorted(self.left.get(audit, ()))
            parts.append(f"## Left by {_TITLES[audit]}, and why\n\n| finding | answer |\n|---|---|\n")
            parts[-1] += "".join(f"| {name} | {_answer(answers[name])} |\n" for name in found)
        return "\n".join(parts)


def _answer(answer: dict[str, Any]) -> str:
    return f"{answer['why']}{' *(in the lab only)*' if answer.get('lab') else ''}"


def _exposure(found: dict[str, tuple[float, str]]) -> str:
    rows = "".join(f"| {unit} | {score} | {why} |\n" for unit, (score, why) in sorted(found.items()))
    return (
        f"## Exposure of our own units, by `systemd-analyze security`\n\n| unit | exposure | |\n|---|---|---|\n{rows}"
    )
