"""Each key of the Compose specification in each of its forms: the table of docs/compose.md, and that forms agree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.compose import keys
from tests import compose_forms

PAGE = Path(__file__).parent.parent.parent / "docs/compose.md"


@pytest.mark.parametrize("top", [False, True])
def test_forms_of_one_meaning_become_the_same(top: bool) -> None:
    for row, said, found in compose_forms.rows(compose_forms.TOP if top else compose_forms.SERVICE, top=top):
        assert all(contents == found[0] for contents in found), row
        assert "/ " not in said, row
        assert "no key" not in said, row


def test_every_key_is_in_the_table() -> None:
    shown = {row[0].partition(":")[0] for row in compose_forms.SERVICE}
    assert shown == set(keys.SERVICE)
    shown = {row[0].partition(":")[0] for row in compose_forms.TOP}
    assert shown == {*keys.TOP_LEVEL, "x-own"} - {"services"}


def test_the_page_shows_the_table() -> None:
    text = compose_forms.page(PAGE.read_text())
    if os.environ.get("UPDATE"):
        PAGE.write_text(text)
    assert PAGE.read_text() == text
