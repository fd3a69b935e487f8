"""The page of attacks is made from its data."""

from __future__ import annotations

import json

from tests.machine import containment_page as page


def test_the_page_is_made_from_the_data() -> None:
    data = json.loads(page.DATA.read_text())
    assert page.page(data) == page.PAGE.read_text()
    assert list(data) == [name for name in page.SECTIONS if name in data]


def test_nothing_on_it_was_done() -> None:
    """But for what the capabilities of a container's root are for, in its own stack."""
    data = json.loads(page.DATA.read_text())
    may = data.pop("capabilities")
    cells = [cell for rows in data.values() for row in rows for cell in row.values()]
    assert cells
    assert "done" not in cells
    assert {row["attempt"] for row in may if "done" in row.values()} == page.MAY
