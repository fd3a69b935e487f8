"""docs/replace.md: what a replacement costs a visitor."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"
_HEAD = """# `er launch --replace` with a visitor

Written by `UPDATE=1 pytest tests/aws/test_replace_booted.py`, with `ER_SWEEPS=1` for every point: an EC2 endpoint on
this machine, whose instances are hosts that are really booted, on the disk of a baked image and with the user-data that
the endpoint was given. The data volume is a block device that one host loses and the next one gets when the endpoint is
asked to; the Elastic IP is a route to the host that it is associated with.
[aws.md](aws.md#a-new-server-for-the-same-data)
says what the command does.

A visitor asks ten times a second, each time over a new TLS connection, and waits three seconds for an answer. Meanwhile
an app writes a row ten times a second. After each line no row is missing, and the certificate and its authority are
those of before, byte by byte: none was made anew. `gap` is the longest time between two good answers, `told` what the
command says of it. Times are of this machine, which runs all hosts and other tests on two cores: EC2 takes longer to
stop an instance and to attach a volume, and a host of its own is faster.

Where a call fails, or the command is ended by kill -9 after it, the same command is given again until the new server
serves.

| what happens | ended | seconds | gap | told | requests | lost | rows, none missing |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Row:
    """One line; times in seconds."""

    name: str
    ended: str
    seconds: float
    told: float | None
    gap: float
    sent: int
    lost: int
    rows: int

    @property
    def line(self) -> str:
        told = "—" if self.told is None else f"{self.told:.1f}"
        cells = (self.name, self.ended, f"{self.seconds:.0f}", f"{self.gap:.1f}", told, self.sent, self.lost, self.rows)
        return f"| {' | '.join(map(str, cells))} |\n"


@dataclass
class Page:
    """`whole` is how many lines the page has: a run that made less does not write it."""

    whole: int
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def write(self) -> None:
        if os.environ.get("UPDATE") and len(self.rows) == self.whole:
            (DOCS / "replace.md").write_text(_HEAD + "".join(row.line for row in self.rows))
