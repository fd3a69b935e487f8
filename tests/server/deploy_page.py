"""The table in docs/own-apps.md of what a deploy key may not do: what was tried, what came back, what the log has."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGE = Path(__file__).resolve().parents[2] / "docs/own-apps.md"
HEAD = "| tried | what came back | in the server's journal |\n|---|---|---|\n"


class Row(NamedTuple):
    """One attempt."""

    tried: str
    answer: str
    log: tuple[str, ...]


# What every login leaves there, whatever becomes of it.
_ALWAYS = re.compile(
    r"Connection from |Postponed |Accepted |pam_unix|User child |Received disconnect|Disconnected from |Close session"
    r"|Starting session|Closing connection|Transferred: |somebody|Connection closed by .* port|Connection reset"
    r"|Changed root |error: kex"
)


def shown(text: str) -> str:
    """What differs from run to run replaced, and what a table cannot have."""
    text = re.sub(r"SHA256:[A-Za-z0-9+/]{43}", "SHA256:…", text)
    text = re.sub(r"\b10\.213\.\d+\.\d+|fd[0-9a-f:]{6,}", "ADDRESS", text)
    text = re.sub(r"port \d{4,5}", "port N", text)
    text = "".join(char if char.isprintable() else "?" for char in text).replace("|", "\\|")
    return text if len(text) <= 160 else f"{text[:150]}…"


def lines(log: Sequence[str]) -> tuple[str, ...]:
    """The lines that say something of this attempt."""
    return tuple(dict.fromkeys(shown(line) for line in log if line and not _ALWAYS.match(line)))


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    made = (f"| {row.tried} | {shown(row.answer)} | {'<br>'.join(f'`{one}`' for one in row.log)} |\n" for row in rows)
    return HEAD + "".join(made)


def write(rows: Sequence[Row], attempts: Sequence[str]) -> None:
    """Put the table in place of the one that is there, when asked to; else all attempts have to be what is there.

    In a run that tries some of them the rows are of those.
    """
    page = PAGE.read_text()
    start = page.index(HEAD)
    end = page.index("\n\n", start) + 1
    if os.environ.get("UPDATE") and len(rows) == len(attempts):
        PAGE.write_text(page[:start] + table(rows) + page[end:])
        return
    tried = [line.split(" | ")[0].removeprefix("| ") for line in page[start + len(HEAD) : end].splitlines()]
    assert tried == [*attempts], "ER_SWEEPS=1 UPDATE=1 pytest tests/server/test_deploy.py writes the table anew"
