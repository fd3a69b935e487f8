"""docs/audits.md: what the audits said of a plain host and of ours, and the answer to each thing that is left."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.host import hardening

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = Path(__file__).resolve().parents[2] / "docs" / "audits.md"
_TITLES = {"lynis": "Lynis", "ssg": "SCAP Security Guide", "tls": "testssl.sh"}
_ONLY = {None: "", "lab": " *(in the lab only)*", "vm": " *(on a kernel of its own only)*"}
_HEAD = """# Audits by strangers' tools

Written by `make audits`: a plain Debian 13, a host of ours made from the stock image, and one made from
the baked image, booted side by side, in the same run. They are booted in the lab, as containers that share the kernel
of the machine it runs on: the kernel's own settings (`kernel.*`, `fs.*`, `dev.*`) cannot be set there and count against
all three, as do AppArmor and auditd, which need a kernel of their own. `make attacks` runs Lynis in a virtual machine:
the same goal, the same answers.

For Debian 13 there is content since August 2026, of the CIS Debian Linux 13 Benchmark 1.0.0, in the repository of the
SCAP Security Guide; no release and no package has it yet, so the run below takes Debian 12's, told to apply. The ids
of `er explain` are the benchmark's for 13. `make cis CONTENT=…` scores the three hosts by it, level 1 for servers, in
containers, with the rules that need a kernel or a machine counted too: 66.8 of 100 for a plain Debian, 85.2 for ours,
from stock and baked. As the content itself decides in a container, without those, it is 79.3 and 95.0.

| audit | plain Debian 13 | ours, from stock | ours, baked |
|---|---|---|---|
"""


@dataclass
class Findings:
    """Scores by audit and host; what each audit found, by delivery; exposure by unit."""

    answers: dict[str, dict[str, dict[str, Any]]]
    scores: dict[str, Mapping[str, object]] = field(default_factory=dict)
    left: dict[str, Mapping[str, set[str]]] = field(default_factory=dict)
    exposure: dict[str, tuple[float, str]] = field(default_factory=dict)

    def check(self, audit: str, found: Mapping[str, set[str]]) -> None:
        """Everything found on either of our hosts is answered, and nothing is answered that was found on none."""
        self.left[audit] = found
        every, answers = set().union(*found.values()), self.answers[audit]
        assert sorted(every - answers.keys()) == [], f"found and not answered: {sorted(every - answers.keys())}"
        needless = {name for name in answers.keys() - every if "only" not in answers[name]}
        assert sorted(needless) == [], f"answered and not found: {sorted(needless)}"

    def exposed(self, unit: str, score: float, why: str) -> None:
        """The worse of both deliveries stands."""
        self.exposure[unit] = (max(score, self.exposure.get(unit, (0.0, ""))[0]), why)

    def write(self) -> None:
        """Write the page, when it was asked for, every audit ran, and every finding has its answer."""
        ran = self.left.keys() == self.answers.keys() and all(len(found) == 2 for found in self.left.values())
        if (
            os.environ.get("UPDATE")
            and ran
            and all(self._every(audit) <= self.answers[audit].keys() for audit in self.left)
        ):
            PAGE.write_text(self.page())

    def _every(self, audit: str) -> set[str]:
        return set().union(*self.left[audit].values())

    def page(self) -> str:
        """The page as text."""
        rows = "".join(
            f"| {audit} | {found['plain']} | {found['stock']} | {found['baked']} |\n"
            for audit, found in self.scores.items()
        )
        parts = [_HEAD + rows, _exposure(self.exposure)]
        parts.append(_left_out())
        for audit, answers in self.answers.items():
            parts.append(f"## Left by {_TITLES[audit]}, and why\n\n| finding | answer |\n|---|---|\n")
            parts[-1] += "".join(
                f"| {name}{self._where(audit, name)} | {_answer(answers[name])} |\n"
                for name in sorted(self._every(audit) | {name for name in answers if answers[name].get("only") == "vm"})
            )
        return "\n".join(parts)

    def _where(self, audit: str, name: str) -> str:
        found = [delivery for delivery, names in self.left[audit].items() if name in names]
        return "" if len(found) in (0, len(self.left[audit])) else f" ({', '.join(found)} only)"


def _left_out() -> str:
    """What the benchmark asks for and no host has: the rows of `er explain`."""
    rows = "".join(f"| {_ids(row)} | {row.line} | {row.why} |\n" for row in hardening.left_out())
    return f"## Left of CIS Debian Linux 13 1.0.0, and why\n\n| asked for by | what | answer |\n|---|---|---|\n{rows}"


def _ids(row: hardening.Setting) -> str:
    return ", ".join(answer.removeprefix("CIS ") for answer in row.answers)


def _answer(answer: dict[str, Any]) -> str:
    return f"{answer['why']}{_ONLY[answer.get('only')]}"


def _exposure(found: dict[str, tuple[float, str]]) -> str:
    rows = "".join(f"| {unit} | {score} | {why} |\n" for unit, (score, why) in sorted(found.items()))
    return (
        f"## Exposure of our own units, by `systemd-analyze security`\n\n| unit | exposure | |\n|---|---|---|\n{rows}"
    )
