"""docs/apply.md and docs/apply.json: what changes of a running server did to its visitors, and where cut ones ended."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

DOCS = Path(__file__).resolve().parents[2] / "docs"
_HEAD = """# `er server apply` under load, and cut off

Written by `UPDATE=1 pytest tests/server/test_apply_table.py`, on a host in the lab; the numbers are in
[apply.json](apply.json).

## Requests during a change

A change is made while clients ask ten times a second, each time over a new TLS connection: one asks the stack that
changes (`hello`), two ask others (one over IPv4, one over IPv6). Latencies are of this machine, which runs host and
clients on two cores; what counts is that none failed, and how long the longest waited. Each change follows upon the one
before it. `hello` is one service without a volume, which changes [without a gap](own-apps.md#without-a-gap). While
Caddy takes over a configuration, new connections are held back, so that none is cut between handshake and request: who
asks then waits for the second after which TCP asks again.

| change | ended | seconds | others: sent | failed | median | longest | its own: sent | failed | longest |
|---|---|---|---|---|---|---|---|---|---|
"""
_RELEASES = """
## Requests during a release

The same clients while a stack gets another image: one asks the stack, one another. Of a push the build is a part.
Written by `UPDATE=1 pytest tests/server/test_git_push.py`.

| change | ended | seconds | others: sent | failed | median | longest | its own: sent | failed | longest |
|---|---|---|---|---|---|---|---|---|---|
"""
_CUTS = """
## The connection cut off

The client and its ssh are killed while a change of {changed} files is under way (domains, environment, egress), at
points spread over its whole length and at the beginning of each phase. Nobody confirms. Each of {files} files is
compared with the tree of before and with the new one; firewall, containers and sites must be those of the same tree.

| cut | phase then | ended | files of the tree of before | of the new tree | of neither |
|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Asked:
    """Requests of one or more clients; times in milliseconds."""

    sent: int
    failed: int
    median_ms: int
    longest_ms: int

    @classmethod
    def of(cls, results: Sequence[tuple[str, float]]) -> Asked:
        """From each request's status and seconds."""
        times = [seconds * 1000 for _, seconds in results]
        failed = sum(status != "200" for status, _ in results)
        return cls(len(results), failed, round(median(times)), round(max(times)))


@dataclass(frozen=True)
class Changed:
    """A change under load."""

    change: str
    ended: str
    seconds: float
    others: Asked
    own: Asked

    def row(self) -> str:
        others, own = self.others, self.own
        first = f"| {self.change} | {self.ended} | {self.seconds:.1f} | {others.sent} | {others.failed} "
        last = f"| {others.median_ms} ms | {others.longest_ms} ms | {own.sent} | {own.failed} | {own.longest_ms} ms |\n"
        return first + last


@dataclass(frozen=True)
class Cut:
    """A change cut off: where, and how many files were of which tree in the end."""

    cut: str
    phase: str
    ended: str
    old: int
    new: int
    neither: int

    def row(self) -> str:
        return f"| {self.cut} | {self.phase} | {self.ended} | {self.old} | {self.new} | {self.neither} |\n"


@dataclass
class Page:
    """Everything seen in one run; `changes` and `points` rows make its two tables whole."""

    changes: int
    points: int
    changed: list[Changed] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    files: int = 0
    differing: int = 0

    def write(self) -> None:
        """Write both files, when it was asked for: of each table the new rows if all are there, else the old ones."""
        if not os.environ.get("UPDATE"):
            return
        if len(self.changed) != self.changes:
            self.changed = [Changed(**{**one, **_asked(one)}) for one in _before()["changed"]]
        if len(self.cuts) != self.points:
            old = _before()
            self.cuts = [Cut(**one) for one in old["cuts"]]
            self.files, self.differing = old["files"], old["differing"]
        head = _HEAD + "".join(one.row() for one in self.changed)
        cuts = _CUTS.format(files=self.files, changed=self.differing) + "".join(one.row() for one in self.cuts)
        (DOCS / "apply.md").write_text(head + _releases() + cuts)
        (DOCS / "apply.json").write_text(json.dumps(asdict(self), indent=2) + "\n")


def _before() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DOCS / "apply.json").read_bytes())
    return found


def _asked(one: dict[str, Any]) -> dict[str, Asked]:
    return {key: Asked(**one[key]) for key in ("others", "own")}


def _releases() -> str:
    """The section on releases, as it is."""
    _, head, rest = (DOCS / "apply.md").read_text().partition(_RELEASES)
    return head + rest.partition(_CUTS[:10])[0]


def write_releases(rows: Sequence[Changed]) -> None:
    """Write the section on releases anew, when it was asked for."""
    if os.environ.get("UPDATE"):
        text, old = (DOCS / "apply.md").read_text(), _releases()
        before, _, cuts = text.partition(old or _CUTS[:10])
        made = _RELEASES + "".join(one.row() for one in rows)
        (DOCS / "apply.md").write_text(before + made + ("" if old else _CUTS[:10]) + cuts)
