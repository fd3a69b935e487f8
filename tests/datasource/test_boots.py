"""The unmodified cloud-init of Debian 13 finds each provider's own datasource, takes our bytes, and makes the host.

A run of the tests has AWS, whose way of asking is the longest (test_other_boots.py).
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.datasource import boots, checks, table
from tests.datasource.providers import ROWS
from tests.sweeps import of_a_sweep

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.machine, of_a_sweep]

# What this run has seen, by the row's name.
_SEEN: Final[dict[str, dict[str, Any]]] = {}
# What follows from the host's size, which changes with it and by a few bytes with its keys.
_BY_SIZE: Final = {"bytes": None, "encoding": None}


@pytest.mark.usefixtures("example_images")
@pytest.mark.parametrize("name", ROWS)
def test_a_stock_image_becomes_the_host(name: str, tmp_path: Path) -> None:
    """At this provider, over both address families."""
    row = ROWS[name]
    with boots.booted(row, tmp_path) as boot:
        checks.check(boot)
        _SEEN[name] = table.entry(boot)


def test_the_table_is_what_was_seen() -> None:
    """docs/providers-booted.json says what this run has seen; tests/unit/test_providers.py looks after the encoding."""
    assert _SEEN, "no boot was seen in this run"
    written = json.loads(table.DATA.read_text()) if table.DATA.exists() else {}
    if os.environ.get("UPDATE"):
        written = {name: it for name in ROWS if (it := _SEEN.get(name) or written.get(name))}
        table.DATA.write_text(table.data(written))
        table.PAGE.write_text(table.page(written))
    assert list(written) == list(ROWS)
    for name, seen in _SEEN.items():
        assert {**seen, **_BY_SIZE} == {**written[name], **_BY_SIZE}
