"""images/hardening.yaml: why each hardening line of a host is there, and why others that audits ask for are not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import yaml

from builder import data
from builder.problems import UserError

LEFT_OUT: Final = "left out"
"""In place of a file, for what audits ask for and no host has."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of one file, or what is left out.

    `answers` are ids of audits: `CIS 5.1.21`, `SSG sshd_disable_root_login`, `LYNIS SSH-7408`. A `line` that ends in
    ` *` differs by base: what stands before the star is the same on all.
    """

    id: str
    file: str
    line: str
    why: str
    answers: tuple[str, ...]

    def stands_for(self, line: str) -> bool:
        """Whether this row explains that line."""
        return line.startswith(self.line[:-1]) if self.line.endswith(" *") else line == self.line


def settings() -> tuple[Setting, ...]:
    """Every row that is a line of a file."""
    return tuple(row for row in rows() if row.file != LEFT_OUT)


def left_out() -> tuple[Setting, ...]:
    """What audits ask for and no host has; `why` is the reason."""
    return tuple(row for row in rows() if row.file == LEFT_OUT)


@cache
def rows() -> tuple[Setting, ...]:
    """Every row, in the order of the file."""
    text = (data.tree("images") / "hardening.yaml").read_text()
    return tuple(
        Setting(str(row[0]), file, str(row[1]), str(row[2]), tuple(map(str, row[3:])))
        for file, rows in yaml.safe_load(text).items()
        for row in rows
    )


def find(query: str) -> tuple[Setting, ...]:
    """The rows of an id, of a file, or of an audit's id; raises UserError where there is none."""
    found = tuple(
        row
        for row in rows()
        if query in (row.id, row.file, *row.answers, *(answer.partition(" ")[2] for answer in row.answers))
        or row.file.endswith(f"/{query}")
    )
    if not found:
        raise UserError(f"no setting, file or audit's id is called {query}", "er explain lists all of them")
    return found
